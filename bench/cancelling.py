"""`python -m bench.cancelling`: from `POST /v1/runs/ID/cancel` until a client sees that the run is `cancelled`."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pullcord
from bench import machine
from bench.http import token_of
from bench.peers.shape import latency
from bench.server import serving
from pullcord.engine.engine import GRACE

SLOW = Path(__file__).with_name("slow.py")

TARGETS: dict[str, str] = {
    "async step, p50 ms": "",
    "async step, p99 ms": "<= 20",
    "async step beside 100 others, p50 ms": "",
    "async step beside 100 others, p99 ms": "",
    "scheduled run, p50 ms": "",
    "scheduled run, p99 ms": "",
    "by force, sync step, alone, p50 ms": "",
    "by force, sync step, alone, p99 ms": f"<= {(GRACE + 1) * 1000:,.0f}",
    "by force, isolated run, p50 ms": "",
    "by force, isolated run, p99 ms": f"<= {(GRACE + 1) * 1000:,.0f}",
    "by force, beside 8 that move, p50 ms": "",
    "by force, beside 8 that move, worst ms": f"<= {(GRACE + 1) * 1000:,.0f}",
    "by force, beside 8 that stay, p50 ms": "",
    "by force, beside 8 that stay, worst ms": f"<= {(GRACE + 1) * 1000:,.0f}",
}
"""What is measured, with what it should reach."""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300, help="how many async and scheduled runs are cancelled")
    parser.add_argument("--forced", type=int, default=50, help="how many runs are cancelled by force, alone")
    parser.add_argument("--busy", type=int, default=5, help="how many are beside neighbours")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    print(machine.describe(), flush=True)
    print(
        f"settings: SQLite, WAL, synchronous=FULL; 1 run worker; one call at a time over HTTP; "
        f"{options.runs} async and scheduled runs, {options.forced} by force, "
        f"{options.busy} beside neighbours; grace {GRACE:g} s\n"
    )
    figures: dict[str, float] = {}
    for name, value in measure(options.runs, options.forced, options.busy):
        figures[name] = value
        print(f"{name:<65}{value:>12,.2f}  {TARGETS[name]}", flush=True)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine.describe(), "figures": figures}, indent=2), "utf-8")


def measure(runs: int, forced: int, busy: int) -> Iterator[tuple[str, float]]:
    """Yield the figures."""
    with client() as cancels:
        yield from quantiles("async step", [cancels.one("waits") for _ in range(runs)])
        for _ in range(100):
            cancels.begin("waits")
        yield from quantiles("async step beside 100 others", [cancels.one("waits") for _ in range(runs)])
        yield from quantiles("scheduled run", [cancels.later("waits") for _ in range(runs)])
    with client() as cancels:
        yield from quantiles("by force, sync step, alone", [cancels.one("blocks", force=True) for _ in range(forced)])
        alone = [cancels.one("blocks-alone", force=True) for _ in range(forced)]
        yield from quantiles("by force, isolated run", alone)
    for kind in ("move", "stay"):
        times = []
        for _ in range(busy):
            with client() as cancels:
                for _ in range(8):
                    cancels.begin(f"{kind}s")
                times.append(cancels.one("blocks", force=True))
        yield f"by force, beside 8 that {kind}, p50 ms", statistics.median(times) * 1000
        yield f"by force, beside 8 that {kind}, worst ms", max(times) * 1000


def quantiles(name: str, times: list[float]) -> Iterator[tuple[str, float]]:
    """Yield median and 99th percentile of times in seconds, in milliseconds."""
    found = latency(times)
    yield f"{name}, p50 ms", found["p50"]
    yield f"{name}, p99 ms", found["p99"]


class Cancels:
    """Has a server begin runs, and takes the time until they are cancelled.

    Args:
        api: of the server.
    """

    def __init__(self, api: pullcord.Client) -> None:
        self._api = api

    def begin(self, flow: str) -> str:
        """Return the id of a run whose step is in progress, and is known to be."""
        run: str | None = self._api.run(flow).run_id
        assert run is not None
        while not self._api.runs.get(run)["steps"]:
            time.sleep(0.02)
        return run

    def one(self, flow: str, **how: Any) -> float:
        """Return the seconds from a call to cancel a run until its end is seen in its event stream."""
        return self._cancel(self.begin(flow), **how)

    def later(self, flow: str) -> float:
        """Return the seconds for a run that has not begun."""
        run: str | None = self._api.run(flow, not_before="2100-01-01T00:00:00Z").run_id
        assert run is not None
        return self._cancel(run)

    def _cancel(self, run: str, **how: Any) -> float:
        events = self._api.runs.events(run)
        next(events)  # the stream is open
        began = time.perf_counter()
        self._api.runs.cancel(run, **how)
        for event in events:
            if event.kind == "end":
                assert event.data["state"] == "cancelled", event
        return time.perf_counter() - began


@contextmanager
def client() -> Iterator[Cancels]:
    """Serve the flows with one run worker."""
    with ExitStack() as stack:
        server = stack.enter_context(serving(flows=SLOW, workers=1, level="error"))
        yield Cancels(stack.enter_context(pullcord.Client(server.url, token_of(server.folder))))


if __name__ == "__main__":
    main()
