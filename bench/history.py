"""`make bench-history`: a store with a million runs behind it, and what that costs.

The rows are inserted straight into the tables, in the shape that the code leaves; a million runs through the gate
would take minutes and give the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import uvloop

import pullcord
from bench import machine
from bench.embedded import callers
from bench.server import proportional, serving
from pullcord.core.figures import windows_of
from pullcord.core.manifest import SHARED_SYNC, lane
from pullcord.store import sqlite
from pullcord.store.migrate import migrate
from pullcord.store.queries.figures import flow_figures
from pullcord.store.queries.flows import counts, last_runs
from pullcord.store.queries.page import Page
from pullcord.store.queries.requests import RequestFilter, get_request, list_requests
from pullcord.store.queries.runs import RunFilter, list_runs, load_runs

BEGAN = 1_767_225_600_000_000
"""2026-01-01; a request every 700 ms from then on."""

PACE = 700_000
FLOWS = [f"flow-{number:02d}" for number in range(20)]
WEIGHTS = [2.0**-number + 0.0005 for number in range(20)]
"""Half of all runs are of the first flow, some 500 of the last."""

INVOKERS = [("owner", 0.9), ("ada", 0.0995), ("eve", 0.0005)]
TRIGGERS = [("manual", 0.7), ("flow", 0.2995), ("event", 0.0005)]
STATES = [("succeeded", 0.94), ("failed", 0.045), ("cancelled", 0.0149), ("scheduled", 0.0001)]
OUTCOMES = [("admitted", 0.8), ("replayed", 0.1), ("rejected", 0.1)]
ERROR = json.dumps({"type": "ValueError", "message": "no rows", "traceback": 'File "flows.py", line 7\n' * 6})
TRIES = 5


def main() -> None:
    """Build the store, measure, and print Markdown tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--throughput-runs", type=int, default=10_000, help="runs in each throughput measurement")
    parser.add_argument("--folder", type=Path, help="keep the store here, and use it again when it is there")
    options = parser.parse_args()
    print(machine.describe(), flush=True)
    with tempfile.TemporaryDirectory(prefix="pullcord-history-") as name:
        folder = options.folder or Path(name)
        flows = write_flows(folder)
        data = folder / "data"
        if not (data / "pullcord.db").exists():
            build(data, flows, options.runs)
        size = (data / "pullcord.db").stat().st_size
        print(f"{options.runs:,} runs: {size / 1e6:,.0f} MB, {size / options.runs:,.0f} bytes a run\n", flush=True)
        store(data)
        served(data, flows)
        throughput(data, flows, options.throughput_runs)
        deletes(data, options.runs)


