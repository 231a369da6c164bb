"""What clients ask of flows beyond looking at them, sync and async: pause them, and let them go on."""

from __future__ import annotations

from typing import Any

from pullcord.client import calls
from pullcord.client.aconnection import AsyncConnection
from pullcord.client.calls import Call, Moment
from pullcord.client.connection import Connection


def _pause(name: str, reason: str, until: Moment | None) -> Call[dict[str, Any]]:
    """`POST /v1/flows/{name}/pause`, which says the same when it is sent twice."""
    body = {"reason": reason} | ({} if until is None else {"until": calls.moment(until)})
    path = f"/v1/flows/{calls.segment(name)}/pause"
    return Call("POST", path, calls.item_of, body=calls.encode(body), repeatable=True)


def _resume(name: str) -> Call[dict[str, Any]]:
    """`POST /v1/flows/{name}/resume`, likewise."""
    return Call("POST", f"/v1/flows/{calls.segment(name)}/resume", calls.item_of, repeatable=True)


class FlowPauses:
    """The part of `client.flows` that pauses."""

    _connection: Connection

    def pause(self, name: str, reason: str, until: Moment | None = None) -> dict[str, Any]:
        """Pause a flow; return it. Requests for it are refused with `flow_paused`, and what waits does not start.

        Args:
            name: the flow's name.
            reason: why; everybody who is refused reads it.
            until: when the pause ends by itself; never unless given.

        Raises:
            NotFoundError: there is no such flow.
            UsageError: there is no reason, or the end has passed.
        """
        return self._connection.send(_pause(name, reason, until))

    def resume(self, name: str) -> dict[str, Any]:
        """Let a flow go on; return it. One that is not paused stays as it is.

        Raises:
            NotFoundError: there is no such flow.
        """
        return self._connection.send(_resume(name))


class AsyncFlowPauses:
    """The part of `client.flows` that pauses."""

    _connection: AsyncConnection

    async def pause(self, name: str, reason: str, until: Moment | None = None) -> dict[str, Any]:
        """Pause a flow; return it. Requests for it are refused with `flow_paused`, and what waits does not start.

        Args:
            name: the flow's name.
            reason: why; everybody who is refused reads it.
            until: when the pause ends by itself; never unless given.

        Raises:
            NotFoundError: there is no such flow.
            UsageError: there is no reason, or the end has passed.
        """
        return await self._connection.send(_pause(name, reason, until))

    async def resume(self, name: str) -> dict[str, Any]:
        """Let a flow go on; return it. One that is not paused stays as it is.

        Raises:
            NotFoundError: there is no such flow.
        """
        return await self._connection.send(_resume(name))
