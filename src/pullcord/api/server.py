"""The HTTP server process: from settings to a listening socket, and back down without losing anything."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import json
import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
import uvloop

import pullcord
from pullcord.api.asgi import Asgi
from pullcord.api.auth import Authenticator
from pullcord.app import App
from pullcord.core.errors import PullcordError, UsageError
from pullcord.settings import Settings

log = logging.getLogger(__name__)

RECORD = "server.json"
"""The file in the data folder that says where its server listens."""

SOCKET = "server.sock"

GARBAGE_EVERY = 20_000
"""Allocations between looks for cyclic garbage; at Python's default of 700 each POST pays for about one."""

DRAIN = 10.0
"""Seconds that active runs get to end after SIGTERM or SIGINT."""


class _Uvicorn(uvicorn.Server):
    """Uvicorn without its own signal handlers: stopping is decided here."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


class Listener:
    """A running app that listens.

    Args:
        app: the app, started.
        sockets: bound sockets.
        address: what `server.json` says, `{"url": …}` or `{"socket": …}`.
    """

    def __init__(self, app: App, bound: socket.socket, address: dict[str, str]) -> None:
        self._app = app
        self._bound = bound
        self._record = app.data_dir / RECORD
        self._address = address
        self.asgi = Asgi(app, Authenticator(app.data_dir))
        config = uvicorn.Config(
            self.asgi,
            lifespan="off",
            log_config=None,
            access_log=False,
            http="httptools",
            loop="none",
            ws="none",
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=3,
        )
        self._server = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen, and say where."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._bound]))
        while not self._server.started and not self._task.done():  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.001)
        if self._task.done():
            self._task.result()
        self.findable(True)

    def findable(self, yes: bool) -> None:
        """Say where it listens, or no longer: then nobody comes any more who has not looked it up before."""
        if not yes:
            self._record.unlink(missing_ok=True)
            return
        record = json.dumps({"pid": os.getpid()} | self._address)
        temporary = self._record.with_suffix(".tmp")
        temporary.write_text(record, encoding="utf-8")
        temporary.chmod(0o600)
        temporary.replace(self._record)

    async def stop(self) -> None:
        """Stop listening; who waits for a run is told how far it is."""
        self.findable(False)
        self._app.engine.hub.close()
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._bound.close()


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to a loopback address.

    Raises:
        UsageError: the address is not loopback, or the port is taken.
    """
    if not _is_loopback(host):
        raise UsageError(
            f"refusing to listen on {host}: there are no accounts yet, so the owner's token would guard the network; "
            "listen on 127.0.0.1 and put a reverse proxy with authentication in front"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise UsageError(
            f"cannot listen on {host}:{port}: {error.strerror}; stop what uses the port or choose another with --port"
        ) from None
    return bound


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    settings: Settings, *, reload: bool, ready: Callable[[str, App], None], again: Callable[[], Settings] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; then drain and stop.

    Args:
        settings: how.
        reload: replace the workers when code changes.
        ready: called with the address and the app when every location has reported or failed.
        again: reads the settings again at SIGHUP; only which code is served can change then.

    Raises:
        PullcordError: the server cannot start.
    """
    gc.freeze()
    gc.set_threshold(GARBAGE_EVERY)
    gc.disable()  # until the server is ready: what store and code bring stays, and may be much
    uvloop.run(_serve(settings, reload, ready, again or (lambda: settings)))


async def _serve(
    settings: Settings, reload: bool, ready: Callable[[str, App], None], again: Callable[[], Settings]
) -> None:
    bound = bind(settings.host, settings.port)
    host, port = bound.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    fields = {"url": url, "data": settings.place, "pid": os.getpid(), "version": pullcord.__version__}
    log.info("Pullcord %s starts", pullcord.__version__, extra=fields)
    app = App(
        settings.flows, settings.data_dir, workers=settings.workers, code=settings.code, reload=reload,
        stop_patience=DRAIN, database_url=settings.database_url, channels=settings.channels, limits=settings.limits,
        artifact_limit=settings.artifact_limit, retention=settings.retention,
        invoker_rate=settings.invoker_rate,
        notify=settings.notifying,
    )  # fmt: skip
    try:
        await app.start()
    except BaseException:
        bound.close()
        raise
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, _reload, app, again)
        listener = Listener(app, bound, {"url": url})
        await listener.start()
        waiting = loop.create_task(app.ready())
        stopping = loop.create_task(stop.wait())
        await asyncio.wait([waiting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            waiting.result()
            gc.freeze()
            gc.enable()
            log.info("ready", extra=fields)
            ready(url, app)
        # The import of FastAPI takes a while; whoever calls first need not wait for it, and stopping does not either.
        warming = loop.create_task(listener.asgi.rest())
        await stopping
        waiting.cancel()
        await app.drain()
        await listener.stop()
        await asyncio.gather(warming, return_exceptions=True)
    finally:
        await app.stop()
        log.info("stopped", extra=fields)


def _reload(app: App, again: Callable[[], Settings]) -> None:
    try:
        settings = again()
        app.reload(settings.flows, settings.code)
    except PullcordError as error:
        log.error("nothing was reloaded: %s", error.message)


class LocalServer:
    """The same server inside a command, for when none is running: it listens on a socket in the data folder.

    Args:
        settings: how.

    Attributes:
        socket: path of the socket.
        app: the app.
    """

    def __init__(self, settings: Settings) -> None:
        self.socket = (settings.data_dir / SOCKET).absolute()
        self.app = App(
            settings.flows, settings.data_dir, workers=settings.workers, code=settings.code, only_new=True,
            stop_patience=DRAIN, database_url=settings.database_url, channels=settings.channels, limits=settings.limits,
            artifact_limit=settings.artifact_limit, retention=settings.retention,
            invoker_rate=settings.invoker_rate,
            notify=settings.notifying,
        )  # fmt: skip
        self._listener: Listener | None = None

    async def __aenter__(self) -> Self:
        await self.app.start()
        try:
            self._listener = Listener(self.app, _bind_unix(self.socket), {"socket": str(self.socket)})
            await self._listener.start()
            await self.app.ready()
        except BaseException:
            await self.app.stop()
            raise
        return self

    def findable(self, yes: bool) -> None:
        """Be found by other commands, or no longer: those that come then wait until this one has gone."""
        if self._listener is not None:
            self._listener.findable(yes)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._listener is not None:
            await self._listener.stop()
        await self.app.stop()
        self.socket.unlink(missing_ok=True)


def _bind_unix(path: Path) -> socket.socket:
    """Return a socket bound to a path; long paths are bound from within their folder (the kernel's limit is 107)."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        bound.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    path.chmod(0o600)
    bound.listen(128)
    return bound
