"""All kinds of triggers that a server has: the built-in ones, and those that other packages bring.

A third-party kind is a class with the methods of `Trigger`, registered under the entry-point group
`pullcord.triggers`. One that fails stops no other.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Final

from pullcord.core.errors import UsageError
from pullcord.triggers.completions import Completions
from pullcord.triggers.events import Events
from pullcord.triggers.protocol import Trigger
from pullcord.triggers.registry import Registry
from pullcord.triggers.schedules import Schedules
from pullcord.triggers.webhooks import Webhooks

log = logging.getLogger(__name__)

GROUP: Final = "pullcord.triggers"
"""The entry-point group of third-party kinds."""


class TriggerKinds:
    """Starts and stops all kinds of triggers.

    Args:
        deps: what they take what they need from.

    Attributes:
        registry: all declared triggers.
        failures: what went wrong with which kind.
    """

    def __init__(self, deps: Mapping[str, Any]) -> None:
        self.registry: Registry = deps["registry"]
        self.schedules = Schedules()
        self.events = Events()
        self.webhooks = Webhooks()
        self.failures: dict[str, str] = {}
        self._deps = deps
        self._kinds: dict[str, Trigger] = {}
        built_in: dict[str, Trigger] = {
            "schedules": self.schedules,
            "events": self.events,
            "webhooks": self.webhooks,
            "completions": Completions(),
        }
        for name, kind in built_in.items():
            kind.init(deps)
            self._kinds[name] = kind

    def start(self) -> None:
        """Start all kinds."""
        for point in entry_points(group=GROUP):
            try:
                if point.name in self._kinds:
                    raise UsageError(f"there is a kind {point.name!r} already; {point.value} needs another name")
                kind: Trigger = point.load()()
                kind.init(self._deps)
            except Exception as error:
                self._failed(point.name, "set up", error)
            else:
                self._kinds[point.name] = kind
        for name, kind in list(self._kinds.items()):
            try:
                kind.start()
            except Exception as error:
                self._failed(name, "started", error)
                del self._kinds[name]

    async def stop(self) -> None:
        """Stop all kinds, the last one first."""
        kinds, self._kinds = self._kinds, {}
        for name, kind in reversed(kinds.items()):
            try:
                stopping = kind.stop()
                if inspect.isawaitable(stopping):
                    await stopping
            except Exception as error:
                self._failed(name, "stopped", error)
        await self.registry.stop()

    def routes(self) -> list[Any]:
        """Return the HTTP routes that the kinds want served."""
        found: list[Any] = []
        for name, kind in self._kinds.items():
            try:
                found += kind.routes()
            except Exception as error:
                self._failed(name, "asked for its routes", error)
        return found

    def _failed(self, name: str, what: str, error: Exception) -> None:
        self.failures[name] = f"it could not be {what}: {type(error).__name__}: {error}"
        log.error("the trigger kind %s could not be %s", name, what, exc_info=error, extra={"kind": name})
