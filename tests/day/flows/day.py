"""Flows that use everything there is, and note what they do; some fail by chance. The driver rewrites `GENERATION`.

Lengths that the server counts are those of its fast clock (`RETRY`); pauses inside of a worker are real.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import time
from pathlib import Path
from typing import Any

from witness import note

import pullcord as pc

GENERATION = 0

LOG = os.environ["DAY_LOG"]
NUMBERS = Path(os.environ["DAY_NUMBERS"])
RETRY = pc.Retry(limit=2, delay="2m", backoff=2.0)
AT_ONCE = pc.Retry(limit=5, delay=0.01, backoff=1.0)


TOLD: dict[str, Any] = {"notify": [pc.on_failure("ops")]} if hasattr(pc, "on_failure") else {}
BRIEF: dict[str, Any] = {"keep": pc.Keep(runs="90m", artifacts="30m")} if hasattr(pc, "Keep") else {}


class ByChanceError(Exception):
    """What flows fail with."""


def chance(share: float) -> None:
    if random.random() < share:
        raise ByChanceError("by chance")


@pc.step
def work(index: int, pause: float) -> int:
    note(LOG, "step", index)
    time.sleep(pause)
    return index


@pc.step
async def work_async(index: int, pause: float) -> int:
    note(LOG, "step", index)
    await asyncio.sleep(pause)
    return index


@pc.step(retries=AT_ONCE)
def unsteady(index: int, pause: float) -> int:
    note(LOG, "step", index)
    chance(0.3)
    time.sleep(pause)
    return index


@pc.step
def storing() -> str:
    """Decide what to store under which name: recorded, as a run that is resumed has another id."""
    return pc.run().id if hasattr(pc, "artifact") and pc.run().id[-1] in "048" else ""


def keep() -> None:
    """Store something that a reader recognises, where that can be done."""
    name = storing()
    if name:
        pc.artifact(content=f"of {name}", name=name)


def steps(pause: float, luck: float, key: str = "") -> dict[str, Any]:
    """Three steps, some progress, and perhaps an end by chance before the last."""
    note(LOG, "begin", key)
    for index in range(3):
        if index == 2:
            chance(1 - luck)
            keep()
        work(index, pause)
        pc.progress(index + 1, 3)
    note(LOG, "end")
    return {"generation": GENERATION}


@pc.flow(concurrency=None, **TOLD)
def chain(intent: int, pause: float = 0.0, luck: float = 1.0) -> dict[str, Any]:
    return steps(pause, luck)


@pc.flow(concurrency=None)
async def chain_async(intent: int, pause: float = 0.0, luck: float = 1.0) -> int:
    note(LOG, "begin")
    for index in range(3):
        await work_async(index, pause)
        pc.progress(index + 1, 3)
    chance(1 - luck)
    note(LOG, "end")
    return GENERATION


@pc.flow(concurrency=3)
def narrow(intent: int, pause: float = 0.0, luck: float = 1.0) -> dict[str, Any]:
    return steps(pause, luck)


@pc.step
def work_alone(index: int, pause: float) -> int:
    """Work under a lock. Not around the flow: a thread of a run that moved to another process keeps what it holds."""
    note(LOG, "step", index)
    lock = os.open(f"{LOG}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(pause)
    except BlockingIOError:
        note(LOG, "overlap")
    finally:
        os.close(lock)
    return index


@pc.flow
def single(intent: int, pause: float = 0.0, luck: float = 1.0) -> int:
    """One at a time: another process that holds the lock is a second one."""
    note(LOG, "begin")
    for index in range(3):
        work_alone(index, pause)
        pc.progress(index + 1, 3)
    note(LOG, "end")
    return GENERATION


@pc.flow(concurrency=None, isolated=True)
def alone(intent: int, pause: float = 0.0, luck: float = 1.0) -> dict[str, Any]:
    return steps(pause, luck)


@pc.flow(concurrency=None)
def child(intent: int, pause: float = 0.0, luck: float = 1.0) -> dict[str, Any]:
    return steps(pause, luck)


@pc.flow(concurrency=None)
def family(intent: int, pause: float = 0.0, luck: float = 1.0) -> int:
    """One step, a child run, and two more steps."""
    note(LOG, "begin")
    work(0, pause)
    child(intent, pause, luck)
    work(1, pause)
    work(2, pause)
    note(LOG, "end")
    return GENERATION


@pc.flow(concurrency=None)
def insists(intent: int, pause: float = 0.0, luck: float = 1.0) -> int:
    """A step that fails now and then, and is tried again."""
    note(LOG, "begin")
    work(0, pause)
    unsteady(1, pause)
    work(2, pause)
    note(LOG, "end")
    return GENERATION


@pc.flow(concurrency=2, retries=RETRY)
def again(intent: int, pause: float = 0.0, luck: float = 1.0) -> dict[str, Any]:
    """A run that is tried again, minutes later."""
    return steps(pause, luck)


@pc.flow(concurrency=None)
async def sleeper(intent: int, pause: float = 0.0, luck: float = 1.0) -> int:
    note(LOG, "begin")
    await work_async(0, pause)
    await pc.sleep(0.3)
    await work_async(1, pause)
    await work_async(2, pause)
    note(LOG, "end")
    return GENERATION


@pc.flow(concurrency=None, **BRIEF)
def brief(intent: int, pause: float = 0.0, luck: float = 1.0) -> dict[str, Any]:
    """Runs that are soon forgotten."""
    return steps(pause, luck)


if hasattr(pc, "ask"):

    @pc.flow(concurrency=None)
    def curious(intent: int, pause: float = 0.0, luck: float = 1.0) -> int:
        """A run that asks somebody, and goes on by itself when nobody answers."""
        note(LOG, "begin")
        work(0, pause)
        answer: int = pc.ask(int, f"question {intent}", timeout="40m", on_timeout=pc.Default(-1))
        work(1, pause)
        work(2, pause)
        note(LOG, "end")
        return answer


if hasattr(pc, "Concurrency"):

    @pc.flow(concurrency=pc.Concurrency(limit=1, key="{region}", group=pc.Group("shared", 4)))
    def regional(intent: int, region: str = "DE", pause: float = 0.0, luck: float = 1.0) -> dict[str, Any]:
        """One at a time in each region, and four at a time together with `member`."""
        return steps(pause, luck, region)

    @pc.flow(concurrency=pc.Concurrency(limit=3, group="shared"))
    def member(intent: int, pause: float = 0.0, luck: float = 1.0) -> dict[str, Any]:
        return steps(pause, luck)

    @pc.flow(concurrency=pc.Concurrency(limit=2, on_conflict="skip"))
    def skipping(intent: int, pause: float = 0.0, luck: float = 1.0) -> dict[str, Any]:
        return steps(pause, luck)

    @pc.flow(concurrency=pc.Concurrency(limit=2, on_conflict="reject"))
    def strict(intent: int, pause: float = 0.0, luck: float = 1.0) -> dict[str, Any]:
        return steps(pause, luck)

    @pc.flow(concurrency=pc.Concurrency(limit=1, on_conflict="buffer_one"))
    def buffered(intent: int, pause: float = 0.0, luck: float = 1.0) -> dict[str, Any]:
        return steps(pause, luck)

    @pc.flow(concurrency=pc.Concurrency(limit=1, on_conflict="cancel_running"))
    def newest(intent: int, pause: float = 0.0, luck: float = 1.0) -> dict[str, Any]:
        return steps(pause, luck)


# --- what triggers ask for -------------------------------------------------------------------------


@pc.flow(
    concurrency=None,
    triggers=[
        pc.cron("*/15 * * * *", name="steady", catch_up="all", max_catch_up=1000),
        pc.cron("7 * * * *", name="toggled"),
        pc.interval("25m", name="paced", catch_up="skip", misfire_grace="5m"),
    ],
)
def ticked() -> dict[str, Any]:
    return steps(0.0, 0.9)


@pc.flow(concurrency=None)
def counted(number: int) -> dict[str, Any]:
    return steps(0.0, 1.0)


@pc.event(flow=counted, every="250ms")
def numbers(state: pc.Cursor) -> list[pc.Fire] | pc.Skip:
    """Fire every number up to the one in the file, once."""
    last, done = int(NUMBERS.read_text()), state.value or 0
    if done >= last:
        return pc.Skip("no further number")
    fresh = range(done + 1, min(last, done + 20) + 1)
    state.value = fresh[-1]
    return [pc.Fire({"number": number}) for number in fresh]


@pc.flow(concurrency=None, triggers=[pc.webhook("orders", secret="env:DAY_SECRET")])
async def order(number: int) -> int:
    note(LOG, "begin")
    for index in range(3):
        await work_async(index, 0.0)
    note(LOG, "end")
    return number


def told(run: dict[str, Any]) -> dict[str, Any]:
    return {"of": run["id"], "state": run["state"]}


@pc.flow(
    concurrency=None,
    triggers=[pc.completion(chain, on=["succeeded", "failed", "cancelled"], inputs=told, name="follow")],
)
def follower(of: str, state: str) -> dict[str, Any]:
    return steps(0.0, 1.0)
