"""Who is told of what happens: a receiver that is now and then away, slow or out of order."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Final

MOODS: Final = {"well": 6, "out of order": 2, "slow": 1, "away": 1}
"""How it answers, and how often it is in that mood."""

LASTING: Final = (0.5, 4.0)
"""Seconds that a mood lasts, about."""


class Receiver:
    """Listens on a port of its own.

    Args:
        chance: decides its moods.

    Attributes:
        got: how often it took each message, by the message's id.
        bodies: the messages.
        reliable: whether it is well from now on.
    """

    def __init__(self, chance: random.Random) -> None:
        self.got: Counter[str] = Counter()
        self.bodies: dict[str, dict[str, Any]] = {}
        self.reliable = False
        self._chance = chance
        self._mood = "well"
        self._until = 0.0
        self._lock = Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._answer(self)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            mood = self._present_mood()
        body = handler.rfile.read(int(handler.headers.get("content-length", "0")))
        if mood == "away":
            handler.close_connection = True
            return
        if mood == "slow":
            time.sleep(self._chance.uniform(0.0, 1.0))
        taken = mood != "out of order"
        if taken:
            identity = str(handler.headers["webhook-id"])
            with self._lock:
                self.got[identity] += 1
                self.bodies[identity] = json.loads(body)
        handler.send_response(204 if taken else 503)
        handler.end_headers()

    def _present_mood(self) -> str:
        if self.reliable:
            return "well"
        if time.monotonic() > self._until:
            (self._mood,) = self._chance.choices(list(MOODS), list(MOODS.values()))
            self._until = time.monotonic() + self._chance.uniform(*LASTING)
        return self._mood
