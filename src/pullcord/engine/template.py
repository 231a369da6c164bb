"""The server's end of a location's template process: asks it to fork workers, hears of their ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from pullcord.core.errors import LocationError
from pullcord.engine.launch import launch

PATIENCE: Final = 1.0
"""Seconds that a template gets to end by itself when its socket is closed."""


class Template:
    """A running template process.

    Args:
        python: the interpreter.
        cwd: its working folder.
        folder: the data folder.
        on_exit: called with a worker's process id and exit status (negative: the signal).
        on_death: called with the template when it is gone.

    Attributes:
        python: the interpreter.

    Raises:
        LocationError: the interpreter cannot be started.
    """

    def __init__(
        self,
        python: str,
        cwd: Path,
        folder: Path,
        on_exit: Callable[[int, int], None],
        on_death: Callable[[Template], None],
    ) -> None:
        launched = launch(python, cwd, folder)
        self._process, self._socket = launched.process, launched.socket
        self.python = python
        self._reason: str | None = None
        self._on_exit = on_exit
        self._on_death = on_death
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reaping: asyncio.Task[None] | None = None

    def attach(self) -> None:
        """Begin to listen, on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._readable)

    async def spawn(self) -> tuple[int, socket.socket]:
        """Fork a worker; return its process id and our end of its socket.

        Raises:
            LocationError: the template is gone.
        """
        if self._loop is None:
            await self.ended()  # only then it is known why
            raise LocationError(self._reason or "the template process was ended")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            self._count += 1
            number = self._count
            try:
                socket.send_fds(self._socket, [json.dumps({"spawn": number}).encode()], [theirs.fileno()])
            except (BrokenPipeError, ConnectionResetError):
                pass  # it is gone: what it had to say is read next, and the future gets to know
            except OSError as error:
                raise LocationError(f"the template process cannot be asked for a worker: {error}") from None
            self._waiting[number] = self._loop.create_future()
            return await self._waiting[number], ours
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()

    def _readable(self) -> None:
        """Take one message, so that who waits for it is woken before the next one is taken."""
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self._take_last_words()
            return
        except OSError:
            data = b""
        if data:
            self._take(json.loads(data))
        else:
            self._end()

    def _take_last_words(self) -> None:
        """It ended and left something unread. The event loop does not tell of such a socket twice."""
        with contextlib.suppress(OSError):
            while data := self._socket.recv(65536):
                self._take(json.loads(data))
        self._end()

    def _take(self, message: dict[str, Any]) -> None:
        if "unfit" in message:
            self._reason = f"the interpreter {self.python} cannot be used: {message['unfit']}"
        elif "spawned" in message:
            future = self._waiting.pop(message["spawned"])
            if not future.done():
                future.set_result(message["pid"])
        else:
            self._on_exit(message["exited"], message["status"])

    def _end(self) -> None:
        self.close()
        assert self._reaping is not None
        self._reaping.add_done_callback(lambda _: self._say_why())

    def _say_why(self) -> None:
        self._reason = self._reason or (
            f"the interpreter {self.python} ended with status {self._process.returncode}; its last words are in the "
            "server's log"
        )
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(LocationError(self._reason))
        self._waiting.clear()
        self._on_death(self)

    def close(self, workers: Collection[int] = ()) -> None:
        """End the template, and its workers and their programs with it; `ended` waits for that.

        Args:
            workers: process ids of the workers that it has, for when it does not come to end them itself.
        """
        if self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop = None
        self._socket.close()
        if self._reaping is None:
            self._reaping = asyncio.get_running_loop().create_task(asyncio.to_thread(self._reap, workers))

    async def ended(self) -> None:
        """Wait until a closed template has ended."""
        if self._reaping is not None:
            await self._reaping

    @property
    def gone(self) -> bool:
        """Whether it was closed and has ended."""
        return self._reaping is not None and self._reaping.done()

    def _reap(self, workers: Collection[int]) -> None:
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            for pid in workers:  # before their parent goes: until then their numbers are nobody else's
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            self._process.kill()
            self._process.wait()
