"""Limits: `client.limits`. Each is named by its flow, or as `group:NAME`."""

from __future__ import annotations

from typing import Any

from pullcord.client import calls
from pullcord.client.aconnection import AsyncConnection
from pullcord.client.connection import Connection


class Limits:
    """How many runs of flows and groups may be active at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> calls.Page:
        """Return all limits by name, with how much of each is taken."""
        return self._connection.send(_list())

    def get(self, name: str) -> dict[str, Any]:
        """Return a limit.

        Raises:
            NotFoundError: there is no such limit.
        """
        return self._connection.send(_get(name))

    def set(self, name: str, limit: int | None, reason: str | None = None) -> dict[str, Any]:
        """Have another limit hold at once; return it.

        Args:
            name: a flow's name, or `group:NAME`.
            limit: how many runs may be active; None is no limit.
            reason: why, kept with it.

        Raises:
            NotFoundError: there is no such limit.
        """
        return self._connection.send(_change(name, {"limit": limit, "reason": reason}))

    def reset(self, name: str, reason: str | None = None) -> dict[str, Any]:
        """Have the limit of code and settings hold again; return it.

        Raises:
            NotFoundError: there is no such limit.
        """
        return self._connection.send(_change(name, {"reset": True, "reason": reason}))


class AsyncLimits:
    """The same for `AsyncClient`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def list(self) -> calls.Page:
        """Return all limits by name, with how much of each is taken."""
        return await self._connection.send(_list())

    async def get(self, name: str) -> dict[str, Any]:
        """Return a limit.

        Raises:
            NotFoundError: there is no such limit.
        """
        return await self._connection.send(_get(name))

    async def set(self, name: str, limit: int | None, reason: str | None = None) -> dict[str, Any]:
        """Have another limit hold at once; return it.

        Args:
            name: a flow's name, or `group:NAME`.
            limit: how many runs may be active; None is no limit.
            reason: why, kept with it.

        Raises:
            NotFoundError: there is no such limit.
        """
        return await self._connection.send(_change(name, {"limit": limit, "reason": reason}))

    async def reset(self, name: str, reason: str | None = None) -> dict[str, Any]:
        """Have the limit of code and settings hold again; return it.

        Raises:
            NotFoundError: there is no such limit.
        """
        return await self._connection.send(_change(name, {"reset": True, "reason": reason}))


def _list() -> calls.Call[calls.Page]:
    return calls.get("/v1/limits", calls.page_of)


def _get(name: str) -> calls.Call[dict[str, Any]]:
    return calls.get(f"/v1/limits/{calls.segment(name)}", calls.item_of)


def _change(name: str, body: dict[str, Any]) -> calls.Call[dict[str, Any]]:
    return calls.Call("PATCH", f"/v1/limits/{calls.segment(name)}", calls.item_of, body=calls.encode(body))
