"""The ASGI application: the hot route and the probes directly, everything else through FastAPI, imported late."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic_core import to_json

from pullcord.api.admission import Admission, Receive, Scope, Send, respond
from pullcord.api.auth import Authenticator
from pullcord.api.metrics import exposition
from pullcord.app import App


class Asgi:
    """Serves a running app.

    Args:
        app: the app.
        authenticator: knows who calls.
    """

    def __init__(self, app: App, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator
        self._admission = Admission(app, authenticator)
        self._rest: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        if path == "/v1/runs" and method == "POST":
            await self._admission(scope, receive, send)
        elif path == "/healthz" and method in ("GET", "HEAD"):
            await respond(send, 200, b'{"status":"ok"}')
        elif path == "/readyz" and method in ("GET", "HEAD"):
            await self._ready(send)
        elif path == "/metrics" and method == "GET":
            text = await exposition(self._app)
            await respond(send, 200, text, "text/plain; version=0.0.4; charset=utf-8")
        elif path == "/openapi.json" and method == "GET":
            await respond(send, 200, to_json((await self.rest()).openapi()))
        else:
            await (await self.rest())(scope, receive, send)

    async def rest(self) -> Any:
        """Return the FastAPI application, importing it the first time on a thread."""
        if self._rest is None:
            module = await asyncio.to_thread(_import_rest)
            self._rest = self._rest or module.make_rest(self._app, self._authenticator)
        return self._rest

    async def _ready(self, send: Send) -> None:
        catalog = self._app.engine.catalog
        parts = {
            name: "failed" if state.down is not None else "ready" if state.reported.is_set() else "loading"
            for name, state in catalog.states.items()
        }
        body = {"ready": catalog.ready, "locations": parts, "failures": catalog.failures}
        await respond(send, 200 if catalog.ready else 503, to_json(body))


def _import_rest() -> Any:
    from pullcord.api import rest

    return rest
