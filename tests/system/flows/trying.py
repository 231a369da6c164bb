"""Flows whose runs fail as long as the test says so, and are tried again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from witness import meet, meet_async, note

import pullcord as pc


class Trouble(Exception):
    """What passes."""


class Outage(Trouble):
    """A kind of it."""

    def __init__(self, where: str) -> None:
        super().__init__(f"{where} is down")


@pc.step
def before(log: str) -> str:
    note(log, "step", 0)
    return "before"


@pc.step
def shaky(log: str, mended: str) -> str:
    note(log, "step", 1)
    if not Path(mended).exists():
        raise Outage("the bank")
    return "shaky"


@pc.flow(concurrency=None)
def helper(log: str) -> str:
    note(log, "step", 2)
    return "helped"


def _work(log: str, mended: str) -> list[str]:
    note(log, "begin", pc.run().attempt)
    done = [before(log), helper(log)]
    pc.sleep(0.01)
    return [*done, shaky(log, mended)]


@pc.flow(concurrency=None)
def once(log: str, mended: str) -> list[str]:
    return _work(log, mended)


@pc.flow(concurrency=1, retries=pc.Retry(limit=50, delay=0.3, backoff=1, retry_on=("no.such.Thing", Trouble)))
def kept(log: str, mended: str) -> list[str]:
    return _work(log, mended)


@pc.flow(concurrency=None, retries=pc.Retry(limit=50, delay=0.3, backoff=1, start="beginning"))
def anew(log: str, mended: str) -> list[str]:
    return _work(log, mended)


@pc.flow(concurrency=None, retries=pc.Retry(limit=3, delay=0, retry_on="no.such.Thing"))
def other(log: str, mended: str) -> list[str]:
    return _work(log, mended)


@pc.flow(concurrency=None, retries=pc.Retry(limit=3, delay=3600, jitter=False))
def patient(log: str, mended: str) -> list[str]:
    return _work(log, mended)


@pc.flow(concurrency=None)
def inner(log: str, mended: str) -> str:
    return before(log) + shaky(log, mended)


@pc.flow(concurrency=None)
def outer(log: str, mended: str) -> str:
    return inner(log, mended)


@pc.flow(concurrency=None, retries=pc.Retry(limit=50, delay=0.3, backoff=1, retry_on="child_failed"))
def outer_again(log: str, mended: str) -> str:
    return inner(log, mended)


@pc.flow(concurrency=None, retries=pc.Retry(limit=1, delay=0, start="beginning"))
def anew_once(log: str, mended: str) -> list[str]:
    return _work(log, mended)


@pc.flow(concurrency=None)
async def long_child(port: int) -> str:
    return await meet_async(port, "child")


@pc.step
async def told(port: int) -> str:
    word = await meet_async(port, "step")
    if word == "fail":
        raise Outage("the step")
    return word


@pc.flow(concurrency=None)
async def both(port: int) -> list[str]:
    """Fail while the child goes on."""
    return list(await asyncio.gather(long_child(port), told(port)))


@pc.flow(concurrency=None)
async def side(port: int, name: str) -> str:
    word = await meet_async(port, name)
    if word == "fail":
        raise Outage(name)
    return word


@pc.flow(concurrency=None, retries=pc.Retry(limit=2, delay=1, jitter=False, backoff=1))
async def sides(port: int) -> list[str]:
    """Have two children; only the first attempt waits for both when one fails."""
    first = pc.run().attempt == 1
    words = await asyncio.gather(side(port, "a"), side(port, "b"), return_exceptions=first)
    if first:
        raise Outage("the first attempt")
    return list(words)


@pc.flow(concurrency=None, timeout=0.3, retries=pc.Retry(limit=50, delay=0, retry_on="run_timeout"))
def slow(port: int) -> str:
    if pc.run().attempt == 1:
        meet(port)
    return f"attempt {pc.run().attempt}"
