"""Two hundred ordinary events, and some that misbehave: those that `BENCH_UNRULY` names."""

import ctypes
import os
import time

from tally import Tally

import pullcord as pc

UNRULY = os.environ.get("BENCH_UNRULY", "").split(",")
polls, unruly = Tally("polls"), Tally("unruly")


@pc.flow(concurrency=None)
async def handle(number: int = 0) -> int:
    return number


async def look(number: int) -> None:
    polls.note(number)


for number in range(200):
    globals()[f"look_{number}"] = pc.event(
        flow=handle, every="500ms", name=f"look-{number}", parameters={"number": number}
    )(look)


def hangs() -> None:
    unruly.note(0)
    time.sleep(3600)


def raises() -> None:
    unruly.note(1)
    raise ConnectionError("no connection")


def holds() -> None:
    """Keep the interpreter lock for twenty seconds in a call of C."""
    unruly.note(2)
    ctypes.PyDLL(None).sleep(20)


async def blocks() -> None:
    unruly.note(3)
    time.sleep(20)  # noqa: ASYNC251  it is what it should not do


async def floods() -> list[pc.Fire]:
    unruly.note(4)
    began = time.time_ns()
    return [pc.Fire({"number": began + number}) for number in range(10_000)]


for function in (hangs, raises, holds, blocks, floods):
    if function.__name__ in UNRULY:
        globals()[f"event_{function.__name__}"] = pc.event(flow=handle, every="5s", timeout="5s")(function)
