"""Flows that take too long, wait for others, or do not want to stop."""

from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path

from witness import meet, meet_async, note

import pullcord as pc
from pullcord.core.errors import UsageError

ONCE = pc.Retry(limit=1, delay=0.01, jitter=False)


@pc.step
def noted(log: str, index: int) -> int:
    note(log, "step", index)
    return index


@pc.step
def met(port: int, text: str) -> str:
    return meet(port, text)


@pc.step
async def met_async(port: int, text: str) -> str:
    return await meet_async(port, text)


@pc.step(retries=ONCE)
def told_what_to_do(port: int) -> str:
    word = meet(port, "try")
    if word == "fail":
        raise ValueError("as told")
    return word


@pc.flow(concurrency=None)
def two_tries(port: int) -> str:
    return told_what_to_do(port)


# --- time-outs -----------------------------------------------------------------------------------------


@pc.step(timeout=0.2)
def short_step(port: int) -> str:
    return meet(port, "stuck")


@pc.step(timeout=0.2, retries=pc.Retry(limit=50, delay=0.01, jitter=False))
def short_step_twice(port: int, marker: Path) -> str:
    if marker.exists():
        return "in time"
    marker.touch()
    return meet(port, "stuck")


@pc.step(timeout=0.2)
async def short_step_async() -> None:
    await asyncio.sleep(600)


@pc.flow(concurrency=None)
def stuck_step(port: int, log: str) -> str:
    noted(log, 0)
    return short_step(port)


@pc.flow(concurrency=None)
def stuck_step_caught(port: int, log: str) -> str:
    noted(log, 0)
    try:
        return short_step(port)
    except TimeoutError as error:
        noted(log, 1)
        return type(error).__name__


@pc.flow(concurrency=None)
def stuck_once(port: int, marker: Path) -> str:
    return short_step_twice(port, marker)


@pc.flow(concurrency=None)
async def stuck_step_async() -> str:
    try:
        await short_step_async()
    except TimeoutError as error:
        return type(error).__name__
    return "never"


@pc.flow(concurrency=None, timeout=0.2)
def short_flow(port: int) -> str:
    """Take too long; not in a step, which a slow worker would not begin any more when the time is over."""
    return meet(port, "stuck")


@pc.flow(concurrency=None, timeout=0.2)
async def short_flow_async() -> None:
    await asyncio.sleep(600)


@pc.flow(concurrency=None, isolated=True, timeout=0.2)
def short_flow_isolated(port: int) -> str:
    return met(port, "stuck")


@pc.flow(concurrency=None)
def neighbour(port: int, log: str) -> list[str]:
    """Meet the test in one step, note another, and meet it again."""
    first = met(port, "before")
    noted(log, 0)
    return [first, met(port, "after")]


@pc.flow(concurrency=None)
async def neighbour_async(port: int, log: str) -> list[str]:
    first = await met_async(port, "before async")
    noted(log, 0)
    return [first, await met_async(port, "after async")]


@pc.flow(concurrency=None)
async def fans_out(port: int) -> list[str]:
    """One branch is inside a long step while the other one reaches the end of a short step."""

    async def short() -> str:
        return await met_async(port, "short") + await met_async(port, "after short")

    return list(await asyncio.gather(met_async(port, "long"), short()))


# --- cancelling ----------------------------------------------------------------------------------------


@pc.flow(concurrency=None)
def two_steps(port: int, log: str) -> None:
    met(port, "first")
    noted(log, 1)


@pc.flow(concurrency=None)
async def endless_async(port: int, log: str) -> None:
    try:
        await meet_async(port, "begun")
    finally:
        note(log, "cleaned up")


@pc.flow(concurrency=None)
def stubborn(port: int) -> str:
    """Swallow whatever can be swallowed."""
    while True:
        try:
            return met(port, "stubborn")
        except Exception:
            continue


@pc.flow
def only_one(port: int, text: str = "") -> str:
    return met(port, text)


@pc.flow(concurrency=None)
def locks(port: int, path: str) -> str:
    """Hold the lock of a file over two steps."""
    with Path(path).open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "somebody else holds it"
        met(port, "first")
        return met(port, "second")


@pc.flow(concurrency=None)
def parent(port: int, children: int = 1) -> list[str]:
    return [only_one(port, "child") for _ in range(children)]


@pc.flow(concurrency=None)
async def parent_async(port: int) -> str:
    return await child_async(port)


@pc.flow(concurrency=None)
async def child_async(port: int) -> str:
    return await meet_async(port, "child")


