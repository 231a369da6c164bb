"""The store: one database, one writer, a few readers. Everything that is true about runs is in here."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pullcord.clock import Clock
from pullcord.core.errors import PullcordRuntimeError
from pullcord.core.rulebook import Book
from pullcord.failpoints import hit
from pullcord.store.commands.claim import Claimed
from pullcord.store.connection import Connection, explained
from pullcord.store.database import database_of
from pullcord.store.lock import hold
from pullcord.store.statistics import WriteStatistics
from pullcord.store.transaction import Command
from pullcord.store.writer import Claimant, Writer

R = TypeVar("R")

STOP_PATIENCE = 5.0
"""Seconds that what is being written or read gets to end when the store stops."""

READERS = 4
"""How many queries run at once."""


class Store:
    """An open data folder.

    Args:
        folder: the data folder; made when it is not there.
        clock: the time.
        url: a PostgreSQL database; None is the file `pullcord.db` in the folder.

    Raises:
        StoreLockedError: another server holds the folder or the database.
        StoreError: the folder or the database cannot be used.
    """

    def __init__(self, folder: Path, clock: Clock, url: str | None = None) -> None:
        self.folder = folder
        self.clock = clock
        self._lock = hold(folder)
        with contextlib.ExitStack() as opened:
            opened.callback(self._lock.release)
            self._database = database_of(folder, url)
            self._connection = self._database.writer()
            opened.callback(self._connection.close)
            self.owner, self.floor = self._begin()
            opened.pop_all()
        self._stopped = False
        self._local = threading.local()
        self._connections: list[Connection] = []
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="pullcord-reader")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dispatch: Callable[[Sequence[Claimed]], None] | None = None
        self._writer = Writer(self._connection, clock, self.owner, self._deliver)
        self._listener = self._database.listener(self._writer.hear)

    def _begin(self) -> tuple[int, int]:
        """Count this incarnation, and find the highest number that an earlier one gave."""
        connection = self._connection
        try:
            connection.begin()
            connection.execute(
                "INSERT INTO meta (name, value) VALUES ('incarnation', '1') "
                "ON CONFLICT (name) DO UPDATE SET value = CAST(CAST(meta.value AS INTEGER) + 1 AS TEXT)"
            )
            owner = connection.execute("SELECT value FROM meta WHERE name = 'incarnation'").fetchone()[0]
            floor = connection.execute("SELECT coalesce(max(id), 0) FROM requests").fetchone()[0]
            connection.commit()
        except Exception as error:
            raise explained(connection, error) from error
        return int(owner), int(floor)

    def start(self) -> None:
        """Start the writer; results are delivered on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._writer.start()
        if self._listener is not None:
            self._listener.start()

    async def stop(self) -> None:
        """Write what was submitted, checkpoint, and give the folder back."""
        self._stopped = True
        if self._listener is not None:
            await self._listener.stop()
        await self._ended(self._writer.stop, [self._connection])
        await self._ended(self._readers.shutdown, self._connections)
        for connection in self._connections:
            connection.close()
        hit("store.before_checkpoint")
        self._connection.close()
        hit("store.after_checkpoint")
        self._lock.release()

    async def _ended(self, stop: Callable[[], None], connections: Sequence[Connection]) -> None:
        """Stop something on a thread; what a database that does not answer holds up is broken off."""
        stopping = asyncio.ensure_future(asyncio.to_thread(stop))
        await asyncio.wait({stopping}, timeout=STOP_PATIENCE)
        while not stopping.done():
            for connection in connections:
                connection.abandon()
            await asyncio.wait({stopping}, timeout=1.0)
        await stopping

    def submit(self, command: Command) -> None:
        """Hand a command to the writer; its `done` is called on the event loop when it is on disk."""
        self._writer.submit(command)

    async def write(self, make: Callable[[Callable[[Any], None]], Any]) -> Any:
        """Hand over one command and wait for its result.

        Args:
            make: makes the command, given its `done`.

        Raises:
            PullcordError: what the command's result says went wrong.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._writer.submit(make(_setter(future)))
        return await future

    def serve(self, claimant: Claimant, dispatch: Callable[[Sequence[Claimed]], None]) -> None:
        """Begin to claim runs; `dispatch` is called on the event loop for each committed claim."""
        self._dispatch = dispatch
        self._writer.serve(claimant)

    def watch_endings(self, noted: Callable[[Any], None]) -> None:
        """From now on call this on the event loop after a commit that noted ends which start others."""
        self._writer.watch_endings(noted)

    def watch_pauses(self, changed: Callable[[Any], None]) -> None:
        """From now on call this on the event loop after a commit that paused a flow or let one go on."""
        self._writer.watch_pauses(changed)

    def watch_failed(self, failed: Callable[[Any], None]) -> None:
        """From now on call this on the event loop with `[(id, Ended)]` that a commit has ended by itself."""
        self._writer.watch_failed(failed)

    def watch_outbox(self, noted: Callable[[Any], None]) -> None:
        """From now on call this on the event loop after a commit that put something into the outbox."""
        self._writer.watch_outbox(noted)

    @property
    def book(self) -> Book:
        """Who is told of what, as of the last commit."""
        return self._writer.book

    def begin_with(self, book: Book) -> None:
        """Take the rules of the settings; before the store is started."""
        self._writer.book = book

    def nudge(self) -> None:
        """Claim again: there is more room."""
        self._writer.nudge()

    @property
    def commits(self) -> int:
        """How many transactions were committed."""
        return self._writer.commits

    @property
    def statistics(self) -> WriteStatistics:
        """What the writer has done, and whether it can write."""
        return self._writer.statistics

    @property
    def waiting(self) -> int:
        """How many commands wait for the next transaction."""
        return self._writer.waiting

    @property
    def alive(self) -> bool:
        """Whether the writer works."""
        return self._writer.alive

    async def read(self, query: Callable[..., R], *arguments: Any) -> R:
        """Run a query on a reader: `query(connection, *arguments)`.

        Raises:
            StoreError: the file cannot be read.
        """
        if self._loop is None or self._stopped:
            raise PullcordRuntimeError("the store is not open")
        return await self._loop.run_in_executor(self._readers, self._query, query, arguments)

    def _query(self, query: Callable[..., R], arguments: tuple[Any, ...]) -> R:
        connection: Connection | None = getattr(self._local, "connection", None)
        while True:
            fresh = connection is None
            if connection is None:
                connection = self._local.connection = self._database.reader()
                self._connections.append(connection)
            try:
                return query(connection, *arguments)
            except Exception as error:
                if fresh or connection.usable:
                    raise explained(connection, error) from error
            # It broke since the last query, and reading again changes nothing.
            self._connections.remove(connection)
            connection = self._local.connection = None

    def _deliver(self, answers: list[tuple[Callable[[Any], None], Any]], claimed: list[Claimed]) -> None:
        if self._loop is None or not (answers or claimed):
            return
        # When the loop is closed nobody is left who could be told; the rows are on disk.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._hand_out, answers, claimed)

    def _hand_out(self, answers: list[tuple[Callable[[Any], None], Any]], claimed: list[Claimed]) -> None:
        if claimed and self._dispatch is not None:
            self._dispatch(claimed)
        for done, result in answers:
            try:
                done(result)
            except Exception as error:
                # One caller's mistake keeps no answer from the others.
                context = {"message": "taking the result of a write failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


def _setter(future: asyncio.Future[Any]) -> Callable[[Any], None]:
    def done(result: Any) -> None:
        if future.cancelled():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    return done
