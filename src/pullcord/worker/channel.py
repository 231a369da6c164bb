"""The worker's end of the channel: messages out in one write a turn of the loop, messages in as they come.

The socket is read by the event loop's thread alone. When a sync step is called right on that thread it may have
to wait for an acknowledgement that only this thread can read; `pump_until` then reads in place of the loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import threading
from collections.abc import Callable

from pullcord.wire.frames import Decoder, FrameError, Message, encode_each

log = logging.getLogger(__name__)

CHUNK = 256 * 1024


class Channel:
    """One connection to the server.

    Args:
        connection: a connected stream socket.
        loop: the loop that reads it.
        handle: called with each message that arrives.
        lost: called when the server is gone.
        undeliverable: called with a message that cannot be written.
    """

    def __init__(
        self,
        connection: socket.socket,
        loop: asyncio.AbstractEventLoop,
        handle: Callable[[Message], None],
        lost: Callable[[], None],
        undeliverable: Callable[[Message, Exception], None],
    ) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._loop = loop
        self._handle = handle
        self._lost = lost
        self._undeliverable = undeliverable
        self._pumping = False
        self._decoder = Decoder()
        self._outgoing: list[Message] = []
        self._unsent = b""
        self._scheduled = False
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        loop.add_reader(connection.fileno(), self._readable)

    def send(self, *messages: Message) -> None:
        """Queue messages; they leave together at the end of this turn of the loop. Any thread may call it."""
        with self._lock:
            self._outgoing += messages
            if self._scheduled:
                return
            self._scheduled = True
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self.flush)
        elif self._pumping:
            self.flush()
        else:
            self._loop.call_soon_threadsafe(self.flush)

    def send_now(self, *messages: Message) -> None:
        """Write messages at once from any thread, even while the loop is busy."""
        with self._lock:
            self._outgoing += messages
        self.flush()

    def flush(self) -> None:
        """Write what is queued; what the socket does not take now follows when it is writable."""
        failures: list[tuple[Message, Exception]] = []
        with self._writing:
            with self._lock:
                messages, self._outgoing = self._outgoing, []
                self._scheduled = False
            if messages:
                frames, failures = encode_each(messages)
                self._unsent += frames
            blocked = self._write()
        if blocked:
            self._loop.call_soon_threadsafe(self._loop.add_writer, self._socket.fileno(), self._writable)
        for message, error in failures:
            self._undeliverable(message, error)

    def _writable(self) -> None:
        with self._writing:
            blocked = self._write()
        if not blocked:
            self._loop.remove_writer(self._socket.fileno())

    def _write(self) -> bool:
        """Write as much as the socket takes; say whether some is left."""
        while self._unsent:
            try:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
            except BlockingIOError:
                return True
            except OSError:
                self._unsent = b""
                self._lost()
        return False

    def _readable(self) -> None:
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._socket.fileno())
            self._lost()
            return
        try:
            messages = self._decoder.feed(data)
        except FrameError as error:
            log.error("the server broke the protocol: %s", error)
            self._loop.remove_reader(self._socket.fileno())
            self._lost()
            return
        for message in messages:
            try:
                self._handle(message)
            except Exception:
                log.exception("handling a %s message failed", message[0])

    def on_loop_thread(self) -> bool:
        """Say whether the caller is on the thread that reads this channel."""
        return threading.get_ident() == self._thread

    def pump_until(self, done: Callable[[], bool]) -> None:
        """Read and handle messages on the loop's own thread until `done()` is true."""
        self._pumping = True
        try:
            while not done():
                self.flush()
                if done():  # what it waits for could not even be sent
                    break
                writing = [self._socket] if self._unsent else []
                select.select([self._socket], writing, [])
                self._readable()
        finally:
            self._pumping = False


def leave() -> None:
    """End the process at once: without its server a worker must do nothing more (design rule 6)."""
    os._exit(0)
