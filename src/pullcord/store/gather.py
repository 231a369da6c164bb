"""Look-ups of the same moment share one query: the reading side of group commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from pullcord.store.connection import Connection
from pullcord.store.store import Store

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Gather(Generic[K, V]):
    """Gathers keys while a query is on its way, and looks all of them up with the next one.

    Args:
        store: where to look.
        query: takes a connection and keys; returns what was found, by key.
    """

    def __init__(self, store: Store, query: Callable[[Connection, list[K]], dict[K, V]]) -> None:
        self._store = store
        self._query = query
        self._wanted: dict[K, list[asyncio.Future[V | None]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """Return what belongs to a key, or None.

        Raises:
            StoreError: the query failed.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[V | None] = loop.create_future()
        self._wanted.setdefault(key, []).append(future)
        if self._task is None:
            self._task = loop.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._wanted:
            wanted, self._wanted = self._wanted, {}
            found: dict[K, V] = {}
            failure: Exception | None = None
            try:
                found = await self._store.read(self._query, list(wanted))
            except Exception as error:
                failure = error
            for key, futures in wanted.items():
                for future in futures:
                    if future.done():
                        continue
                    if failure is None:
                        future.set_result(found.get(key))
                    else:
                        future.set_exception(failure)
        self._task = None
