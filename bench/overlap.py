"""`make bench-overlap`: 100,000 queued runs over 1,000 keys, one at a time each, beside as many without a limit.

The queue is written by the gate's own statements, before the server that is measured starts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import closing
from pathlib import Path

from uuid_utils import uuid7

import pullcord
from bench import machine
from bench.server import proportional, serving
from pullcord.core.concurrency import Concurrency
from pullcord.core.manifest import SHARED_ASYNC, FlowSpec, lane
from pullcord.core.states import Outcome
from pullcord.store import sqlite
from pullcord.store.commands.admit import Admit, NewRun
from pullcord.store.commands.catalog import RegisterFlows
from pullcord.store.commands.ledger import LedgerEntry
from pullcord.store.hints import Hints
from pullcord.store.migrate import migrate
from pullcord.store.transaction import Transaction, ignore

FLOWS = Path(__file__).with_name("queued") / "waiting.py"
RULES = {"by-tenant": Concurrency(1, "{tenant}"), "by-nobody": Concurrency(None)}
LANE = lane(FLOWS.stem, SHARED_ASYNC)


def main() -> None:
    """Measure in turns, and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    print(machine.describe())
    print(f"pullcord {pullcord.__version__}, {options.runs:,} queued runs, {options.keys:,} keys\n")
    print("| flow | runs/s | most memory, server and workers, MB |\n| --- | --- | --- |")
    rates: dict[str, list[float]] = {flow: [] for flow in RULES}
    for _ in range(options.rounds):
        for flow in RULES:
            rate, memory = drain(flow, options.runs, options.keys)
            rates[flow].append(rate)
            print(f"| {flow} | {rate:,.0f} | {memory:,.0f} |", flush=True)
    share = sum(rates["by-tenant"]) / sum(rates["by-nobody"])
    print(f"\nwith a limit for each key: {share:.0%} of the rate without any")


def drain(flow: str, runs: int, keys: int) -> tuple[float, float]:
    """Return how many runs a second a server gets through a queue, and the most memory it has, MB."""
    with tempfile.TemporaryDirectory(prefix="pullcord-overlap-") as name:
        data = Path(name)
        fill(data / "pullcord.db", flow, runs, keys)
        with serving(data, FLOWS) as served:
            client = pullcord.Client(served.url, (data / "token").read_text(encoding="utf-8").strip())
            processes = [served.process, *served.process.children(recursive=True)]
            began, done = time.perf_counter(), runs - _left(client, flow, runs)
            memory = 0.0
            while client.runs.list(flow=flow, state="queued", limit=1):
                memory = max(memory, sum(proportional(process.pid) for process in processes) / 1000)
                time.sleep(0.25)
            return (runs - done) / (time.perf_counter() - began), memory


def _left(client: pullcord.Client, flow: str, runs: int) -> int:
    """Return about how many runs are still queued: the oldest of them says how many have gone."""
    return runs - sum(1 for _ in client.runs.list(flow=flow, state="succeeded", limit=1000))


def fill(path: Path, flow: str, runs: int, keys: int) -> None:
    """Write the queue."""
    with closing(sqlite.writer(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        migrate(connection)
        specs = [
            FlowSpec(name, FLOWS.stem, "v", f"{FLOWS}:1", "", {}, {"concurrency": rule.as_json()}, True)
            for name, rule in RULES.items()
        ]
        hints = Hints()
        for start in range(0, runs, 1000):
            tx = Transaction(connection, 1_767_225_600_000_000 + start, 1, hints)
            connection.begin()
            if start == 0:
                RegisterFlows.apply(tx, [RegisterFlows(FLOWS.stem, specs, True, ignore)])
            Admit.apply(tx, [asked(flow, number, keys) for number in range(start, min(start + 1000, runs))])
            connection.commit()


def asked(flow: str, number: int, keys: int) -> Admit:
    """Ask for one run, as the gate does."""
    inputs = f'{{"n":{number},"tenant":{number % keys}}}'
    entry = LedgerEntry(
        uuid=str(uuid7()), flow=flow, inputs=inputs, trigger_kind="manual", trigger_name=None, invoker="owner",
        invoker_kind="local", source="http",
    )  # fmt: skip
    run = NewRun(uuid=str(uuid7()), flow_version="v", inputs=inputs, lane=LANE, slot=RULES[flow].slot(flow, inputs))
    return Admit(entry.become(Outcome.ADMITTED), run, ignore)


if __name__ == "__main__":
    main()
