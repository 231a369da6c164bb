"""The ASGI application: the hot route and the probes directly, everything else through FastAPI, imported late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json

from pullcord.api.admission import Admission, Receive, Scope, Send, respond
from pullcord.api.auth import Authenticator
from pullcord.api.hooks import PREFIX, Hooks
from pullcord.api.problems import PROBLEM_TYPE, problem, problem_of, unexpected_problem
from pullcord.api.readiness import Readiness
from pullcord.api.traffic import LOGGED, Traffic, route_of
from pullcord.app import App
from pullcord.core.errors import PullcordError

if TYPE_CHECKING:
    from pullcord.api.exposition import Exposition

JSON: Final = "application/json"
METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"

ADMISSION: Final = "/v1/runs"
"""The one hot route."""


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
        self._hooks = Hooks(app)
        self._readiness = Readiness(app)
        self._traffic = Traffic()
        self._rest: Any = None
        self._exposition: Exposition | None = None
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
        if path == ADMISSION and method == "POST":
            began = time.perf_counter()
            status = await self._admission(scope, receive, send)
            self._traffic.answered(method, path, status, time.perf_counter() - began)
        elif path.startswith(PREFIX):
            began = time.perf_counter()
            status = await self._hooks(scope, receive, send)
            self._traffic.answered(method, f"{PREFIX}{{name}}", status, time.perf_counter() - began)
        elif (probe := self._probes.get(path)) is not None:
            began = time.perf_counter()
            status = await self._answer(probe, path, method, send)
            self._traffic.answered(method, path, status, time.perf_counter() - began)
        else:
            await self._forward(scope, receive, send)

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        status, streams = 500, False

        async def counted(message: Any) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                streams = any(key == b"content-type" and b"event-stream" in value for key, value in message["headers"])
                self._traffic.streams += streams
            await send(message)

        rest = await self.rest()
        try:
            await rest(scope, receive, counted)
        except Exception as error:
            # What a route raises is answered and logged by the handler for it, and raised on; the rest is news.
            if not scope.get(LOGGED):
                unexpected_problem(error, f"{scope['method']} {scope['path']} failed")
        finally:
            self._traffic.streams -= streams
            seconds = None if streams else time.perf_counter() - began
            self._traffic.answered(scope["method"], route_of(scope), status, seconds)

    async def rest(self) -> Any:
        """Return the FastAPI application, importing it the first time on a thread."""
        if self._rest is None:
            module = await asyncio.to_thread(_import_rest)
            if self._rest is None:
                rest = module.make_rest(self._app, self._authenticator)
                # After our own, so that they cannot stand in their way.
                rest.router.routes.extend(self._app.kinds.routes())
                self._rest = rest
        return self._rest

    async def _answer(
        self, probe: Callable[[], Awaitable[tuple[int, bytes, str]]], path: str, method: str, send: Send
    ) -> int:
        if method not in ("GET", "HEAD"):
            status, body = problem("method_not_allowed", "this address does not take that method")
            await respond(send, status, body, PROBLEM_TYPE, extra=[(b"allow", b"GET, HEAD")])
            return status
        try:
            status, body, kind = await probe()
        except PullcordError as error:
            (status, body), kind = problem_of(error), PROBLEM_TYPE
        except Exception as error:
            (status, body), kind = unexpected_problem(error, f"{method} {path} failed", route=path), PROBLEM_TYPE
        await respond(send, status, body, kind)
        return status

    async def _alive(self) -> tuple[int, bytes, str]:
        return 200, b'{"status":"ok"}', JSON

    async def _metrics(self) -> tuple[int, bytes, str]:
        if self._exposition is None:
            module = await asyncio.to_thread(_import_exposition)
            self._exposition = self._exposition or module.Exposition(self._app, self._traffic)
        return 200, await self._exposition.text(), METRICS

    async def _document(self) -> tuple[int, bytes, str]:
        return 200, to_json((await self.rest()).openapi()), JSON

    async def _ready(self) -> tuple[int, bytes, str]:
        report = await self._readiness.report()
        return 200 if report["ready"] else 503, to_json(report), JSON


def _import_rest() -> Any:
    from pullcord.api import rest

    return rest


def _import_exposition() -> Any:
    from pullcord.api import exposition

    return exposition
