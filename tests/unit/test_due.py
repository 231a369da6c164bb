"""Waiting for what is due: what is registered while the store is being asked is not forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pullcord.clock import SystemClock
from pullcord.engine.due import DueRuns

SOON, LATER = 20_000, 3600 * 1_000_000


class SlowStore:
    """A store whose transactions end when a test says so."""

    def __init__(self) -> None:
        self.asked = asyncio.Queue[asyncio.Future[Any]]()

    async def write(self, make: Callable[[Any], Any]) -> Any:
        answer = asyncio.get_running_loop().create_future()
        self.asked.put_nowait(answer)
        return await answer


async def look_while(result: int | None, meanwhile: Callable[[DueRuns], None]) -> bool:
    """Look for what is due, and do something before the result is there; say whether the store is asked once more."""
    store: Any = SlowStore()
    tasks: set[asyncio.Task[None]] = set()

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        tasks.add(asyncio.get_running_loop().create_task(work))

    due = DueRuns(store, SystemClock(), spawn)
    due.look()
    answer = await store.asked.get()
    meanwhile(due)
    answer.set_result(result)
    try:
        async with asyncio.timeout(10):
            await store.asked.get()
    except TimeoutError:
        return False
    finally:
        due.stop()
        for task in tasks:
            task.cancel()
    return True


@pytest.mark.parametrize("result", [None, LATER])
def test_what_is_registered_while_the_store_is_asked_is_waited_for(result: int | None) -> None:
    now = SystemClock().now()
    following = None if result is None else now + result
    assert asyncio.run(look_while(following, lambda due: due.not_after(now + SOON)))


def test_what_is_registered_later_does_not_delay_the_next() -> None:
    now = SystemClock().now()
    assert asyncio.run(look_while(now + SOON, lambda due: due.not_after(now + LATER)))
