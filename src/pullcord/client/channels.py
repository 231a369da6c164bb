"""Channels: `client.channels`, of both clients."""

from __future__ import annotations

from typing import Any

from pullcord.client import calls
from pullcord.client.aconnection import AsyncConnection
from pullcord.client.calls import Call, Page
from pullcord.client.connection import Connection

_PATIENCE = 300.0
"""Seconds that a channel may take at most, by its settings."""


def _list() -> Call[Page]:
    return calls.get("/v1/channels", calls.page_of)


def _test(name: str) -> Call[dict[str, Any]]:
    """A message may arrive although the connection to the server is lost, so it is not sent again."""
    return Call("POST", f"/v1/channels/{calls.segment(name)}/test", calls.item_of, patience=_PATIENCE)


class Channels:
    """Where messages go: `client.channels`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self) -> Page:
        """Return all channels by name, without their secrets."""
        return self._connection.send(_list())

    def test(self, name: str) -> dict[str, Any]:
        """Send one message now: `{"channel", "kind", "delivered", "seconds", "error", "permanent", "retry_after"}`.

        Raises:
            NotFoundError: there is no such channel.
        """
        return self._connection.send(_test(name))


class AsyncChannels:
    """Where messages go: `client.channels`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def list(self) -> Page:
        """Return all channels by name, without their secrets."""
        return await self._connection.send(_list())

    async def test(self, name: str) -> dict[str, Any]:
        """Send one message now: `{"channel", "kind", "delivered", "seconds", "error", "permanent", "retry_after"}`.

        Raises:
            NotFoundError: there is no such channel.
        """
        return await self._connection.send(_test(name))
