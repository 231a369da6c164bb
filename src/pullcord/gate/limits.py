"""Limits while the server runs: looked at, changed by people, given back to code and settings."""

from __future__ import annotations

from typing import Any

from pullcord.clock import Clock, rfc3339
from pullcord.core.errors import ForbiddenError, NotFoundError
from pullcord.engine.catalog import Catalog
from pullcord.gate.policy import Policy
from pullcord.gate.request import Invoker
from pullcord.store.commands.limits import ChangeLimit
from pullcord.store.queries.limits import list_limits
from pullcord.store.store import Store


class Limits:
    """How many runs of flows and groups may be active at once.

    Args:
        store: where limits are.
        catalog: knows the flows.
        policy: knows who may change them.
        clock: the time.
    """

    def __init__(self, store: Store, catalog: Catalog, policy: Policy, clock: Clock) -> None:
        self._store = store
        self._catalog = catalog
        self._policy = policy
        self._clock = clock

    async def listed(self) -> list[dict[str, Any]]:
        """Return all limits by name: `{"name", "kind", "limit", "declared", "override", "held", "queued", …}`."""
        return await self._store.read(list_limits)

    async def get(self, name: str) -> dict[str, Any]:
        """Return one limit.

        Args:
            name: the flow's name, or `group:NAME`.

        Raises:
            NotFoundError: there is none.
        """
        found = await self._store.read(list_limits, name)
        if not found:
            raise NotFoundError(f"there is no limit called {name!r}; `pullcord limits list` shows all")
        return found[0]

    async def change(self, name: str, limit: int | None, reason: str | None, invoker: Invoker) -> dict[str, Any]:
        """Have another limit hold, at once, for those that run too; return it.

        Args:
            name: the flow's name, or `group:NAME`.
            limit: how many runs may be active; None is no limit.
            reason: why, kept with it.
            invoker: who changes it.

        Raises:
            NotFoundError: there is no such limit.
            ForbiddenError: the invoker may not.
        """
        override = {"limit": limit, "by": invoker.id, "at": rfc3339(self._clock.now()), "reason": reason}
        # Counted from now on: what is admitted while this is written must not slip by the new limit.
        before = name in self._catalog.limited
        self._catalog.limited.add(name)
        try:
            await self._write(name, override, reason, invoker)
        except BaseException:
            if not before:
                self._catalog.limited.discard(name)
            raise
        return await self.get(name)

    async def reset(self, name: str, reason: str | None, invoker: Invoker) -> dict[str, Any]:
        """Have the limit of code and settings hold again; return it.

        Raises:
            NotFoundError: there is no such limit.
            ForbiddenError: the invoker may not.
        """
        await self._write(name, None, reason, invoker)
        self._catalog.limited.discard(name)
        return await self.get(name)

    async def _write(self, name: str, override: dict[str, Any] | None, reason: str | None, invoker: Invoker) -> None:
        if not self._policy.may(invoker, "change", name):
            raise ForbiddenError(f"{invoker.id} may not change the limit of {name}")
        await self._store.write(lambda done: ChangeLimit(name, override, invoker.id, reason, done))