@pc.flow(concurrency=None)
def grandparent(port: int) -> list[str]:
    return parent(port)


@pc.flow(concurrency=None)
def sleeps(length: float, log: str = "") -> str:
    if log:
        note(log, "begin")
    pc.sleep(length)
    return "slept"


@pc.flow(concurrency=None)
async def sleeps_async(length: float) -> str:
    await pc.sleep(length)
    return "slept"


# --- trying again --------------------------------------------------------------------------------------


class Broken(Exception):
    """An exception of the user's own."""


@pc.step
def breaks(marker: Path) -> str:
    if not marker.exists():
        raise Broken("not there yet", 7)
    return "whole"


@pc.flow(concurrency=None, retries=pc.Retry(limit=3, delay=0.05, jitter=False))
def tried_again(log: str, marker: Path, port: int) -> list[str]:
    noted(log, 0)
    try:
        return [breaks(marker), str(pc.run().attempt)]
    except Broken as error:
        note(log, "broken", list(error.args))
        if pc.run().attempt == 2:
            meet(port, "second attempt")
        raise


@pc.flow(concurrency=None, retries=pc.Retry(limit=1, delay=3600, jitter=False))
def tried_again_later(log: str, marker: Path) -> str:
    noted(log, 0)
    return breaks(marker)


@pc.flow(concurrency=None)
def parent_of_crash(port: int, log: str) -> list[str]:
    """Note, have a child that meets the test, and meet the test itself."""
    noted(log, 0)
    return [only_one(port, "child"), met(port, "parent")]


@pc.flow(concurrency=None)
def told_child(log: str, port: int, text: str) -> str:
    """Note that it runs, and do as the test says."""
    note(log, text)
    word = meet(port, text)
    if word == "fail":
        raise Broken("as told", 1)
    return word


@pc.flow(concurrency=None)
def measures(text: str) -> int:
    return len(text)


@pc.flow(concurrency=None)
def says_too_much(length: int) -> str:
    """Give a child more than a message to the server can hold."""
    try:
        return str(measures("x" * length))
    except pc.ChildFailedError as error:
        return str(error)


@pc.flow(concurrency=None)
async def says_too_much_async(length: int) -> str:
    """Do the same right on the event loop's thread."""
    try:
        return str(measures("x" * length))
    except pc.ChildFailedError as error:
        return str(error)


@pc.step
def told_inside(port: int) -> str:
    word = meet(port, "inside")
    if word == "fail":
        raise Broken("as told", 2)
    return word


@pc.step(retries=pc.Retry(limit=2, delay=0.01, jitter=False))
def checks_out(log: str, port: int) -> list[str]:
    """Call a step and a child that succeed, and a step and a child that fail when the test says so."""
    note(log, "try")
    noted(log, 0)
    return [told_child(log, port, "good"), told_inside(port), told_child(log, port, "bad")]


@pc.flow(concurrency=None)
def shop(log: str, port: int) -> list[str]:
    return checks_out(log, port)


@pc.step(key="{order}")
def books(log: str, port: int, order: str, caller: int) -> str:
    note(log, "booked", order)
    return f"{meet(port, order)} for {caller}"


@pc.step(key="{order}")
async def books_async(log: str, port: int, order: str, caller: int) -> str:
    note(log, "booked", order)
    word = await meet_async(port, order)
    if word == "fail":
        raise Broken("as told", 3)
    return f"{word} for {caller}"


@pc.flow(concurrency=None)
async def books_at_once(log: str, port: int, way: str) -> list[str]:
    """Book A three times, and B once, all at the same time."""
    orders = ["A", "A", "A", "B"]
    if way == "async":
        calls = [books_async(log, port, order, caller) for caller, order in enumerate(orders)]
    else:
        calls = [asyncio.to_thread(books, log, port, order, caller) for caller, order in enumerate(orders)]
    found = asyncio.gather(*calls, return_exceptions=True)
    if way == "loop":
        await asyncio.to_thread(meet, port, "loop")
        try:
            books(log, port, "A", 4)
        except UsageError as error:
            note(log, "refused", error.message)
    return [item if isinstance(item, str) else repr(item) for item in await found]


@pc.flow(concurrency=None)
async def books_again(log: str, port: int) -> str:
    """Give a booking up while another call waits for it."""
    first = asyncio.create_task(books_async(log, port, "A", 0))
    await meet_async(port, "first")
    second = asyncio.create_task(books_async(log, port, "A", 1))
    await meet_async(port, "second")
    first.cancel()
    return await second
