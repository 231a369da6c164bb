"""What the clients can say about retention: `client.retention`."""

from __future__ import annotations

from typing import Any

from pullcord.client import calls
from pullcord.client.aconnection import AsyncConnection
from pullcord.client.calls import Call
from pullcord.client.connection import Connection


def get() -> Call[dict[str, Any]]:
    """`GET /v1/retention`."""
    return calls.get("/v1/retention", calls.item_of)


def preview() -> Call[dict[str, Any]]:
    """`GET /v1/retention/preview`, which looks at everything that is old enough."""
    return Call("GET", "/v1/retention/preview", calls.item_of, repeatable=True, patience=600.0)


def prune() -> Call[dict[str, Any]]:
    """`POST /v1/retention/prune`; a round that goes on is not begun again."""
    return Call("POST", "/v1/retention/prune", calls.item_of, repeatable=True)


class Retention:
    """How long things are kept: `client.retention`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self) -> dict[str, Any]:
        """Return the settings, those of flows, and the last round: `{"retention", "flows", "pruning", "last"}`."""
        return self._connection.send(get())

    def preview(self) -> dict[str, Any]:
        """Return what would be pruned now: `{"items": [{"kind", "of", "count", "bytes"}]}`; nothing is."""
        return self._connection.send(preview())

    def prune(self) -> dict[str, Any]:
        """Begin to prune; `get` says how far it is."""
        return self._connection.send(prune())


class AsyncRetention:
    """How long things are kept: `client.retention`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self) -> dict[str, Any]:
        """Return the settings, those of flows, and the last round: `{"retention", "flows", "pruning", "last"}`."""
        return await self._connection.send(get())

    async def preview(self) -> dict[str, Any]:
        """Return what would be pruned now: `{"items": [{"kind", "of", "count", "bytes"}]}`; nothing is."""
        return await self._connection.send(preview())

    async def prune(self) -> dict[str, Any]:
        """Begin to prune; `get` says how far it is."""
        return await self._connection.send(prune())
