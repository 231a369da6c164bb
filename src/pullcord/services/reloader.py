"""The reloader: watches the files of code locations, and replaces the workers when they change (`pullcord dev`)."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from watchfiles import PythonFilter, awatch

from pullcord.engine.engine import Engine

log = logging.getLogger(__name__)


class Reloader:
    """Watches code.

    Args:
        engine: whose workers to replace.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._task: asyncio.Task[None] | None = None
        self._reloads: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Stop watching."""
        if self._task is not None:
            tasks = [self._task, *self._reloads]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        try:
            await self._watch()
        except Exception:
            log.exception("watching the code failed: changes are not noticed any more; restart to load them")

    async def _watch(self) -> None:
        roots = {name: _root(fleet.location.kind, fleet.location.target) for name, fleet in self._engine.fleets.items()}
        there = {root for root in roots.values() if root.exists()}
        async for changes in awatch(*there, watch_filter=PythonFilter(), debounce=200):
            changed = [Path(path) for _, path in changes]
            for name, root in roots.items():
                if any(path.is_relative_to(root) for path in changed):
                    self._reload(name)

    def _reload(self, name: str) -> None:
        fleet = self._engine.fleets.get(name)
        if fleet is not None:
            task = asyncio.get_running_loop().create_task(fleet.reload())
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)


def _root(kind: str, target: str) -> Path:
    if kind == "module":
        return Path.cwd()
    path = Path(target)
    return path.parent if kind == "file" else path
