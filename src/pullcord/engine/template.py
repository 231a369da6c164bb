"""The server's end of a location's template process: asks it to fork workers, hears of their ends."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pullcord
from pullcord.core.errors import LocationError

PATIENCE: Final = 1.0
"""Seconds that a template gets to end by itself when its socket is closed."""


class Template:
    """A running template process.

    Args:
        python: the interpreter.
        cwd: its working folder.
        on_exit: called with a worker's process id and exit status (negative: the signal).
        on_death: called when the template itself is gone.
    """

    def __init__(
        self, python: str, cwd: Path, on_exit: Callable[[int, int], None], on_death: Callable[[], None]
    ) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = os.environ | {"PYTHONPATH": _python_path(), "PYTHONUNBUFFERED": "1"}
        try:
            self._process = subprocess.Popen(
                [python, "-P", "-m", "pullcord.worker", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise LocationError(f"the interpreter {python} cannot be started: {error.strerror}") from None
        finally:
            theirs.close()
        ours.setblocking(False)
        self._socket = ours
        self._on_exit = on_exit
        self._on_death = on_death
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def attach(self) -> None:
        """Begin to listen, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._readable)

    async def spawn(self) -> tuple[int, socket.socket]:
        """Fork a worker; return its process id and our end of its socket.

        Raises:
            LocationError: the template is gone.
        """
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            self._count += 1
            number = self._count
            try:
                socket.send_fds(self._socket, [json.dumps({"spawn": number}).encode()], [theirs.fileno()])
            except OSError as error:
                raise LocationError(f"the template process is gone: {error}") from None
            self._waiting[number] = loop.create_future()
            return await self._waiting[number], ours
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(LocationError("the template process ended; look at the server's log"))
            self._waiting.clear()
            self._on_death()
            return
        message = json.loads(data)
        if "spawned" in message:
            future = self._waiting.pop(message["spawned"])
            if not future.done():
                future.set_result(message["pid"])
        else:
            self._on_exit(message["exited"], message["status"])

    def close(self) -> None:
        """End the template, and its workers and their programs with it."""
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop = None
        self._socket.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _python_path() -> str:
    """Put this installation's package on a worker's path, whatever its interpreter."""
    own = str(Path(str(pullcord.__path__[0])).parent)
    rest = os.environ.get("PYTHONPATH")
    return own if not rest else f"{own}{os.pathsep}{rest}"
