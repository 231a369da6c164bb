"""Flows that are cancelled in the middle of their steps."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from typing import Annotated

from pydantic import AfterValidator
from witness import meet, meet_async, note

import pullcord as pc

ONCE_MORE = pc.Retry(limit=3, delay=0.01, jitter=False)

IN_TIME = 3.0
"""Seconds: a slow worker, too, is inside the step by then."""


def hear(port: int, text: str) -> str:
    """Meet the test; where its word is `wait`, go on when the worker has heard of the cancel."""
    word = meet(port, text)
    while word == "wait" and not pc.cancelled():
        time.sleep(0.001)
    return word


async def hear_async(port: int, text: str) -> str:
    """Do the same on the event loop."""
    word = await meet_async(port, text)
    while word == "wait" and not pc.cancelled():  # noqa: ASYNC110  nothing else tells
        await asyncio.sleep(0.001)
    return word


@pc.step(writes=["{path}", "its index"])
def store(port: int, path: str) -> str:
    return hear(port, "store")


@pc.step(writes="{path}")
async def store_async(port: int, path: str) -> str:
    return await meet_async(port, "store")


@pc.step
def noted(log: str, index: int) -> None:
    note(log, "step", index)


@pc.step
def inner(port: int) -> str:
    return meet(port, "inner")


@pc.step(on_cancel="finish")
def commit(port: int) -> str:
    """Meet the test, sleep, and call a step: none of it is stopped."""
    word = hear(port, "commit")
    pc.sleep(0.01)
    return f"{word}, {inner(port)}, cancelled: {pc.cancelled()}"


@pc.step(on_cancel="finish")
async def commit_async(port: int) -> str:
    return await hear_async(port, "commit")


@pc.step
async def inner_async(port: int) -> str:
    return await hear_async(port, "inner")


@pc.step(on_cancel="finish")
async def commit_around(port: int) -> str:
    """Call a step: it is not stopped either, nor is the wait after it."""
    word = await inner_async(port)
    await pc.sleep(1.2)
    return word


@pc.step(on_cancel="finish", retries=ONCE_MORE)
def fails(port: int) -> None:
    raise ValueError(hear(port, "try"))


@pc.step(on_cancel="finish", retries=ONCE_MORE)
async def fails_async(port: int) -> None:
    raise ValueError(await hear_async(port, "try"))


@pc.step(retries=ONCE_MORE)
async def raises_when_cancelled(port: int) -> None:
    try:
        await meet_async(port, "try")
    except asyncio.CancelledError:
        raise ValueError("in place of it") from None


@pc.step
async def swallows(port: int) -> str:
    try:
        return await meet_async(port, "begun")
    except asyncio.CancelledError:
        return "swallowed"


@pc.step
async def tidies(port: int) -> str:
    try:
        return await meet_async(port, "begun")
    finally:
        await meet_async(port, "tidying")


@pc.step
async def breaks_async(port: int) -> None:
    raise ValueError(await meet_async(port, "breaks"))


@pc.step
async def blocks(port: int) -> str:
    return meet(port, "blocking")


@pc.flow(concurrency=None)
def stores(port: int, log: str, path: str = "orders.parquet") -> None:
    noted(log, 0)
    store(port, path)
    noted(log, 1)


@pc.flow(concurrency=None, isolated=True)
def stores_alone(port: int, path: str) -> None:
    store(port, path)


@pc.flow(concurrency=None, timeout=IN_TIME)
def stores_in_time(port: int, path: str) -> None:
    store(port, path)


@pc.flow(concurrency=None)
async def stores_async(port: int, path: str) -> None:
    await store_async(port, path)


@pc.flow(concurrency=None)
async def stores_many(port: int, count: int) -> None:
    await asyncio.gather(*(store_async(port, f"part-{number}") for number in range(count)))


@pc.flow(concurrency=None)
def commits(port: int, log: str) -> None:
    commit(port)
    noted(log, 1)


@pc.flow(concurrency=None)
async def commits_async(port: int, log: str) -> None:
    await commit_async(port)
    note(log, "went on")


@pc.flow(concurrency=None)
async def commits_beside(port: int, log: str) -> None:
    await asyncio.gather(commit_async(port), store_async(port, "beside"))
    note(log, "went on")


@pc.flow(concurrency=None, retries=ONCE_MORE)
def fails_last(port: int) -> None:
    fails(port)


@pc.flow(concurrency=None, retries=ONCE_MORE)
async def fails_last_async(port: int) -> None:
    await fails_async(port)


@pc.flow(concurrency=None, retries=ONCE_MORE)
async def raises_instead(port: int) -> None:
    await raises_when_cancelled(port)


@pc.flow(concurrency=None)
async def swallows_once(port: int, log: str) -> None:
    note(log, await swallows(port))
    await store_async(port, "never")


@pc.flow(concurrency=None)
async def tidies_up(port: int) -> str:
    return await tidies(port)


@pc.flow(concurrency=None)
async def blocks_the_loop(port: int) -> str:
    return await blocks(port)


@pc.flow(concurrency=None)
def leaves_a_thread(port: int, log: str) -> None:
    """Go on to a boundary while a thread is still inside a step."""
    thread = threading.Thread(target=store, args=(port, "thread"), daemon=True)
    thread.start()
    while not pc.cancelled():
        time.sleep(0.001)
    note(log, "knows")
    noted(log, 0)


@pc.flow(concurrency=None)
async def leaves_a_task(port: int) -> None:
    """Have a task inside a step that nobody awaits."""
    task = asyncio.create_task(store_async(port, "task"))
    await meet_async(port, "flow")
    await task


@pc.flow(concurrency=None)
async def commits_in_a_task(port: int) -> None:
    """Have a task inside a step that finishes first, which is inside another step, and let it go on when cancelled."""
    await asyncio.wait({asyncio.create_task(commit_around(port))})


@pc.flow(concurrency=None)
async def gives_up_a_wait(port: int, asks: bool) -> None:
    """Wait no longer than one likes oneself, go on, and wait for something else; a task keeps it from being parked."""
    beside = asyncio.create_task(meet_async(port, "beside"))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.3):
            await (pc.ask(bool, "Given up?") if asks else pc.sleep(50))
    await store_async(port, "given up")
    await pc.sleep(50)
    await beside


@pc.flow(concurrency=None)
async def leaves_a_sleep(port: int, log: str) -> None:
    """Have a task that sleeps for long, and let it go on when the flow is cancelled."""

    async def later() -> None:
        try:
            await pc.sleep(600)
        finally:
            await meet_async(port, "awake")
            note(log, "awake")

    await asyncio.wait({asyncio.create_task(later())})


@pc.flow(concurrency=None)
async def sleeps_while_it_tidies(port: int, log: str) -> None:
    """Have a task that sleeps until after the cancel, while the flow cleans up."""

    async def later() -> None:
        try:
            await pc.sleep(6)
            note(log, "went on")
        finally:
            note(log, "awake")

    task = asyncio.create_task(later())
    try:
        await meet_async(port, "flow")
    finally:
        await meet_async(port, "tidying")
        await asyncio.wait({task})


@pc.flow(concurrency=1, retries=pc.Retry(limit=1, delay=0.01, jitter=False))
async def breaks_beside_a_task(port: int) -> None:
    """Fail in one branch while another one is inside a step, which takes a while to clean up."""
    await asyncio.gather(breaks_async(port), tidies(port))


@pc.flow(concurrency=1, retries=pc.Retry(limit=1, delay=0.01, jitter=False))
async def breaks_beside_a_commit(port: int) -> None:
    """Fail in one branch while another one is inside a step that finishes first."""
    await asyncio.gather(breaks_async(port), commit_async(port))


@pc.flow(concurrency=1, retries=pc.Retry(limit=1, delay=0.01, jitter=False))
async def breaks_beside_a_thread(port: int) -> None:
    """Fail in one branch while a thread is inside a step."""
    await asyncio.gather(breaks_async(port), asyncio.to_thread(store, port, "thread"))


@pc.flow(concurrency=1, retries=pc.Retry(limit=1, delay=0.01, jitter=False))
def breaks_before_its_thread(port: int) -> None:
    """Fail while a thread is inside a step."""
    threading.Thread(target=store, args=(port, "thread"), daemon=True).start()
    raise ValueError(meet(port, "breaks"))


@pc.flow(concurrency=None, timeout=IN_TIME)
async def stores_in_time_async(port: int) -> None:
    """Take too long, in a thread."""
    await asyncio.to_thread(store, port, "thread")


@pc.flow(concurrency=None)
async def gives_up_a_step(port: int, log: str) -> str:
    """Cancel a step of one's own, and go on."""
    task = asyncio.create_task(store_async(port, "given up"))
    await meet_async(port, "flow")
    task.cancel()
    await asyncio.wait([task])
    noted(log, 0)
    return "went on"


@pc.flow(concurrency=None)
def waits_for_a_child(port: int, log: str) -> None:
    stores(port, log)


@pc.flow(concurrency=None)
def passes_on_a_child(port: int, log: str) -> None:
    waits_for_a_child(port, log)


def hold(address: str) -> str:
    """Validate inputs when the test says so."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b'{"run": null, "attempt": 0, "pid": 0, "text": "validating"}\n')
        connection.makefile().readline()
    return address


@pc.flow(concurrency=None)
def slow_to_validate(address: Annotated[str, AfterValidator(hold)]) -> None:
    raise AssertionError("it never runs")


@pc.flow(concurrency=None)
def asks_for_a_child(port: int) -> None:
    meet(port, "asking")
    slow_to_validate(f"127.0.0.1:{port}")
