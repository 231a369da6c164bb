"""A real worker process over a real socket, and the server's end of it in the test."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

from pullcord.wire import messages as kinds
from pullcord.wire.frames import Decoder, Message, encode
from pullcord.wire.shape import misfit

_MAIN = """
import socket
from pullcord.worker import instances
from pullcord.worker.main import Worker
instances.TEARDOWN = 60.0  # a slow machine may take longer than the two seconds, and no test is about them
Worker(socket.socket(fileno={})).run()
"""

PREFACE = """
import asyncio, threading, time
from datetime import date
from pathlib import Path
import pullcord as pc
from pullcord.core.context import current
HERE = Path(__file__).parent

@pc.flow
def report(x: int = 1) -> int:
    return x
"""


class ServerEnd:
    """The server's end of the channel to one worker.

    Args:
        folder: where the code is written.
        code: of the location, after `PREFACE`.
        role: as in `load`.
    """

    def __init__(self, folder: Path, code: str, role: str = "control") -> None:
        path = folder / "triggers.py"
        path.write_text(PREFACE + dedent(code), encoding="utf-8")
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(60)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _MAIN.format(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
                text=True,
            )
        self._decoder = Decoder()
        self._received: list[Message] = []
        self._results: dict[int, list[Any]] = {}
        self._ticket = 0
        self.send(kinds.LOAD, "here", "file", str(path), role, None, {"folder": "", "limit": 0})
        self.manifest: dict[str, Any] = self.next(kinds.MANIFEST)[1]

    def send(self, *message: Any) -> None:
        """Send one message."""
        self._socket.sendall(encode([list(message)]))

    def next(self, kind: str) -> Message:
        """Wait for the next message of a kind; each must have the shape that the server accepts."""
        while True:
            for index, message in enumerate(self._received):
                if message[0] == kind:
                    return self._received.pop(index)
            data = self._socket.recv(1 << 20)
            if not data:
                raise EOFError(f"the worker is gone: {self.process.communicate()}")
            for message in self._decoder.feed(data):
                assert misfit(message) is None, message
                self._received.append(message)

    def begin(self, name: str, cursor: Any = None, parameters: Any = None, *, preview: bool = False) -> int:
        """Begin a poll; return its ticket."""
        self._ticket += 1
        text = None if cursor is None else json.dumps(cursor)
        self.send(kinds.POLL, [[self._ticket, name, text, json.dumps(parameters or {}), preview]])
        return self._ticket

    def result(self, ticket: int) -> list[Any]:
        """Wait for a poll's result: outcome, cursor, detail, microseconds, stuck."""
        while ticket not in self._results:
            self._results |= {row[0]: row[1:] for row in self.next(kinds.POLLED)[1]}
        return self._results.pop(ticket)

    def poll(self, name: str, cursor: Any = None, parameters: Any = None, *, preview: bool = False) -> list[Any]:
        """Poll and return outcome, cursor, detail, microseconds, stuck."""
        return self.result(self.begin(name, cursor, parameters, preview=preview))

    def map(self, name: str, payload: Any) -> list[Any]:
        """Map a payload and return outcome and detail."""
        self._ticket += 1
        self.send(kinds.MAP, self._ticket, name, json.dumps(payload))
        message = self.next(kinds.MAPPED)
        assert message[1] == self._ticket
        seen: list[Any] = message[2]
        return seen

    def stop(self) -> tuple[str, str]:
        """Stop the worker; return what it has printed."""
        self.send(kinds.STOP)
        out, err = self.process.communicate(timeout=60)
        return out, err

    def close(self) -> None:
        """End the worker, whatever it does."""
        self._socket.close()
        if self.process.returncode is None:
            self.process.kill()
            self.process.communicate()
