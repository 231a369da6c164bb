"""The ASGI application: the hot route and the probes directly, everything else through FastAPI, imported late."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pydantic_core import to_json

from pullcord.api.admission import Admission, Receive, Scope, Send, respond
from pullcord.api.auth import Authenticator
from pullcord.api.metrics import exposition
from pullcord.api.problems import PROBLEM_TYPE, UNEXPECTED, problem, problem_of
from pullcord.app import App
from pullcord.core.errors import PullcordError

JSON: Final = "application/json"

log = logging.getLogger(__name__)


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
        self._probes: dict[str, Callable[[], Awaitable[tuple[int, bytes, str]]]] = {
            "/healthz": self._alive,
            "/readyz": self._ready,
            "/metrics": self._metrics,
            "/openapi.json": self._document,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call."""
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        if path == "/v1/runs" and method == "POST":
            await self._admission(scope, receive, send)
        elif (probe := self._probes.get(path)) is not None:
            await self._answer(probe, method, send)
        else:
            await self._forward(scope, receive, send)

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        rest = await self.rest()
        try:
            await rest(scope, receive, send)
        except Exception:  # answered already; raised on for the log, where uvicorn would also close the connection
            log.exception("%s %s failed", scope["method"], scope["path"])

    async def rest(self) -> Any:
        """Return the FastAPI application, importing it the first time on a thread."""
        if self._rest is None:
            module = await asyncio.to_thread(_import_rest)
            self._rest = self._rest or module.make_rest(self._app, self._authenticator)
        return self._rest

    async def _answer(self, probe: Callable[[], Awaitable[tuple[int, bytes, str]]], method: str, send: Send) -> None:
        if method not in ("GET", "HEAD"):
            refusal = problem("method_not_allowed", "this address does not take that method")
            await respond(send, *refusal, PROBLEM_TYPE, extra=[(b"allow", b"GET, HEAD")])
            return
        try:
            status, body, kind = await probe()
        except PullcordError as error:
            await respond(send, *problem_of(error), PROBLEM_TYPE)
            return
        except Exception:
            log.exception("a probe failed")
            await respond(send, *problem("internal_error", UNEXPECTED), PROBLEM_TYPE)
            return
        await respond(send, status, body, kind)

    async def _alive(self) -> tuple[int, bytes, str]:
        return 200, b'{"status":"ok"}', JSON

    async def _metrics(self) -> tuple[int, bytes, str]:
        return 200, await exposition(self._app), "text/plain; version=0.0.4; charset=utf-8"

    async def _document(self) -> tuple[int, bytes, str]:
        return 200, to_json((await self.rest()).openapi()), JSON

    async def _ready(self) -> tuple[int, bytes, str]:
        catalog = self._app.engine.catalog
        parts = {
            name: "failed" if state.down is not None else "ready" if state.reported.is_set() else "loading"
            for name, state in catalog.states.items()
        }
        body = {"ready": catalog.ready, "locations": parts, "failures": catalog.failures}
        return 200 if catalog.ready else 503, to_json(body), JSON


def _import_rest() -> Any:
    from pullcord.api import rest

    return rest
