"""The asynchronous transport: `connection.py` with awaits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing
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


class AsyncConnection:
    """Sends calls over a pool of connections; for one event loop.

    Args:
        find: looks for the server; asked again when a server that was found has gone.
        source: what the ledger says about where the calls came from.
    """

    def __init__(self, find: Callable[[], Address], source: str) -> None:
        self._find = find
        self._source = source
        self._open: tuple[httpx2.AsyncClient, Address] | None = None
        self._left: list[httpx2.AsyncClient] = []
        self._held = ExitStack()

    async def send(self, call: Call[T]) -> T:
        """Send a call and return what the answer says."""
        tries = 0
        while True:
            client, address = await self._opened()
            try:
                response = await client.send(transport.request_of(client, call))
                return call.finish(response.status_code, response.content)
            except httpx2.TransportError as error:
                self._forget(address)
                if not transport.may_repeat(call, error, tries):
                    raise transport.unreachable(address, call, error) from None
                await asyncio.sleep(transport.PAUSES[tries])
                tries += 1

    async def download(self, path: str, target: Path, told: Told | None = None) -> None:
        """Receive a content into a file; see `Connection.download`."""
        client, address = await self._opened()
        try:
            async with client.stream("GET", path, headers={"accept-encoding": "identity"}) as response:
                if response.status_code != 200:
                    raise error_of(response.status_code, calls.parsed(await response.aread()))
                with Download(target, response.headers, told) as file:
                    async for piece in response.aiter_bytes():
                        file.write(piece)
        except httpx2.TransportError as error:
            self._forget(address)
            raise transport.unreachable(address, None, error) from None

    async def follow(self, path: str, state: Following) -> AsyncGenerator[Event | None]:
        """Yield events and signs of life, going on after lost connections, until the end or the time is over."""
        while not state.is_over():
            error: Exception | None = None
            try:
                async with aclosing(self._stream(path, state)) as events:
                    async for event in events:
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
            await asyncio.sleep(state.lost(error))

    async def _stream(self, path: str, state: Following) -> AsyncGenerator[Event | None]:
        client, _ = await self._opened()
        timeout = httpx2.Timeout(max(state.left, 0.001), connect=transport.CONNECT)
        async with client.stream("GET", path, headers=state.headers, timeout=timeout) as response:
            if response.status_code != 200:
                raise error_of(response.status_code, calls.parsed(await response.aread()))
            reader = EventReader()
            async for chunk in response.aiter_bytes():
                for event in reader.feed(chunk):
                    yield event

    async def _opened(self) -> tuple[httpx2.AsyncClient, Address]:
        if self._open is None:
            address = await asyncio.to_thread(self._find)
            # Calls that begin together look together; the first that has found the server opens the client.
            self._open = self._open or (self._client(address), address)
        return self._open

    def _client(self, address: Address) -> httpx2.AsyncClient:
        uds = None if address.socket is None else self._held.enter_context(short_path(address.socket))
        socket = None if uds is None else httpx2.AsyncHTTPTransport(verify=False, uds=uds)
        return httpx2.AsyncClient(
            verify=transport.secure(address),
            limits=transport.LIMITS,
            transport=socket,
            **transport.options(address, self._source),
        )

    def _forget(self, address: Address) -> None:
        """A server that was found may come back elsewhere; other tasks may still use the old connections."""
        if address.found and self._open is not None and self._open[1] is address:
            self._left.append(self._open[0])
            self._open = None

    async def close(self) -> None:
        """Close the connections."""
        opened, self._open = self._open, None
        left, self._left = self._left, []
        for client in [*left, *([opened[0]] if opened is not None else [])]:
            await client.aclose()
        self._held.close()
