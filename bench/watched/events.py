"""Many async events with a cadence of five seconds; every tenth fires each time while a file is there."""

import os
from pathlib import Path

from tally import Tally

import pullcord as pc

COUNT = int(os.environ.get("BENCH_TRIGGERS", "10000"))
FIRING = Path(os.environ.get("BENCH_FIRING", "/nonexistent"))
polls, fires = Tally("polls", 500), Tally("fires")
times = [0] * COUNT


@pc.flow(concurrency=None)
async def handle(number: int, time: int) -> int:
    return number + time


async def look(number: int) -> pc.Fire | None:
    polls.note(number)
    if number % 10 or not FIRING.exists():
        return None
    times[number] += 1
    fires.note(number)
    return pc.Fire({"number": number, "time": times[number]})


for number in range(COUNT):
    globals()[f"look_{number}"] = pc.event(
        flow=handle, every="5s", name=f"look-{number}", parameters={"number": number}
    )(look)
