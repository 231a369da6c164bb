"""A web server in a thread, whose answers the test sets."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server answers, and what it was asked.

    Attributes:
        port: where it listens.
        status: of its answers.
        headers: of its answers.
        body: of its answers.
        asked: the headers of each request.
        hold: answers are given when this is set.
    """

    port: int = 0
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    asked: list[Message] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.hold.set()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/status"


@contextmanager
def served() -> Iterator[Site]:
    """Serve on a port of its own."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.headers)
            site.hold.wait(20)
            etag = self.headers.get("If-None-Match")
            unchanged = etag is not None and etag == site.headers.get("ETag")
            self.send_response(304 if unchanged else site.status)
            for name, value in site.headers.items():
                self.send_header(name, value)
            body = b"" if unchanged else site.body
            if "Content-Length" not in site.headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Clients may hang up."""

    with Server(("127.0.0.1", 0), Handler) as server:
        site.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield site
        finally:
            site.hold.set()
            server.shutdown()
            thread.join()
