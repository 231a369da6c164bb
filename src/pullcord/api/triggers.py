"""The routes of triggers: look at them, change them, try them, ask again for what they asked for."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query

from pullcord.api.dependencies import Caller, Cursor, Limit, Text, body_of, json_response, receipt_response
from pullcord.api.models import PreviewRequest, ReplayRequest, TriggerChange
from pullcord.app import App
from pullcord.store.queries.page import Page

Change = Annotated[TriggerChange, body_of(TriggerChange)]
Preview = Annotated[PreviewRequest, body_of(PreviewRequest, optional=True)]
Replay = Annotated[ReplayRequest, body_of(ReplayRequest)]
Offset = Annotated[int, Query(ge=0, le=1_000_000)]


def add_triggers(rest: FastAPI, app: App) -> None:
    """Add the routes of triggers."""

    @rest.get("/v1/triggers", tags=["triggers"], summary="List triggers by name")
    async def triggers(
        flow: Text = None, kind: Text = None, enabled: bool | None = None, limit: Limit = 50, cursor: Text = None
    ) -> Any:
        found = app.triggers.listed(flow, kind, enabled, after=cursor, limit=limit + 1)
        items = found[:limit]
        return json_response({"items": items, "next": items[-1]["name"] if len(found) > limit else None})

    @rest.get("/v1/triggers/{trigger}", tags=["triggers"], summary="Look at a trigger, by its id or name")
    async def trigger(trigger: str) -> Any:
        return json_response(app.triggers.get(trigger))

    @rest.patch("/v1/triggers/{trigger}", tags=["triggers"], summary="Change a trigger; null is the code's value")
    async def change(trigger: str, invoker: Caller, body: Change) -> Any:
        return json_response(await app.triggers.change(trigger, body.changes(), invoker))

    @rest.get("/v1/triggers/{trigger}/history", tags=["triggers"], summary="What a trigger did, newest first")
    async def history(trigger: str, limit: Limit = 50, cursor: Cursor = None, offset: Offset = 0) -> Any:
        return json_response(await app.triggers.history(trigger, Page(limit, cursor), offset))

    @rest.post("/v1/triggers/{trigger}/preview", tags=["triggers"], summary="What it would do next; it does nothing")
    async def preview(trigger: str, invoker: Caller, body: Preview) -> Any:
        return json_response(await app.triggers.preview(trigger, invoker, body.cursor, body.n))

    @rest.post("/v1/triggers/{trigger}/replay", tags=["triggers"], summary="Ask again for one request", status_code=202)
    async def replay(trigger: str, invoker: Caller, body: Replay) -> Any:
        return receipt_response(await app.triggers.replay(trigger, body.request_id, invoker))
