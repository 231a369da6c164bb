"""The routes of limits: how many runs may be active at once, and how to change it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI

from pullcord.api.dependencies import Caller, body_of, json_response
from pullcord.api.models import LimitChange
from pullcord.app import App

Change = Annotated[LimitChange, body_of(LimitChange)]


def add_limits(rest: FastAPI, app: App) -> None:
    """Add the routes of limits."""

    @rest.get("/v1/limits", tags=["limits"], summary="List limits by name, with how much of each is taken")
    async def limits() -> Any:
        return json_response({"items": await app.limits.listed(), "next": None})

    @rest.get("/v1/limits/{limit}", tags=["limits"], summary="Look at the limit of a flow, or of a group:NAME")
    async def limit(limit: str) -> Any:
        return json_response(await app.limits.get(limit))

    @rest.patch("/v1/limits/{limit}", tags=["limits"], summary="Change a limit; it holds at once")
    async def change(limit: str, invoker: Caller, body: Change) -> Any:
        if body.reset:
            return json_response(await app.limits.reset(limit, body.reason, invoker))
        return json_response(await app.limits.change(limit, body.limit, body.reason, invoker))
