"""Look-ups of the same moment share one query."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pullcord.core.errors import StoreError
from pullcord.store.connection import Connection
from pullcord.store.gather import Gather
from pullcord.store.store import Store


async def test_look_ups_of_one_moment_share_queries(store: Store) -> None:
    asked: list[list[int]] = []
    loop, begun, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def query(_: Connection, keys: list[int]) -> dict[int, str]:
        asked.append(keys)
        loop.call_soon_threadsafe(begun.set)
        assert go.wait(60)
        return {key: f"v{key}" for key in keys if key != 3}

    gather = Gather(store, query)
    tasks = [asyncio.create_task(gather.get(key)) for key in (1, 1)]
    await begun.wait()
    tasks += [asyncio.create_task(gather.get(key)) for key in (2, 3, 2, 1)]
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*tasks) == ["v1", "v1", "v2", None, "v2", "v1"]
    assert [sorted(keys) for keys in asked] == [[1], [1, 2, 3]]
    assert await gather.get(4) == "v4", "and it goes on"


async def test_a_query_that_fails_fails_its_callers_and_no_later_one(store: Store) -> None:
    broken = [True]

    def query(connection: Connection, keys: list[int]) -> dict[int, int]:
        if broken[0]:
            connection.execute("SELECT * FROM nowhere")
        return {key: key for key in keys}

    gather = Gather(store, query)
    results = await asyncio.gather(gather.get(1), gather.get(2), return_exceptions=True)
    assert [type(result) for result in results] == [StoreError, StoreError]
    broken[0] = False
    assert await gather.get(1) == 1


async def test_a_caller_who_went_away_disturbs_nobody(store: Store) -> None:
    gather = Gather(store, lambda _, keys: {key: key for key in keys})
    gone, there = asyncio.create_task(gather.get(1)), asyncio.create_task(gather.get(1))
    await asyncio.sleep(0)
    gone.cancel()
    assert await there == 1
    with pytest.raises(asyncio.CancelledError):
        await gone