def write_flows(folder: Path) -> Path:
    """Write the code that is served: twenty flows with one step, of which one has a tag of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "flows.py"
    parts = ["import pullcord as pc\n\n\n@pc.step\ndef step(n: int) -> int:\n    return n + 1\n"]
    for index, name in enumerate(FLOWS):
        tags = ["daily"] if index % 2 else ["hourly"]
        tags += ["rare"] if index == len(FLOWS) - 1 else []
        code = f"\n\n@pc.flow(concurrency=None, tags={tags})\ndef {name.replace('-', '_')}(n: int) -> int:\n"
        parts.append(code + "    return step(n)\n")
    path.write_text("".join(parts), encoding="utf-8")
    return path


# --- building ------------------------------------------------------------------------------------


def build(data: Path, flows: Path, runs: int) -> None:
    """Make the store."""
    data.mkdir(parents=True)
    began = time.perf_counter()
    with closing(sqlite.writer(data / "pullcord.db")) as connection:
        migrate(connection)
        connection.execute("PRAGMA synchronous = OFF")
        rows = history(runs, flows.stem)
        while batch := list(itertools.islice(rows, 20_000)):
            connection.execute("BEGIN")
            for table in ("requests", "runs", "steps", "keys", "audit"):
                insert(connection, table, [row for name, row in itertools.chain.from_iterable(batch) if name == table])
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    print(f"built in {time.perf_counter() - began:.0f} s", flush=True)


def insert(connection: sqlite3.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        names = ", ".join(rows[0])
        values = ", ".join(f":{name}" for name in rows[0])
        connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({values})", rows)


def history(runs: int, location: str) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Yield the rows of one request after the other, until there are so many runs."""
    chance = random.Random(7)
    pick = lambda table: chance.choices([name for name, _ in table], [weight for _, weight in table])[0]  # noqa: E731
    made = number = 0
    last = 0
    while made < runs:
        number += 1
        at = BEGAN + number * PACE
        outcome = pick(OUTCOMES) if last else "admitted"
        flow, who, trigger = chance.choices(FLOWS, WEIGHTS)[0], pick(INVOKERS), pick(TRIGGERS)
        uuid = uuid7(at, chance)
        key = f"key-{number}" if number % 5 == 0 else None
        request = {
            "id": number, "uuid": uuid, "flow": flow, "inputs": f'{{"n":{number}}}', "outcome": outcome,
            "code": "invalid_inputs" if outcome == "rejected" else None,
            "reason": "the inputs are not valid: n: missing" if outcome == "rejected" else None,
            "errors": '[{"loc":["inputs","n"],"msg":"missing","type":"missing"}]' if outcome == "rejected" else None,
            "original_id": last if outcome == "replayed" else None, "trigger_kind": trigger, "trigger_name": None,
            "invoker": who, "invoker_kind": "local", "source": "http", "idempotency_key": key,
            "repeat_key": f"replay:{number}" if outcome == "replayed" else None, "dry_run": 0, "at": at,
            "last_at": at + 5 if outcome == "replayed" else None, "count": 3 if outcome == "replayed" else 1,
        }  # fmt: skip
        rows: list[tuple[str, dict[str, Any]]] = [("requests", request)]
        if outcome == "admitted":
            rows += run_of(request, pick(STATES), location, last, chance)
            made += 1
            last = number
        yield rows


