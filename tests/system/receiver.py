"""A real HTTP server that takes messages, refuses them, is slow with them, or is not there."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.system.processes import PATIENCE

SECRET = "whsec_" + "QUJDRA" * 8
"""Signs what is sent here."""


class Receiver:
    """Takes messages; a context manager.

    Attributes:
        messages: what was answered with 204, with the id of the delivery.
        status: what is answered.
        gate: while it is not set, nothing is answered.
    """

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.status = 204
        self.gate = threading.Event()
        self.gate.set()
        self._news = threading.Condition()
        # Bound all the time and never listening: while the server is closed, nobody else is given the port.
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.port: int = self._holder.getsockname()[1]
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/hook"

    def open(self) -> Self:
        """Begin to listen."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.gate.wait(PATIENCE)
                status = receiver.status
                if status < 300:
                    receiver.take(json.loads(body) | {"id": self.headers["webhook-id"]})
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def take(self, message: dict[str, Any]) -> None:
        """Keep a message, and tell those who wait."""
        with self._news:
            self.messages.append(message)
            self._news.notify_all()

    def until(self, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Wait until the messages are enough; return them."""
        with self._news:
            assert self._news.wait_for(lambda: enough(self.messages), PATIENCE), self.messages
            return list(self.messages)

    def counted(self) -> int:
        """Return how many happenings were told; a message that came twice counts once."""
        return sum({message["id"]: int(message["data"]["count"]) for message in list(self.messages)}.values())

    def close(self) -> None:
        """Be gone."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.gate.set()
        self.close()
        self._holder.close()


def name_channels(folder: Path, **receivers: Receiver) -> None:
    """Write settings with these channels for a server that works in a folder."""
    (folder / "secret").write_text(SECRET)
    tables = [
        f'[channels.{name}]\nkind = "webhook"\nurl = "{receiver.url}"\nsecret = "file:{folder / "secret"}"\n'
        f'group = "2s"\ntimeout = "30s"\n'
        for name, receiver in receivers.items()
    ]
    (folder / "pullcord.toml").write_text("\n".join(tables))
