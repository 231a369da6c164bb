"""The synchronous transport."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import httpx2

from pullcord.client import calls, transport
from pullcord.client.calls import Call
from pullcord.client.discovery import Address, short_path
from pullcord.client.downloads import Download, Told
from pullcord.client.errors import ServerUnreachableError, error_of
from pullcord.client.events import Event, EventReader, Following

T = TypeVar("T")


class Connection:
    """Sends calls over a pool of connections; may be used from many threads.

    Args:
        find: looks for the server; asked again when a server that was found has gone.
        source: what the ledger says about where the calls came from.
    """

    def __init__(self, find: Callable[[], Address], source: str) -> None:
        self._find = find
        self._source = source
        self._lock = threading.Lock()
        self._open: tuple[httpx2.Client, Address] | None = None
        self._left: list[httpx2.Client] = []
        self._held = ExitStack()

    def send(self, call: Call[T]) -> T:
        """Send a call and return what the answer says."""
        tries = 0
        while True:
            client, address = self._opened()
            try:
                response = client.send(transport.request_of(client, call))
                return call.finish(response.status_code, response.content)
            except httpx2.TransportError as error:
                self._forget(address)
                if not transport.may_repeat(call, error, tries):
                    raise transport.unreachable(address, call, error) from None
                time.sleep(transport.PAUSES[tries])
                tries += 1

    def download(self, path: str, target: Path, told: Told | None = None) -> None:
        """Receive a content into a file.

        Raises:
            NotFoundError: there is nothing at this address.
            DownloadError: it did not arrive whole.
            UsageError: the file cannot be written.
        """
        client, address = self._opened()
        try:
            with client.stream("GET", path, headers={"accept-encoding": "identity"}) as response:
                if response.status_code != 200:
                    raise error_of(response.status_code, calls.parsed(response.read()))
                with Download(target, response.headers, told) as file:
                    for piece in response.iter_bytes():
                        file.write(piece)
        except httpx2.TransportError as error:
            self._forget(address)
            raise transport.unreachable(address, None, error) from None

    def follow(self, path: str, state: Following) -> Iterator[Event | None]:
        """Yield events and signs of life, going on after lost connections, until the end or the time is over."""
        while not state.is_over():
            error: Exception | None = None
            try:
                for event in self._stream(path, state):
                    state.note(event)
                    yield event
                    if state.is_over():
                        return
            except (httpx2.TransportError, ServerUnreachableError) as lost:
                if isinstance(lost, httpx2.ReadTimeout) and state.is_over():
                    return
                error = lost
            if self._open is not None:
                self._forget(self._open[1])
            time.sleep(state.lost(error))

    def _stream(self, path: str, state: Following) -> Iterator[Event | None]:
        client, _ = self._opened()
        timeout = httpx2.Timeout(max(state.left, 0.001), connect=transport.CONNECT)
        with client.stream("GET", path, headers=state.headers, timeout=timeout) as response:
            if response.status_code != 200:
                raise error_of(response.status_code, calls.parsed(response.read()))
            reader = EventReader()
            for chunk in response.iter_bytes():
                yield from reader.feed(chunk)

    def _opened(self) -> tuple[httpx2.Client, Address]:
        with self._lock:
            if self._open is None:
                address = self._find()
                uds = None if address.socket is None else self._held.enter_context(short_path(address.socket))
                socket = None if uds is None else httpx2.HTTPTransport(verify=False, uds=uds)
                client = httpx2.Client(
                    verify=transport.secure(address),
                    limits=transport.LIMITS,
                    transport=socket,
                    **transport.options(address, self._source),
                )
                self._open = client, address
            return self._open

    @property
    def where(self) -> str:
        """The server's URL, or the path of its socket.

        Raises:
            ServerUnreachableError: none is found.
        """
        address = self._opened()[1]
        return address.base if address.socket is None else str(address.socket)

    def _forget(self, address: Address) -> None:
        """A server that was found may come back elsewhere; other threads may still use the old connections."""
        with self._lock:
            if address.found and self._open is not None and self._open[1] is address:
                self._left.append(self._open[0])
                self._open = None

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for client in [*self._left, *([self._open[0]] if self._open is not None else [])]:
                client.close()
            self._left.clear()
            self._open = None
            self._held.close()
