"""Flows of every way of running. Each notes what it does, so that what happened can be checked line by line."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path

from witness import note

import pullcord as pc

SOON = pc.Retry(limit=4, delay=0.01, backoff=1.0)


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


def _steps(log: str, steps: int, pause: float) -> int:
    note(log, "begin")
    total = sum(work(log, index, pause) for index in range(steps))
    note(log, "end")
    return total


@pc.flow(concurrency=None)
def chain(log: str, intent: int, steps: int = 3, pause: float = 0.0) -> int:
    return _steps(log, steps, pause)


@pc.flow(concurrency=None)
async def chain_async(log: str, intent: int, steps: int = 3, pause: float = 0.0) -> int:
    note(log, "begin")
    total = 0
    for index in range(steps):
        total += await work_async(log, index, pause)
    note(log, "end")
    return total


@pc.flow(concurrency=3)
def narrow(log: str, intent: int, steps: int = 3, pause: float = 0.0) -> int:
    return _steps(log, steps, pause)


@pc.flow
def single(log: str, intent: int, steps: int = 3, pause: float = 0.0) -> int:
    """One at a time: another process that holds the lock is a second one."""
    lock = os.open(f"{log}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note(log, "overlap")
    try:
        return _steps(log, steps, pause)
    finally:
        os.close(lock)


@pc.flow(concurrency=None, isolated=True)
def alone(log: str, intent: int, steps: int = 2, pause: float = 0.0) -> int:
    return _steps(log, steps, pause)


@pc.flow(concurrency=None)
def child(log: str, intent: int, steps: int = 2, pause: float = 0.0) -> int:
    return _steps(log, steps, pause)


@pc.flow(concurrency=None)
def family(log: str, intent: int, steps: int = 2, pause: float = 0.0) -> int:
    """One step, a child run, and another step."""
    note(log, "begin")
    total = work(log, 0, pause) + child(log, intent, steps, pause)
    total += work(log, 1, pause)
    note(log, "end")
    return total


@pc.step(retries=SOON)
def insist(log: str, index: int, marks: str) -> int:
    note(log, "step", index)
    mark = Path(marks) / pc.run().id
    if not mark.exists():
        mark.touch()
        raise ValueError("not at the first try")
    return index


@pc.flow(concurrency=None)
def insists(log: str, intent: int, steps: int = 3, pause: float = 0.0) -> int:
    """A step that fails at its first try."""
    note(log, "begin")
    total = work(log, 0, pause) + insist(log, 1, f"{log}.marks") + work(log, 2, pause)
    note(log, "end")
    return total


@pc.flow(concurrency=2, retries=SOON)
def again(log: str, intent: int, steps: int = 2, pause: float = 0.0) -> int:
    """A run that fails in its first attempt."""
    note(log, "begin")
    total = work(log, 0, pause)
    if pc.run().attempt == 1:
        raise ValueError("not in the first attempt")
    total += work(log, 1, pause)
    note(log, "end")
    return total


@pc.flow(concurrency=None)
async def sleeper(log: str, intent: int, steps: int = 2, pause: float = 0.0) -> int:
    note(log, "begin")
    total = await work_async(log, 0, pause)
    await pc.sleep(0.2)
    total += await work_async(log, 1, pause)
    note(log, "end")
    return total


@pc.flow(concurrency=None)
def fails(log: str, intent: int, steps: int = 2, pause: float = 0.0) -> int:
    note(log, "begin")
    work(log, 0, pause)
    work(log, 1, pause)
    note(log, "end")
    raise RuntimeError("as it should")
