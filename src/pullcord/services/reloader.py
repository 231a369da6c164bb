"""The reloader: watches the files of code locations, and replaces the workers when they change (`pullcord dev`)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Final

from watchfiles import PythonFilter, awatch

from pullcord.engine.engine import Engine
from pullcord.services.duty import Duty

log = logging.getLogger(__name__)

LOOK: Final = 500
"""Milliseconds between two looks at which locations there are; changes of files are told at once."""


class Reloader(Duty):
    """Watches code.

    Args:
        engine: whose workers to replace.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._reloads: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Stop watching, and the reloads that are under way."""
        await super().stop()
        for task in self._reloads:
            task.cancel()
        await asyncio.gather(*self._reloads, return_exceptions=True)

    async def _work(self) -> None:
        try:
            await self._watch()
        except Exception:
            log.exception("watching the code failed: changes are not noticed any more; restart to load them")

    async def _watch(self) -> None:
        roots = self._roots()
        while True:
            await self._watch_while_same(roots)
            before, roots = roots, self._roots()
            for name in roots.keys() - {name for name, root in roots.items() if before.get(name) == root}:
                self._reload(name)  # it may have changed while nobody looked

    async def _watch_while_same(self, roots: dict[str, Path]) -> None:
        """Watch until locations come or go, or one appears on the disk."""
        watching = awatch(
            *set(roots.values()), watch_filter=PythonFilter(), debounce=200, rust_timeout=LOOK, yield_on_timeout=True
        )
        async with contextlib.aclosing(watching):
            async for changes in watching:
                changed = [Path(path) for _, path in changes]
                for name, root in roots.items():
                    if any(path.is_relative_to(root) for path in changed):
                        self._reload(name)
                if self._roots() != roots:
                    return

    def _roots(self) -> dict[str, Path]:
        """Return what there is to watch for each location; what is not on the disk cannot be watched."""
        roots = {name: _root(fleet.location.kind, fleet.location.target) for name, fleet in self._engine.fleets.items()}
        return {name: root for name, root in roots.items() if root.exists()}

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
