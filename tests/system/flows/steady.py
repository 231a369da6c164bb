"""Flows that do nothing wrong: what is left of their runs after a crash can be checked line by line."""

from __future__ import annotations

import asyncio
import time

from witness import meet, meet_async, note, stand

import pullcord as pc


@pc.step
def work(log: str, index: int, pause: float) -> int:
    note(log, "step", index)
    time.sleep(pause)
    return index


@pc.step
async def work_async(log: str, index: int, pause: float) -> int:
    note(log, "step", index)
    await asyncio.sleep(pause)
    return index


def _chain(log: str, steps: int, pause: float) -> int:
    note(log, "begin")
    total = sum(work(log, index, pause) for index in range(steps))
    note(log, "end")
    return total


@pc.flow(concurrency=None)
def chain(log: str, steps: int = 3, pause: float = 0.0) -> int:
    return _chain(log, steps, pause)


@pc.flow(concurrency=3)
def narrow(log: str, steps: int = 3, pause: float = 0.0) -> int:
    return _chain(log, steps, pause)


@pc.flow
def single(log: str, steps: int = 3, pause: float = 0.0) -> int:
    return _chain(log, steps, pause)


@pc.flow(concurrency=None)
async def chain_async(log: str, steps: int = 3, pause: float = 0.0) -> int:
    note(log, "begin")
    total = 0
    for index in range(steps):
        total += await work_async(log, index, pause)
    note(log, "end")
    return total


@pc.flow(concurrency=None)
def family(log: str, steps: int = 2, pause: float = 0.0) -> int:
    """One step, a child run, and another step."""
    note(log, "begin")
    total = work(log, 0, pause) + narrow(log, steps, pause)
    total += work(log, 1, pause)
    note(log, "end")
    return total


@pc.flow(concurrency=None)
def held(log: str, gate: str, steps: int = 3, pause: float = 0.0) -> int:
    """Stand still after the first step until the test opens the gate."""
    note(log, "begin")
    total = work(log, 0, pause)
    note(log, "held")
    stand(gate)
    total += sum(work(log, index, pause) for index in range(1, steps))
    note(log, "end")
    return total


@pc.step
def meeting_step(port: int, text: str) -> str:
    return meet(port, text)


@pc.step
async def meeting_step_async(port: int, text: str) -> str:
    return await meet_async(port, text)


@pc.flow(concurrency=None)
def meets(port: int, texts: list[str] = ["only"]) -> list[str]:  # noqa: B006
    """Meet the test in one step after the other."""
    return [meeting_step(port, text) for text in texts]


@pc.flow(concurrency=None)
async def meets_async(port: int, texts: list[str] = ["only"]) -> list[str]:  # noqa: B006
    return [await meeting_step_async(port, text) for text in texts]


@pc.flow
def meets_single(port: int, texts: list[str] = ["only"]) -> list[str]:  # noqa: B006
    """The same, one run at a time."""
    return [meeting_step(port, text) for text in texts]