def run_of(
    request: dict[str, Any], state: str, location: str, last: int, chance: random.Random
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a run: itself, its steps, its key, its audit entry."""
    number, at = request["id"], request["at"]
    scheduled = state == "scheduled"
    yield "runs", {
        "id": number, "uuid": uuid7(at + 1000, chance), "flow": request["flow"], "flow_version": "3f786850e387550f",
        "state": state, "inputs": request["inputs"], "trigger_kind": request["trigger_kind"],
        "invoker": request["invoker"], "lane": lane(location, SHARED_SYNC), "slot": None, "priority": 0,
        "token": 0 if scheduled else 1, "owner": None, "attempt": 1, "takeovers": 0, "losses": 0, "test": 0,
        "parent_id": last if request["trigger_kind"] == "flow" else None,
        "not_before": 4_000_000_000_000_000 if scheduled else None, "queued_at": None if scheduled else at,
        "started_at": None if scheduled else at + 900, "ended_at": None if scheduled else at + 40_000,
        "result": str(number + 1) if state == "succeeded" else None, "error": ERROR if state == "failed" else None,
    }  # fmt: skip
    for seq in range(1, 1 if scheduled else number % 3):
        yield "steps", {
            "run_id": number, "identity": f"{number * 4 + seq:024x}", "seq": seq, "name": "step", "attempt": 1,
            "state": "succeeded", "started_at": at + 1000 * seq, "ended_at": at + 1000 * seq + 500,
            "result": str(number + 1), "error": None,
        }  # fmt: skip
    if request["idempotency_key"] is not None:
        yield "keys", {
            "scope": request["flow"], "invoker": request["invoker"], "key": request["idempotency_key"],
            "request_id": number, "sent": f"{number:064x}", "validated": f"{number:064x}", "at": at,
        }  # fmt: skip
    yield "audit", {
        "id": number, "at": at, "invoker": request["invoker"], "action": "run.admit", "subject_id": number,
        "detail": None,
    }  # fmt: skip


def uuid7(at: int, chance: random.Random) -> str:
    """Return an id of that time, microseconds."""
    value = (at // 1000) << 80 | 7 << 76 | chance.getrandbits(12) << 64 | 2 << 62 | chance.getrandbits(62)
    return str(UUID(int=value))


# --- measuring -----------------------------------------------------------------------------------


def store(data: Path) -> None:
    """Print how long the queries of lists and items take, for every combination of up to three filters."""
    with closing(sqlite.reader(data / "pullcord.db")) as connection:
        newest = connection.execute("SELECT max(id) FROM requests").fetchone()[0]
        uuids = [row[0] for row in connection.execute("SELECT uuid FROM runs WHERE id % 9973 = 0")]
        print("| query | combinations | p50 ms | p99 ms | slowest ms | which |")
        print("| --- | --- | --- | --- | --- | --- |")
        measured("runs", connection, list(run_lists(connection, newest)))
        measured("requests", connection, list(request_lists(connection, newest)))
        measured(
            "run item", connection, [(uuid, lambda uuid=uuid: load_runs(connection, [uuid])) for uuid in uuids[:80]]
        )
        requests = [row[0] for row in connection.execute("SELECT uuid FROM requests WHERE id % 9973 = 0")][:80]
        measured(
            "request item",
            connection,
            [(uuid, lambda uuid=uuid: get_request(connection, uuid, "owner")) for uuid in requests],
        )
        measured("flows: last runs", connection, [("all", lambda: last_runs(connection, FLOWS))])
        for window in ("24h,7d,30d", "7d"):
            facts = (windows_of(window), BEGAN + newest * PACE)
            calls = [(name, partial(flow_figures, connection, name, *facts)) for name in FLOWS]
            measured(f"figures of a flow, {window}", connection, calls)
        measured("metrics: counts", connection, [("all", lambda: counts(connection))])
    print(flush=True)


def windows(newest: int) -> list[tuple[str, dict[str, Any]]]:
    middle = BEGAN + newest * PACE // 2
    return [
        ("first hour", {"until": BEGAN + 3_600_000_000}),
        ("last half", {"since": middle}),
        ("an hour in the middle", {"since": middle, "until": middle + 3_600_000_000}),
    ]


def combined(
    facts: dict[str, list[tuple[str, dict[str, Any]]]], newest: int
) -> Iterator[tuple[str, dict[str, Any], Page]]:
    """Yield every combination of up to three filters, from the newest and from the middle."""
    for count in range(4):
        for names in itertools.combinations(facts, count):
            for chosen in itertools.product(*(facts[name] for name in names)):
                values: dict[str, Any] = {}
                for _, value in chosen:
                    values |= value
                label = ", ".join(text for text, _ in chosen) or "all"
                yield label, values, Page(50)
                yield f"{label}, deep", values, Page(50, str(newest // 2))


def run_lists(connection: sqlite.SQLiteConnection, newest: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    facts = {
        "flow": [(name, {"flow": name}) for name in (FLOWS[0], FLOWS[8], FLOWS[19], "never")],
        "state": [(name, {"state": name}) for name in ("succeeded", "failed", "scheduled", "running")],
        "trigger": [(name, {"trigger": name}) for name in ("manual", "event", "cron")],
        "invoker": [(name, {"invoker": name}) for name in ("owner", "eve", "nobody")],
        "window": windows(newest),
        "tag": [
            ("tag daily", {"flows": tuple(FLOWS[1::2])}), ("tag rare", {"flows": (FLOWS[19],)}),
            ("tag of none", {"flows": ()}),
        ],
    }  # fmt: skip
    for label, values, page in combined(facts, newest):
        if "flow" not in values or "flows" not in values:
            yield label, lambda values=values, page=page: list_runs(connection, RunFilter(**values), page)  # type: ignore[misc]


def request_lists(connection: sqlite.SQLiteConnection, newest: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    facts = {
        "flow": [(name, {"flow": name}) for name in (FLOWS[0], FLOWS[8], FLOWS[19], "never")],
        "outcome": [(name, {"outcome": name}) for name in ("admitted", "rejected", "missed")],
        "trigger": [(name, {"trigger": name}) for name in ("manual", "event", "cron")],
        "invoker": [(name, {"invoker": name}) for name in ("owner", "eve", "nobody")],
        "window": windows(newest),
    }
    for label, values, page in combined(facts, newest):
        yield label, lambda values=values, page=page: list_requests(connection, RequestFilter(**values), page)  # type: ignore[misc]


def measured(name: str, connection: sqlite3.Connection, queries: list[tuple[str, Callable[[], Any]]]) -> None:
    """Print one line for queries of a kind: each counts with the median of a few tries."""
    figures: list[tuple[float, str]] = []
    for label, query in queries:
        tries = []
        for _ in range(TRIES):
            began = time.perf_counter()
            query()
            tries.append((time.perf_counter() - began) * 1000)
            if tries[0] > 200:
                break
        figures.append((statistics.median(tries), label))
    figures.sort()
    times = [figure for figure, _ in figures]
    slowest, label = figures[-1]
    p99 = times[int(len(times) * 0.99)] if len(times) > 1 else times[0]
    print(
        f"| {name} | {len(times)} | {statistics.median(times):.2f} | {p99:.2f} | {slowest:.2f} | {label} |", flush=True
    )
    for figure, label in figures[:-8:-1]:
        if figure > 10:
            print(f"    {figure:8.1f} ms  {label}", file=sys.stderr, flush=True)


def served(data: Path, flows: Path) -> None:
    """Print the time to ready, memory, HTTP and command line times of a real server."""
    ready: dict[str, list[float]] = {"empty": [], "full": []}
    for _ in range(5):
        for kind, folder in (("empty", None), ("full", data)):
            with serving(folder, flows) as started:
                ready[kind].append(started.ready)
    for kind, values in ready.items():
        print(f"serve ready, {kind} store: median {statistics.median(values):.2f} s, best {min(values):.2f} s")
    with serving(data, flows) as server:
        time.sleep(3.0)
        memory = sum(proportional(p.pid) for p in [server.process, *server.process.children(recursive=True)])
        print(f"idle memory, server and workers: {memory / 1000:.0f} MB\n")
        token = (data / "token").read_text(encoding="ascii").strip()
        connection = HTTPConnection(urlsplit(server.url).netloc)
        print("| over HTTP | p50 ms | p99 ms |\n| --- | --- | --- |")
        for path in (
            "/v1/runs", "/v1/runs?limit=1000", "/v1/runs?flow=flow-19", "/v1/runs?state=failed",
            "/v1/runs?flow=flow-08&state=failed", "/v1/runs?tag=rare", "/v1/runs?invoker=eve&state=failed",
            "/v1/runs?cursor=600000", "/v1/runs?since=2026-01-05T00:00:00Z&until=2026-01-05T01:00:00Z",
            "/v1/requests", "/v1/requests?outcome=rejected&flow=flow-19", "/v1/flows", "/metrics",
        ):  # fmt: skip
            times = sorted(ask(connection, token, path) for _ in range(200 if "1000" not in path else 40))
            print(f"| `{path}` | {times[len(times) // 2]:.1f} | {times[int(len(times) * 0.99)]:.1f} |", flush=True)
        connection.close()
        print("\n| command | s |\n| --- | --- |")
        for command in (
            ["runs", "list"],
            ["runs", "list", "--state", "failed", "--flow", "flow-08"],
            ["why", "flow-19"],
            ["flows", "list"],
        ):
            began = time.perf_counter()
            line = [sys.executable, "-m", "pullcord", *command, "--data-dir", str(data)]
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
            print(f"| `pullcord {' '.join(command)}` | {time.perf_counter() - began:.2f} |", flush=True)
        memory = sum(proportional(p.pid) for p in [server.process, *server.process.children(recursive=True)])
        print(f"\nmemory after that: {memory / 1000:.0f} MB\n")


def ask(connection: HTTPConnection, token: str, path: str) -> float:
    began = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {body.decode()}")
    return (time.perf_counter() - began) * 1000


def throughput(data: Path, flows: Path, runs: int) -> None:
    """Print runs a second of an empty store and of this one, in turns, so that both meet the same machine."""
    figures: dict[str, list[float]] = {"empty": [], "full": []}
    for _ in range(4):
        for kind in figures:
            with tempfile.TemporaryDirectory(prefix="pullcord-empty-") as empty:
                folder = data if kind == "full" else Path(empty)
                figures[kind].append(runs / uvloop.run(embedded(folder, flows, runs)))
    best = {kind: max(values) for kind, values in figures.items()}
    for kind, values in figures.items():
        print(f"throughput, {kind} store: {', '.join(f'{value:,.0f}' for value in values)} runs/s")
    print(f"full over empty, best of four each: {best['full'] / best['empty']:.2f}\n", flush=True)


async def embedded(folder: Path, flows: Path, runs: int) -> float:
    async with pullcord.App([flows], folder) as app:
        await app.ready()
        await callers(app, FLOWS[0], 400, False)
        return await callers(app, FLOWS[0], runs, False)


def deletes(data: Path, runs: int) -> None:
    """Print how the file grows when half of the runs are deleted, as a pruner would, and others come."""
    path = data / "pullcord.db"
    with closing(sqlite.writer(path)) as connection:
        before = path.stat().st_size
        middle = connection.execute("SELECT id FROM runs ORDER BY id LIMIT 1 OFFSET :n", {"n": runs // 2}).fetchone()[0]
        began = time.perf_counter()
        for start in range(0, middle, 5000):
            bounds = {"start": start, "end": min(start + 5000, middle)}
            connection.execute("BEGIN IMMEDIATE")
            for table, column in (
                ("steps", "run_id"),
                ("keys", "request_id"),
                ("audit", "subject_id"),
                ("runs", "id"),
                ("requests", "id"),
            ):
                if table == "audit":
                    connection.execute("DELETE FROM audit WHERE id >= :start AND id < :end", bounds)
                else:
                    connection.execute(f"DELETE FROM {table} WHERE {column} >= :start AND {column} < :end", bounds)
            connection.execute("COMMIT")
        seconds = time.perf_counter() - began
        free = connection.execute("PRAGMA freelist_count").fetchone()[0] * 4096
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        after = path.stat().st_size
        sizes = f"{before / 1e6:,.0f} MB → {after / 1e6:,.0f} MB, {free / 1e6:,.0f} MB of it free"
        print(f"deleted the older half in {seconds:.0f} s: {sizes}")
        base = connection.execute("SELECT max(id) FROM requests").fetchone()[0]
        added = 0
        later = history(runs // 3, "flows")
        while batch := list(itertools.islice(later, 20_000)):
            connection.execute("BEGIN")
            rows = [(name, shifted(name, row, base)) for name, row in itertools.chain.from_iterable(batch)]
            for table in ("requests", "runs", "steps", "audit"):
                insert(connection, table, [row for name, row in rows if name == table])
            added += sum(name == "runs" for name, _ in rows)
            connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        free = connection.execute("PRAGMA freelist_count").fetchone()[0] * 4096
        print(f"then {added:,} new runs: {path.stat().st_size / 1e6:,.0f} MB, {free / 1e6:,.0f} MB of it free")


def shifted(table: str, row: dict[str, Any], base: int) -> dict[str, Any]:
    """Return a row of a later time: its number, and everything that must not come twice."""
    column = "run_id" if table == "steps" else "id"
    changed = row | {column: row[column] + base} if column in row else dict(row)
    if row.get("repeat_key"):
        changed["repeat_key"] = f"later:{row['repeat_key']}"
    if table == "runs":
        changed["uuid"] = f"f{row['uuid'][1:]}"
    return changed


if __name__ == "__main__":
    main()
