"""The embedded `App` with 200 concurrent callers, and what a run costs on disk."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

import pullcord
from bench.machine import FLOWS
from bench.peers.shape import check_rows
from pullcord.store.queries.page import Page
from pullcord.store.queries.runs import RunFilter, list_runs

CALLERS = 200


def measure(runs: int, ten_step_runs: int) -> dict[str, float]:
    """Return the figures of the embedded app."""
    return uvloop.run(_measure(runs, ten_step_runs))


async def _measure(runs: int, ten_step_runs: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, flow, count, waits, factor in (
        ("embedded, async, runs/s", "one-async", runs, False, 1),
        ("embedded, sync, runs/s", "one-sync", runs, False, 1),
        ("embedded, async, each awaited to its end, runs/s", "one-async", runs // 2, True, 1),
        ("recorded steps/s, async, ten a run", "ten-async", ten_step_runs, True, 10),
        ("recorded steps/s, sync, ten a run", "ten-sync", ten_step_runs // 4, True, 10),
    ):
        with tempfile.TemporaryDirectory(prefix="pullcord-bench-") as folder:
            async with pullcord.App([FLOWS], folder) as app:
                await app.ready()
                await callers(app, flow, 400, waits)
                seconds = await callers(app, flow, count, waits)
                await _check(app, count + 400)
            figures[name] = count * factor / seconds
            if name == "embedded, async, runs/s":
                size = (Path(folder) / "pullcord.db").stat().st_size
                figures["bytes on disk for a one-step run"] = size / (count + 400)
    return figures


async def callers(app: pullcord.App, flow: str, count: int, waits: bool) -> float:
    """Run a flow that many times and return the seconds until the last one has ended."""
    numbers = iter(range(count))
    began = time.perf_counter()

    async def caller() -> None:
        for number in numbers:
            await app.run(flow, {"n": number}, wait=waits)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    await until(lambda: _idle(app))
    return time.perf_counter() - began


async def _idle(app: pullcord.App) -> bool:
    for state in ("queued", "running"):
        if (await app.store.read(list_runs, RunFilter(state=state), Page(1)))["items"]:
            return False
    return True


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Look every few milliseconds until something holds."""
    while not await holds():
        await asyncio.sleep(0.005)


async def _check(app: pullcord.App, count: int) -> None:
    def succeeded(connection: object) -> int:
        row = connection.execute("SELECT count(*) FROM runs WHERE state = 'succeeded'").fetchone()  # type: ignore[attr-defined]
        return int(row[0])

    check_rows("succeeded runs", await app.store.read(succeeded), count)
