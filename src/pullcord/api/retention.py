"""The routes of retention: how long things are kept, what would go now, and to let it go."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from pullcord.api.dependencies import Caller, json_response
from pullcord.app import App
from pullcord.core.errors import ForbiddenError


def add_retention(rest: FastAPI, app: App) -> None:
    """Add the routes of retention."""

    @rest.get("/v1/retention", tags=["server"], summary="How long things are kept, and what was pruned last")
    async def retention() -> Any:
        return json_response(_state(app))

    @rest.get("/v1/retention/preview", tags=["server"], summary="What would be pruned now; nothing is")
    async def preview() -> Any:
        return json_response((await app.pruner.preview()).as_json())

    @rest.post("/v1/retention/prune", tags=["server"], summary="Prune now, in the background", status_code=202)
    async def prune(invoker: Caller) -> Any:
        if not app.policy.may(invoker, "prune", None):
            raise ForbiddenError(f"{invoker.id} may not prune")
        app.pruner.prune_now()
        return json_response(_state(app), 202)


def _state(app: App) -> dict[str, Any]:
    last = app.pruner.last
    flows = {
        name: app.retention.of(keep).as_json()
        for name, spec in sorted(app.engine.catalog.flows.items())
        if (keep := spec.settings.get("keep"))
    }
    return {
        "retention": app.retention.as_json(),
        "flows": flows,
        "pruning": app.pruner.busy,
        "last": None if last is None else last.as_json(),
    }
