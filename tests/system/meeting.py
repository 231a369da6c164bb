"""Where flows under test and the test meet: a flow in `witness.meet` stands still until the test sends it on."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack
from typing import Any, Self

from tests.system.processes import PATIENCE


class Guest:
    """A flow that has arrived.

    Args:
        connection: to it.

    Attributes:
        run: its run's id.
        attempt: the run's attempt.
        pid: the process that executes it.
        text: what it said.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("r")

    def introduce(self) -> None:
        """Listen to who it is."""
        said: dict[str, Any] = json.loads(self._file.readline())
        self.run, self.attempt, self.pid, self.text = said["run"], said["attempt"], said["pid"], said["text"]

    def go(self, word: str = "go") -> None:
        """Send it on."""
        self._connection.sendall(f"{word}\n".encode())

    def gone(self) -> None:
        """Wait until the process is dead, or at least the call is over."""
        try:
            assert self._file.readline() == ""
        except ConnectionResetError:
            return

    def close(self) -> None:
        """Leave."""
        self._file.close()
        self._connection.close()


class Meeting:
    """A place on a port of its own."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=500))
        self._listener.settimeout(PATIENCE)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def guest(self, timeout: float = PATIENCE) -> Guest:
        """Wait for the next one to arrive."""
        self._listener.settimeout(timeout)
        connection, _ = self._listener.accept()
        connection.settimeout(PATIENCE)
        guest = Guest(connection)
        self._stack.callback(guest.close)
        guest.introduce()
        return guest

    def guests(self, count: int) -> dict[str, Guest]:
        """Wait for so many; return them by what they say."""
        arrived = [self.guest() for _ in range(count)]
        return {guest.text: guest for guest in arrived}

    def nobody(self) -> None:
        """Assert that nobody waits at the door right now."""
        self._listener.settimeout(0)
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        connection.close()
        raise AssertionError("somebody came who should not have")
