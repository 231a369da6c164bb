"""Notifications for clients: what was told, what was not, and who is told of what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from pullcord.client import calls
from pullcord.client.aconnection import AsyncConnection
from pullcord.client.calls import Call, Moment, Page
from pullcord.client.connection import Connection
from pullcord.client.paging import pages, pages_async


class Notifications:
    """Notifications: `client.notifications`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(
        self,
        *,
        state: str | None = None,
        channel: str | None = None,
        flow: str | None = None,
        event: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of notifications, newest first; `state` is `pending`, `delivered` or `failed`."""
        return self._connection.send(_list(state, channel, flow, event, limit, cursor))

    def iter(self, **filters: Any) -> Iterator[dict[str, Any]]:
        """Yield all notifications that `list` would show, page after page."""
        return pages(self.list, filters)

    def get(self, notification_id: str) -> dict[str, Any]:
        """Return a notification with its message.

        Raises:
            NotFoundError: there is none.
        """
        return self._connection.send(_get(notification_id))

    def retry(self, notification_id: str) -> dict[str, Any]:
        """Have a notification sent now, also one that was given up.

        Raises:
            NotFoundError: there is none.
            AlreadyDeliveredError: it has arrived.
        """
        return self._connection.send(_retry(notification_id))

    def rules(self, flow: str) -> dict[str, Any]:
        """Return who is told of what about a flow, and what people changed about it."""
        return self._connection.send(_rules(flow))

    def change(
        self,
        flow: str,
        *,
        rules: Sequence[Mapping[str, Any]] | None = None,
        add: Sequence[Mapping[str, Any]] | None = None,
        remove: Sequence[str | Mapping[str, Any]] | None = None,
        muted: bool | None = None,
        until: Moment | None = None,
        reason: str | None = None,
    ) -> dict[str, Any]:
        """Change who is told of what about a flow; what is not given stays as it is.

        Args:
            flow: the flow's name.
            rules: rules that hold besides those of the code and the settings, instead of those that people gave so far.
            add: rules that hold as well.
            remove: events whose rules, of those that people gave, hold no longer, each as its name or, where only some
                channels are no longer told, as `{"event": …, "channels": […]}`; before any are added.
            muted: whether nothing is told of the flow.
            until: when it is told of again, where it is muted.
            reason: why, kept with the change.
        """
        return self._connection.send(_change(flow, rules, add, remove, muted, until, reason))


class AsyncNotifications:
    """Notifications: `client.notifications`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def list(
        self,
        *,
        state: str | None = None,
        channel: str | None = None,
        flow: str | None = None,
        event: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of notifications, newest first; `state` is `pending`, `delivered` or `failed`."""
        return await self._connection.send(_list(state, channel, flow, event, limit, cursor))

    def iter(self, **filters: Any) -> AsyncIterator[dict[str, Any]]:
        """Yield all notifications that `list` would show, page after page."""
        return pages_async(self.list, filters)

    async def get(self, notification_id: str) -> dict[str, Any]:
        """Return a notification with its message.

        Raises:
            NotFoundError: there is none.
        """
        return await self._connection.send(_get(notification_id))

    async def retry(self, notification_id: str) -> dict[str, Any]:
        """Have a notification sent now, also one that was given up.

        Raises:
            NotFoundError: there is none.
            AlreadyDeliveredError: it has arrived.
        """
        return await self._connection.send(_retry(notification_id))

    async def rules(self, flow: str) -> dict[str, Any]:
        """Return who is told of what about a flow, and what people changed about it."""
        return await self._connection.send(_rules(flow))

    async def change(
        self,
        flow: str,
        *,
        rules: Sequence[Mapping[str, Any]] | None = None,
        add: Sequence[Mapping[str, Any]] | None = None,
        remove: Sequence[str | Mapping[str, Any]] | None = None,
        muted: bool | None = None,
        until: Moment | None = None,
        reason: str | None = None,
    ) -> dict[str, Any]:
        """Change who is told of what about a flow; what is not given stays as it is.

        Args:
            flow: the flow's name.
            rules: rules that hold besides those of the code and the settings, instead of those that people gave so far.
            add: rules that hold as well.
            remove: events whose rules, of those that people gave, hold no longer, each as its name or, where only some
                channels are no longer told, as `{"event": …, "channels": […]}`; before any are added.
            muted: whether nothing is told of the flow.
            until: when it is told of again, where it is muted.
            reason: why, kept with the change.
        """
        return await self._connection.send(_change(flow, rules, add, remove, muted, until, reason))


def _list(
    state: str | None, channel: str | None, flow: str | None, event: str | None, limit: int, cursor: str | None
) -> Call[Page]:
    return calls.get(
        "/v1/notifications", calls.page_of, state=state, channel=channel, flow=flow, event=event, limit=limit,
        cursor=cursor,
    )  # fmt: skip


def _get(notification_id: str) -> Call[dict[str, Any]]:
    return calls.get(f"/v1/notifications/{calls.segment(notification_id)}", calls.item_of)


def _retry(notification_id: str) -> Call[dict[str, Any]]:
    return Call("POST", f"/v1/notifications/{calls.segment(notification_id)}/retry", calls.item_of, repeatable=True)


def _rules(flow: str) -> Call[dict[str, Any]]:
    return calls.get(f"/v1/flows/{calls.segment(flow)}/notifications", calls.item_of)


def _change(
    flow: str,
    rules: Sequence[Mapping[str, Any]] | None,
    add: Sequence[Mapping[str, Any]] | None,
    remove: Sequence[str | Mapping[str, Any]] | None,
    muted: bool | None,
    until: Moment | None,
    reason: str | None,
) -> Call[dict[str, Any]]:
    end = None if until is None else calls.moment(until)
    fields = {"rules": rules, "add": add, "remove": remove, "muted": muted, "until": end, "reason": reason}
    body = calls.encode({name: value for name, value in fields.items() if value is not None})
    path = f"/v1/flows/{calls.segment(flow)}/notifications"
    return Call("PUT", path, calls.item_of, body=body, repeatable=True)
