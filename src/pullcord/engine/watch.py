"""Reading runs, and waiting until one has started, ended or passed a step."""

from __future__ import annotations

import asyncio
from typing import Any

from pullcord.core.errors import NotFoundError
from pullcord.core.states import ENDED
from pullcord.core.until import reached
from pullcord.engine.hub import Hub
from pullcord.store.connection import Connection
from pullcord.store.gather import Gather
from pullcord.store.queries.limits import explain_waiting
from pullcord.store.queries.runs import load_runs, run_states
from pullcord.store.store import Store

_OVER = {*ENDED, None}
"""States of a run of which no more news comes; that of one that is not there is None."""


class Watch:
    """Reads and awaits runs.

    Args:
        store: where they are.
        hub: the news of them.
    """

    def __init__(self, store: Store, hub: Hub) -> None:
        self._hub = hub
        self._items = Gather(store, _load)
        self._states = Gather(store, run_states)

    async def run(self, uuid: str) -> dict[str, Any]:
        """Return the whole item of a run.

        Raises:
            NotFoundError: there is no such run.
        """
        item = await self._items.get(uuid)
        if item is None:
            raise NotFoundError(
                f"no run has the id {uuid}, or it was kept long enough; `pullcord runs list` shows the latest"
            )
        return item

    async def until(self, uuid: str, what: str, timeout: float | None) -> tuple[dict[str, Any], bool]:
        """Wait for a run.

        Args:
            what: `ended`, `started`, or `step:NAME` (a step of that name has succeeded, or the run has ended).
            timeout: seconds, or None for ever.

        Returns:
            The item, and whether it is so.
        """
        if what == "ended":
            future = self._hub.end_of(uuid)
            if await self._states.get(uuid) in _OVER:
                self._hub.forget(uuid, future)
            else:
                try:
                    async with asyncio.timeout(timeout):
                        await future
                except TimeoutError:
                    self._hub.forget(uuid, future)
            item = await self.run(uuid)
            return item, item["state"] in ENDED
        subscription = self._hub.subscribe(uuid)
        try:
            async with asyncio.timeout(timeout):
                async for item in self._changes(uuid, subscription):
                    if reached(item, what):
                        return item, True
                    if self._hub.closed:
                        break
        except TimeoutError:
            pass
        finally:
            self._hub.unsubscribe(uuid, subscription)
        item = await self.run(uuid)
        return item, reached(item, what)

    async def _changes(self, uuid: str, subscription: Any) -> Any:
        yield await self.run(uuid)
        async for _ in subscription:
            yield await self.run(uuid)


def _load(connection: Connection, uuids: list[str]) -> dict[str, dict[str, Any]]:
    """Return whole items; a run in a queue says what it waits for."""
    items = load_runs(connection, uuids)
    explain_waiting(connection, items.values())
    return items
