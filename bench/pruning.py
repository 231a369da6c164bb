"""`make bench-prune`: a million old runs are pruned while a thousand a second arrive, and what that costs these.

The store is the one of `make bench-history`. Admissions come at fixed times, whether or not earlier ones are answered,
so that each wait is counted in full.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

import pullcord
from bench import machine
from bench.history import FLOWS, build, write_flows
from pullcord.core.keep import DAY, Retention
from pullcord.store import sqlite

TICK = 0.002
"""Seconds between two arrivals of some runs at once."""

TARGET = 50.0
"""Milliseconds that an admission may take, p99."""


@dataclass
class Arrivals:
    """Admissions at fixed times.

    Attributes:
        waits: how long each took, milliseconds.
    """

    app: pullcord.App
    rate: int
    waits: list[float] = field(default_factory=list)

    async def until(self, over: Awaitable[object]) -> float:
        """Ask for runs until something is over, and all are answered; return the seconds."""
        ending = asyncio.ensure_future(over)
        asked: set[asyncio.Task[None]] = set()
        began = due = time.perf_counter()
        owed = 0.0
        while not ending.done():
            owed += self.rate * TICK
            for _ in range(int(owed)):
                task = asyncio.create_task(self._ask(due))
                asked.add(task)
                task.add_done_callback(asked.discard)
            owed -= int(owed)
            due += TICK
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await asyncio.gather(*asked)
        await ending
        return time.perf_counter() - began

    async def _ask(self, due: float) -> None:
        await self.app.run(FLOWS[0], {"n": len(self.waits)})
        self.waits.append((time.perf_counter() - due) * 1000)


def main() -> None:
    """Build the store, measure, and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=1000, help="runs that arrive in a second")
    parser.add_argument("--quiet", type=float, default=20.0, help="seconds of arrivals before pruning begins")
    parser.add_argument("--folder", type=Path, help="make the store here, and leave it")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args()
    print(machine.describe(), flush=True)
    with tempfile.TemporaryDirectory(prefix="pullcord-pruning-") as name:
        folder = options.folder or Path(name)
        flows = write_flows(folder)
        data = folder / "data"
        if not (data / "pullcord.db").exists():
            build(data, flows, options.runs)
        figures = uvloop.run(measure(flows, data, options.rate, options.quiet))
        figures |= size(data)
    print("| figure | target | measured |\n| --- | --- | --- |")
    for figure, value in figures.items():
        target = f"≤ {TARGET:g}" if figure.startswith("admission while pruning, p99") else ""
        print(f"| {figure} | {target} | {value:,.2f} |")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")


async def measure(flows: Path, data: Path, rate: int, quiet: float) -> dict[str, float]:
    """Return the figures."""
    figures: dict[str, float] = {}
    before = (data / "pullcord.db").stat().st_size
    keep = Retention(runs=30 * DAY, ledger=30 * DAY)
    async with pullcord.App([flows], data, retention=keep) as app:
        await app.ready()
        await Arrivals(app, rate).until(asyncio.sleep(2.0))
        alone = Arrivals(app, rate)
        seconds = await alone.until(asyncio.sleep(quiet))
        figures |= described("without pruning", alone.waits, seconds)
        busy = Arrivals(app, rate)
        seconds = await busy.until(app.pruner.prune())
        figures |= described("while pruning", busy.waits, seconds)
        figures["pruned runs"] = app.pruner.totals["runs"]
        figures["pruned requests"] = app.pruner.totals["requests"]
        figures["pruned runs/s"] = app.pruner.totals["runs"] / seconds
    figures["database before, MB"] = before / 1e6
    return figures


def described(when: str, waits: list[float], seconds: float) -> dict[str, float]:
    """Return the figures of some admissions."""
    waits = sorted(waits)
    return {
        f"runs/s {when}": len(waits) / seconds,
        f"admission {when}, p50 ms": waits[len(waits) // 2],
        f"admission {when}, p99 ms": waits[int(len(waits) * 0.99)],
        f"admission {when}, p99.9 ms": waits[int(len(waits) * 0.999)],
        f"admission {when}, slowest ms": waits[-1],
    }


def size(data: Path) -> dict[str, float]:
    """Return how large the file is, and how much of it is free for new rows."""
    path = data / "pullcord.db"
    with closing(sqlite.writer(path)) as connection:
        free = connection.execute("PRAGMA freelist_count").fetchone()[0] * 4096
    return {"database after, MB": path.stat().st_size / 1e6, "of it free, MB": free / 1e6}


if __name__ == "__main__":
    main()
