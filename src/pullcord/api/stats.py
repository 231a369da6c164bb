"""The routes of figures: of one flow over several windows, of all flows over one."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI

from pullcord.api.dependencies import Limit, Text, json_response
from pullcord.app import App
from pullcord.core.errors import UsageError
from pullcord.core.figures import Window, windows_of
from pullcord.store.connection import Connection
from pullcord.store.queries.figures import SHORT_SAMPLE, flow_figures

ALL_FLOWS: Final = "7d"
"""The window of all flows unless another one is asked for."""


def add_stats(rest: FastAPI, app: App) -> None:
    """Add the routes of figures."""

    @rest.get("/v1/flows/{name}/stats", tags=["flows"], summary="Figures of a flow, over one window or several")
    async def flow_stats(name: str, window: Text = None) -> Any:
        wanted = windows_of(window)
        # What a flow did while it was there can be looked at when it is not in the code any more.
        if name not in app.engine.catalog.removed:
            await app.engine.catalog.resolve(name)
        return json_response(await app.store.read(flow_figures, name, wanted, app.clock.now()))

    @rest.get("/v1/stats", tags=["flows"], summary="Figures of all flows over one window, by name")
    async def stats(window: Text = None, limit: Limit = 50, cursor: Text = None) -> Any:
        wanted = windows_of(ALL_FLOWS if window is None else window)
        if len(wanted) != 1:
            raise UsageError("this call takes one window; GET /v1/flows/{name}/stats takes several")
        names = sorted(name for name in app.engine.catalog.flows if cursor is None or name > cursor)
        page = names[:limit]
        items = await app.store.read(_summaries, page, wanted[0], app.clock.now())
        return json_response({"items": items, "next": page[-1] if len(names) > limit else None})


def _summaries(connection: Connection, names: list[str], window: Window, now: int) -> list[dict[str, Any]]:
    """Return a flat item for each flow: what does not depend on the window, and what does."""
    items = []
    for name in names:
        figures = flow_figures(connection, name, [window], now, SHORT_SAMPLE)
        (of_window,) = figures.pop("windows")
        items.append(figures | of_window)
    return items
