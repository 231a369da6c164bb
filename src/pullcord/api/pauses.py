"""The routes that pause flows and let them go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import FastAPI

from pullcord.api.dependencies import Caller, body_of
from pullcord.api.models import PauseRequest, moment_of
from pullcord.app import App
from pullcord.core.errors import UnavailableError

Pause = Annotated[PauseRequest, body_of(PauseRequest)]


def add_pauses(rest: FastAPI, app: App, show: Callable[[str], Awaitable[Any]]) -> None:
    """Add the routes of pauses.

    Args:
        rest: where they are added.
        app: the running app.
        show: returns a flow's item by its name.
    """

    @rest.post("/v1/flows/{name}/pause", tags=["flows"], summary="Pause a flow: it admits nothing, nothing starts")
    async def pause(name: str, invoker: Caller, body: Pause) -> Any:
        until = None if body.until is None else moment_of(body.until)
        await app.flows.pause(name, body.reason, until, invoker)
        return await _item(show, name, app)

    @rest.post("/v1/flows/{name}/resume", tags=["flows"], summary="Let a paused flow go on")
    async def resume(name: str, invoker: Caller) -> Any:
        await app.flows.resume(name, invoker)
        return await _item(show, name, app)


async def _item(show: Callable[[str], Awaitable[Any]], name: str, app: App) -> Any:
    """Return the flow, or what is known of one whose file is broken just now."""
    try:
        return await show(name)
    except UnavailableError:
        return {"name": name, "paused": app.flows.paused(name)}
