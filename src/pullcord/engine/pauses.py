"""What the event loop knows of paused flows. The rows decide; this only spares work that they would refuse."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from pullcord.clock import Clock
from pullcord.core.errors import PullcordError
from pullcord.store.commands.pauses import Pause
from pullcord.store.queries.pauses import all_pauses
from pullcord.store.store import Store

log = logging.getLogger(__name__)


class Pauses:
    """The paused flows, read anew after each commit that changed them.

    Args:
        store: has the rows.
        clock: the time.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, Pause] = {}
        self._reading: set[asyncio.Task[None]] = set()
        self._resumed: list[Callable[[str], None]] = []
        store.watch_pauses(self._changed)

    def on_resume(self, resumed: Callable[[str], None]) -> None:
        """Call this, with the flow's name, whenever a flow goes on."""
        self._resumed.append(resumed)

    async def load(self) -> None:
        """Read them.

        Raises:
            StoreError: they cannot be read.
        """
        known = await self._store.read(all_pauses)
        for flow in known.keys() - self._known.keys():
            log.info("%s", known[flow].explain(), extra={"flow": flow})
        gone = self._known.keys() - known.keys()
        self._known = known
        for flow in sorted(gone):
            log.info("%s goes on", flow, extra={"flow": flow})
            for resumed in self._resumed:
                resumed(flow)

    def get(self, flow: str) -> Pause | None:
        """Return the pause of a flow, unless its time is over."""
        pause = self._known.get(flow)
        if pause is None or (pause.until is not None and pause.until <= self._clock.now()):
            return None
        return pause

    def shown(self, flow: str) -> dict[str, Any] | None:
        """Return the pause of a flow as the API shows it."""
        pause = self.get(flow)
        return None if pause is None else pause.as_json()

    def _changed(self, _: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._read_again())
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _read_again(self) -> None:
        try:
            await self.load()
        except PullcordError as error:
            log.warning("the paused flows could not be read: %s", error)
