"""PostgreSQL: the second store. One server uses a database at a time; an advisory lock says so."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8Dumper

from pullcord.core.errors import (
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreReadOnlyError,
)
from pullcord.store.connection import NOTHING, Cursor, Failure
from pullcord.store.statement import to_postgres

if TYPE_CHECKING:
    from pullcord.store.listener import Listener


LOCK_PATIENCE: Final = 3.0
"""Seconds to wait for the lock: a server that was just killed gives it back when PostgreSQL has noticed."""

CHANNEL: Final = "pullcord"
"""Where writers tell that there is something to claim."""

PAUSE: Final = 0.05
"""Seconds between two tries."""

_WRITER: Final = """
SET synchronous_commit = on; SET default_transaction_isolation = 'read committed'; SET jit = off;
SET idle_in_transaction_session_timeout = '60s'; SET client_min_messages = warning;
SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 3; SET tcp_keepalives_count = 3;
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off"""
"""The writer's statements begin at the rows they are given and look the others up. Plans are kept, and one that was
made while a table was empty must not walk through it when it is full. The keep-alives are PostgreSQL's: it gives the
lock back within 15 s when this machine is lost or the cable is pulled."""

_READER: Final = "SET default_transaction_read_only = on; SET jit = off; SET statement_timeout = '60s'"
_LOCK: Final = "SELECT pg_try_advisory_lock(hashtext('pullcord'), hashtext(current_schema()))"
_UNREACHABLE: Final = "PostgreSQL cannot be reached; look whether it runs, and look at PULLCORD_DATABASE_URL"

_DAMAGED: Final = "PostgreSQL reports a damaged database; look at its log, and restore a back-up"
_ADVICE: Final[dict[str, tuple[type[StoreError], str]]] = {
    "08": (StoreError, _UNREACHABLE),
    "53": (StoreFullError, "PostgreSQL has run out of disk, memory or connections; give it more, then try again"),
    "57": (StoreError, _UNREACHABLE),
    "57014": (
        StoreError,
        "the query took too long; ask for less, or look at what PostgreSQL is doing",
    ),
    "25006": (StoreReadOnlyError, "the database cannot be written; connect to the primary server"),
    "25P03": (StoreError, _UNREACHABLE),
    "42501": (
        StoreReadOnlyError,
        "the user lacks a right; as its owner: GRANT CREATE ON SCHEMA, or name a schema of its own in search_path",
    ),
    "XX001": (StoreCorruptError, _DAMAGED),
    "XX002": (StoreCorruptError, _DAMAGED),
}
"""What an error means, by its code or else by its class (PostgreSQL's manual, appendix A)."""

_OF_THE_VALUES: Final = {"0A", "21", "22", "23", "42", "54"}


def explain(error: psycopg.Error) -> Failure:
    """Return a driver's error in Pullcord's words."""
    state = error.sqlstate
    if state is None:  # raised by the driver itself, before or instead of the server
        if isinstance(error, psycopg.OperationalError):
            return Failure(StoreError(f"{_UNREACHABLE} ({_first_line(error)})"), of_the_values=False)
        return Failure(StoreError(f"the database refused the operation ({_first_line(error)})"), of_the_values=True)
    known = _ADVICE.get(state) or _ADVICE.get(state[:2])
    kind, advice = known or (StoreError, "the database refused the operation")
    return Failure(kind(f"{advice} ({_first_line(error)})"), of_the_values=not known and state[:2] in _OF_THE_VALUES)


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().partition("\n")[0]


def connect(url: str, settings: str) -> psycopg.Connection[Any]:
    """Open a connection of the driver and run the statements that set it up.

    Raises:
        psycopg.Error: it cannot be opened.
    """
    connection = psycopg.connect(
        url, autocommit=True, prepare_threshold=0, connect_timeout=5, application_name="pullcord",
        tcp_user_timeout=10_000,
    )  # fmt: skip
    try:
        # One type for all numbers: a statement is prepared anew for each combination of types.
        connection.adapters.register_dumper(int, Int8Dumper)
        connection.execute(settings, prepare=False)
    except BaseException:
        connection.close()
        raise
    return connection


class _InDoubtError(Exception):
    """The connection broke over a commit."""

    def __init__(self, cause: psycopg.OperationalError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class PostgresConnection:
    """A connection, as `store.connection` wants it.

    Args:
        url: address of the database.
        settings: statements that set the session up.
    """

    keeps_statistics = True
    contended = True

    def __init__(self, url: str, settings: str) -> None:
        self._url = url
        self._settings = settings
        self._connection = self._connect()

    def _connect(self) -> psycopg.Connection[Any]:
        try:
            return connect(self._url, self._settings)
        except psycopg.Error as error:
            raise explain(error).error from error

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self.usable and self._connection.info.transaction_status != TransactionStatus.IDLE

    @property
    def usable(self) -> bool:
        """Whether the connection stands."""
        return not self._connection.closed

    def execute(self, sql: str, parameters: Mapping[str, Any] = NOTHING, /) -> Cursor:
        """Run a statement."""
        return self._connection.execute(to_postgres(sql), parameters)

    def array(self, sql: str, parameters: Mapping[str, Any] = NOTHING, /) -> list[Any]:
        """Return all rows of a `SELECT EACH[…]`."""
        return self.execute(sql, parameters).fetchall()

    def lock(self, sql: str, parameters: Mapping[str, Any] = NOTHING, /) -> None:
        """Lock the rows of a `SELECT … FOR UPDATE` until the transaction ends."""
        self.execute(sql, parameters)

    def notify(self, payload: str) -> None:
        """Tell all who listen, when the transaction is on disk."""
        self.execute(f"SELECT pg_notify('{CHANNEL}', :payload)", {"payload": payload})

    def begin(self) -> None:
        """Open a transaction."""
        self._connection.execute("BEGIN", prepare=False)

    def commit(self) -> None:
        """Put the transaction on disk."""
        self._connection.execute("COMMIT", prepare=False)

    def rollback(self) -> None:
        """Give up the transaction, if there is one and the server still knows of it."""
        if self.in_transaction:
            try:
                self._connection.execute("ROLLBACK", prepare=False)
            except psycopg.Error:
                self._connection.close()  # which ends the transaction as well

    def size(self) -> int:
        """Return the size of the database, bytes."""
        return int(self.execute("SELECT pg_database_size(current_database())").fetchone()[0])

    def committed(self) -> bool:
        """Say that a commit which failed did not happen; the writer knows better."""
        return False

    def abandon(self) -> None:
        """Break the connection under a statement that does not come back."""
        with (
            contextlib.suppress(OSError, psycopg.Error),
            socket.socket(fileno=os.dup(self._connection.fileno())) as other,
        ):
            other.shutdown(socket.SHUT_RDWR)

    def failure(self, error: Exception) -> Failure | None:
        """Explain an error of the driver."""
        if isinstance(error, _InDoubtError):
            return replace(explain(error.cause), unknown=True)
        if isinstance(error, psycopg.Error):
            return explain(error)
        return Failure(error, of_the_values=False) if isinstance(error, StoreError) else None

    def close(self) -> None:
        """Close it."""
        self._connection.close()


class PostgresWriter(PostgresConnection):
    """The one connection that writes. It outlives the server's restarts, and holds the lock that keeps others away.

    Args:
        url: address of the database.

    Raises:
        StoreLockedError: another Pullcord uses the database.
        StoreError: the database cannot be used.
    """

    def __init__(self, url: str) -> None:
        mark = uuid4()
        self._me = f"process {os.getpid()} on {socket.gethostname()}, {mark}"
        self._marks = (f"{mark} {number}" for number in itertools.count())
        self._mark = next(self._marks)
        super().__init__(url, _WRITER)
        try:
            self._take_lock()
        except BaseException:
            self.close()
            raise

    def sign(self) -> None:
        """Leave this server's name in the database, for others to see and to know after a break who was there last."""
        self.execute(
            "INSERT INTO meta (name, value) VALUES ('server', :me), ('transaction', :mark) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            {"me": self._me, "mark": self._mark},
        )

    def begin(self) -> None:
        """Open a transaction, on a new connection if the last one broke. That it broke may only show now."""
        if self.usable:
            try:
                return self._begin()
            except psycopg.OperationalError:
                if self.usable:
                    raise
        self._reconnect()
        return self._begin()

    def _begin(self) -> None:
        # A mark that is there if, and only if, the rest is. Asking `pg_xact_status` costs no row, but after a crash
        # PostgreSQL gives the number of a transaction that had not reached its log to the next one.
        self._mark = next(self._marks)
        sql = f"BEGIN; UPDATE meta SET value = '{self._mark}' WHERE name = 'transaction'"
        self._connection.execute(sql.encode(), prepare=False)

    def commit(self) -> None:
        """Put the transaction on disk.

        When the server is lost over it, only the database can say what became of it, when it is back.
        """
        try:
            super().commit()
        except psycopg.OperationalError as error:
            if self.usable:
                raise
            raise _InDoubtError(error) from error

    def committed(self) -> bool:
        """Look, on a new connection, whether the last transaction is there.

        The new connection has the lock, so the old one has ended, and its transaction with it.
        """
        if not self.usable:
            self._reconnect()
        row = self.execute("SELECT value FROM meta WHERE name = 'transaction'").fetchone()
        return row is not None and bool(row[0] == self._mark)

    def _reconnect(self) -> None:
        self._connection.close()
        self._connection = self._connect()
        try:
            self._take_lock()
            row = self.execute("SELECT value FROM meta WHERE name = 'server'").fetchone()
            if row is None or row[0] != self._me:
                raise StoreLockedError(
                    f"the connection to PostgreSQL broke, and another Pullcord ({_name(row)}) has used the database "
                    "since; stop one of the two, and start this one again"
                )
        except BaseException:
            self._connection.close()
            raise

    def _take_lock(self) -> None:
        deadline = time.monotonic() + LOCK_PATIENCE
        try:
            while not self.execute(_LOCK).fetchone()[0]:
                if time.monotonic() > deadline:
                    there = self.execute("SELECT to_regclass('meta')").fetchone()[0]
                    row = self.execute("SELECT value FROM meta WHERE name = 'server'").fetchone() if there else None
                    if row is not None and row[0] == self._me:
                        raise StoreError("PostgreSQL has not noticed yet that this server's last connection broke")
                    raise StoreLockedError(
                        f"the database is in use by another Pullcord ({_name(row)}); stop it, use another database, "
                        "or set PULLCORD_URL to ask that one"
                    )
                time.sleep(PAUSE)
        except psycopg.Error as error:
            raise explain(error).error from error


def _name(row: tuple[str] | None) -> str:
    return "unknown" if row is None else row[0].rpartition(", ")[0]


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """A database on a PostgreSQL server.

    Attributes:
        url: its address.
    """

    url: str

    def writer(self) -> PostgresWriter:
        """Open the writing connection."""
        from pullcord.store.migrate import migrate_postgres

        writer = PostgresWriter(self.url)
        try:
            migrate_postgres(writer, self.url)
            writer.sign()
        except psycopg.Error as error:
            writer.close()
            raise explain(error).error from error
        except BaseException:
            writer.close()
            raise
        return writer

    def reader(self) -> PostgresConnection:
        """Open a reading connection."""
        return PostgresConnection(self.url, _READER)

    def listener(self, heard: Callable[[str], None]) -> Listener:
        """Return what hears the notifications of other writers."""
        from pullcord.store.listener import Listener

        return Listener(self.url, heard)
