"""The routes of notifications: look at the outbox, send again, and say who is told of what."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import FastAPI
from pydantic import AfterValidator

from pullcord.api.dependencies import Caller, Cursor, Limit, Text, body_of, json_response
from pullcord.api.models import Moment, Strict, Words, moment_of
from pullcord.app import App
from pullcord.core.errors import NotFoundError
from pullcord.store.queries.outbox import NotificationFilter
from pullcord.store.queries.page import Page


def _notification_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        message = f"no notification has the id {text[:60]!r}; `pullcord notify list` shows the latest"
        raise NotFoundError(message) from None


NotificationId = Annotated[str, AfterValidator(_notification_id)]


class NotificationChange(Strict):
    """What is to be different about a flow's notifications; what is left out stays as it is."""

    rules: list[dict[str, Any]] | None = None
    add: list[dict[str, Any]] | None = None
    remove: list[str | dict[str, Any]] | None = None
    muted: bool | None = None
    until: Moment | None = None
    reason: Words | None = None

    def changes(self) -> dict[str, Any]:
        """Return what was sent."""
        return {name: getattr(self, name) for name in self.model_fields_set}


Change = Annotated[NotificationChange, body_of(NotificationChange)]


def add_notifications(rest: FastAPI, app: App) -> None:
    """Add the routes of notifications."""

    @rest.get("/v1/notifications", tags=["notifications"], summary="List notifications, newest first")
    async def notifications(
        state: Literal["pending", "delivered", "failed"] | None = None, channel: Text = None, flow: Text = None,
        event: Text = None, limit: Limit = 50, cursor: Cursor = None,
    ) -> Any:  # fmt: skip
        which = NotificationFilter(state, channel, flow, event)
        return json_response(await app.notifications.listed(which, Page(limit, cursor)))

    @rest.get("/v1/notifications/{notification_id}", tags=["notifications"], summary="Look at a notification")
    async def notification(notification_id: NotificationId) -> Any:
        return json_response(await app.notifications.get(notification_id))

    @rest.post(
        "/v1/notifications/{notification_id}/retry", tags=["notifications"], summary="Send it now", status_code=202
    )
    async def retry(notification_id: NotificationId, invoker: Caller) -> Any:
        return await app.notifications.retry(notification_id, invoker.id)

    @rest.get("/v1/flows/{name}/notifications", tags=["notifications"], summary="Who is told of what about a flow")
    async def rules(name: str) -> Any:
        return json_response(app.notifications.rules(await app.engine.catalog.resolve(name)))

    @rest.put("/v1/flows/{name}/notifications", tags=["notifications"], summary="Change who is told, or mute a flow")
    async def change(name: str, invoker: Caller, body: Change) -> Any:
        spec = await app.engine.catalog.resolve(name)
        until = None if body.until is None else moment_of(body.until)
        return json_response(await app.notifications.change(spec, body.changes(), until, invoker.id))
