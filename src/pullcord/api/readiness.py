"""`/readyz`: whether the server can do its work, and which part of it cannot."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from pullcord.app import App
from pullcord.core.errors import PullcordError
from pullcord.engine.worker import SHARED
from pullcord.store.commands.probe import Probe

FRESH: Final = 5.0
"""Seconds for which a commit proves that the store can be written; after that a small write finds out."""

PATIENCE: Final = 2.0
"""Seconds that this write may take."""

READY: Final = "ready"

KIND: Final = "trigger kind"
"""What the part of a trigger kind that failed is called, before its name."""


CHANNEL: Final = "channel"
"""What the part of a channel that takes nothing is called, before its name; it keeps nobody from working."""


class Readiness:
    """Looks at the parts of a server.

    Args:
        app: the running app.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._probe: asyncio.Task[Any] | None = None

    async def report(self) -> dict[str, Any]:
        """Return `{"ready", "locations", "failures", "parts"}`.

        The server is ready when it listens, every location has reported or failed, and the store can be written. A
        location or a trigger kind that failed, or workers that are being replaced, are told but keep nobody else from
        working.
        """
        catalog, trouble = self._app.engine.catalog, await self._store_trouble()
        stopping = self._app.engine.stopping
        locations = {
            name: "failed" if state.down is not None else READY if state.reported.is_set() else "loading"
            for name, state in catalog.states.items()
        }
        parts = [
            _part("listening", not stopping, "it is stopping, and starts nothing new" if stopping else "it answers"),
            _part("store", trouble is None, trouble or "it can be written"),
        ]
        for name, state in locations.items():
            parts += [self._location(name, state), self._workers(name)]
        parts += [_part(f"{KIND} {name}", False, reason) for name, reason in self._app.kinds.failures.items()]
        parts += [_part(f"{CHANNEL} {name}", False, reason) for name, reason in await self._untold()]
        return {
            "ready": catalog.ready and self._app.registry.ready and trouble is None and not stopping,
            "locations": locations,
            "failures": catalog.failures,
            "parts": parts,
        }

    async def _untold(self) -> list[tuple[str, str]]:
        """Return channels that cannot be told, and why; nothing while the store cannot be read."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._app.notifications.troubles()
        except (PullcordError, TimeoutError):
            return []

    def _location(self, name: str, state: str) -> dict[str, Any]:
        known = self._app.engine.catalog.states[name]
        if state != READY:
            return _part(f"location {name}", False, known.down or "its code is being loaded")
        detail = f"{len(known.flows)} flow{'' if len(known.flows) == 1 else 's'}"
        if known.failures:
            first = known.failures[0]
            detail += f", {len(known.failures)} not loaded; the first at {first.place}: {first.message}"
        return _part(f"location {name}", True, detail)

    def _workers(self, name: str) -> dict[str, Any]:
        workers = [worker for worker in self._app.engine.fleets[name].workers if worker.role == SHARED]
        ready = sum(worker.ready and not worker.retired for worker in workers)
        return _part(f"workers {name}", ready > 0, f"{ready} of {len(workers)} ready")

    async def _store_trouble(self) -> str | None:
        """Return why the store cannot be written, or None."""
        store = self._app.store
        if not store.alive:
            return "its writer has died; restart the server, and look into its log for the reason"
        statistics = store.statistics
        if statistics.failing is None and time.monotonic() - statistics.last_commit < FRESH:
            return None
        if self._probe is None or self._probe.done():
            self._probe = asyncio.get_running_loop().create_task(store.write(Probe))
        # Shared by all who ask at once; when it takes too long it goes on, and answers those who ask later.
        done, _ = await asyncio.wait({self._probe}, timeout=PATIENCE)
        if not done:
            return f"a small write has not come through for {PATIENCE:g} s: the disk or the database hangs"
        try:
            self._probe.result()
        except PullcordError as error:
            return error.message
        return None


def _part(name: str, ready: bool, detail: str) -> dict[str, Any]:
    return {"name": name, "ready": ready, "detail": detail}
