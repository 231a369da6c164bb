"""What APScheduler, and a bare asyncio loop, need for many async functions on a cadence. They keep nothing on disk."""

from __future__ import annotations

import asyncio
import heapq
import time
from importlib.metadata import version
from pathlib import Path

from apscheduler.schedulers.asyncio import AsyncIOScheduler  # type: ignore[import-not-found]

from bench.peers.shape import Figures, arguments, emit, latency

SECONDS = 60.0


def memory() -> float:
    """Return this process's proportional set size, MB."""
    text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1000


async def measured(name: str, late: list[float]) -> Figures:
    """Return the figures of a minute in which functions note how late they are, seconds."""
    late.clear()
    used, began = time.process_time(), time.monotonic()
    await asyncio.sleep(SECONDS)
    used, passed = time.process_time() - used, time.monotonic() - began
    lateness = latency(late)
    return {
        f"{name}: calls/s": len(late) / passed,
        f"{name}: CPU, %": used / passed * 100,
        f"{name}: memory, MB": memory(),
        f"{name}: lateness, p50 ms": lateness["p50"],
        f"{name}: lateness, p99 ms": lateness["p99"],
    }


async def scheduler(count: int, every: float) -> Figures:
    """Measure APScheduler's asyncio scheduler with its memory store."""
    late: list[float] = []
    began = time.time() + 2.0

    async def look(number: int) -> None:
        late.append((time.time() - began - number * every / count) % every)

    from datetime import UTC, datetime

    found = AsyncIOScheduler(timezone=UTC)
    for number in range(count):
        first = datetime.fromtimestamp(began + number * every / count, UTC)
        found.add_job(look, "interval", seconds=every, args=(number,), next_run_time=first, misfire_grace_time=60)
    added = time.time() - began + 2.0
    found.start()
    await asyncio.sleep(2 * every)
    figures = await measured("APScheduler", late)
    found.shutdown(wait=False)
    return {"APScheduler: adding all, s": added, **figures}


async def loop(count: int, every: float) -> Figures:
    """Measure a loop that takes what is due from a heap and calls it."""
    late: list[float] = []
    began = time.monotonic() + 0.5
    heap = [(began + number * every / count, number) for number in range(count)]

    async def look(number: int) -> None:
        late.append((time.monotonic() - began - number * every / count) % every)

    async def work() -> None:
        while True:
            await asyncio.sleep(max(0.0, heap[0][0] - time.monotonic()))
            while heap[0][0] <= time.monotonic():
                due, number = heap[0]
                heapq.heapreplace(heap, (due + every, number))
                asyncio.get_running_loop().create_task(look(number))

    task = asyncio.create_task(work())
    await asyncio.sleep(every)
    figures = await measured("asyncio loop", late)
    task.cancel()
    return figures


def main() -> None:
    """Measure both; `--runs` is how many functions there are, `--concurrency` their cadence in seconds."""
    options = arguments(10_000, 5)
    figures = asyncio.run(loop(options.runs, options.concurrency))
    figures |= asyncio.run(scheduler(options.runs, options.concurrency))
    emit(
        {
            "system": "APScheduler",
            "version": version("APScheduler"),
            "store": "memory",
            "figures": figures,
            "notes": ["nothing is kept: no history, no requests, no processes of their own"],
        }
    )


if __name__ == "__main__":
    main()
