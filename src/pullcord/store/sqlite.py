"""SQLite connections: one that writes and checkpoints, others that can only read."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from pullcord.core.errors import StoreError
from pullcord.store.connection import NOTHING, Failure
from pullcord.store.errors import is_data_error, translate, translated
from pullcord.store.statement import to_sqlite

MINIMUM = (3, 35, 0)
"""The first SQLite with RETURNING and UPDATE … FROM."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that was opened under a name.

    Attributes:
        path: the name.
        inode: the file.
    """

    path: Path
    inode: int

    def is_there(self) -> bool:
        """Say whether the name still leads to the file."""
        try:
            return self.path.stat().st_ino == self.inode
        except OSError:
            return False


class SQLiteConnection(sqlite3.Connection):
    """A connection to a database file, as `store.connection` wants it."""

    usable = True
    keeps_statistics = False
    contended = False
    file: OpenFile | None = None
    """What a commit makes sure of first: SQLite would go on writing into a file that nobody finds any longer."""

    def execute(self, sql: str, parameters: Any = NOTHING, /) -> sqlite3.Cursor:
        """Run a statement."""
        return super().execute(to_sqlite(sql), parameters)

    def array(self, sql: str, parameters: Mapping[str, Any] = NOTHING, /) -> list[Any]:
        """Return all rows of a `SELECT EACH[…]`; they come as one value, that is, with one switch of threads."""
        text = self.execute(sql, parameters).fetchone()[0]
        result: list[Any] = from_json(text)
        return result

    def lock(self, sql: str, parameters: Mapping[str, Any] = NOTHING, /) -> None:
        """Do nothing: a write transaction has the whole database to itself."""

    def notify(self, payload: str) -> None:
        """Do nothing: no other server uses the file."""

    def begin(self) -> None:
        """Open a write transaction."""
        self.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Put the transaction on disk.

        Raises:
            sqlite3.OperationalError: among others, the file was moved or removed.
        """
        if self.file is not None and not self.file.is_there():
            error = sqlite3.OperationalError(f"{self.file.path} was moved or removed while this server uses it")
            error.sqlite_errorcode = sqlite3.SQLITE_READONLY_DBMOVED
            raise error
        self.execute("COMMIT")

    def committed(self) -> bool:
        """Say that a commit which failed did not happen."""
        return False

    def abandon(self) -> None:
        """Do nothing: a disk answers, sooner or later."""

    def rollback(self) -> None:
        """Give up the transaction, if there is one."""
        if self.in_transaction:
            self.execute("ROLLBACK")

    def size(self) -> int:
        """Return the size of the database and of its write-ahead log, bytes."""
        path = self.execute("PRAGMA database_list").fetchone()[2]
        files = [Path(path), Path(f"{path}-wal")]
        return sum(file.stat().st_size for file in files if file.exists())

    def failure(self, error: Exception) -> Failure | None:
        """Explain an error of the driver."""
        if isinstance(error, sqlite3.Error):
            return Failure(translate(error), is_data_error(error))
        return Failure(error, of_the_values=False) if isinstance(error, StoreError) else None


def writer(path: Path) -> SQLiteConnection:
    """Open the writing connection: WAL, and every commit synced to the disk (design rule 1).

    Raises:
        StoreError: the file cannot be opened, is damaged, or the SQLite library is too old.
    """
    if sqlite3.sqlite_version_info < MINIMUM:
        raise StoreError(
            f"SQLite {sqlite3.sqlite_version} is too old, {'.'.join(map(str, MINIMUM))} or newer is needed; "
            "use a newer Python or system"
        )
    with translated():
        connection = _connect(path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        connection.execute("PRAGMA cache_size = -8000")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA foreign_keys = OFF")
        path.chmod(0o600)
        connection.file = OpenFile(path.absolute(), path.stat().st_ino)
        return connection


def look(connection: sqlite3.Connection) -> None:
    """Read the first row of every table, so that a database which is damaged at its roots is refused at once.

    Raises:
        StoreCorruptError: it is.
    """
    with translated():
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            connection.execute(f'SELECT * FROM "{name}" LIMIT 1').fetchone()


def reader(path: Path) -> SQLiteConnection:
    """Open a connection that cannot write.

    Raises:
        StoreError: the file cannot be opened or is damaged.
    """
    with translated():
        connection = _connect(path)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection


def _connect(path: Path) -> SQLiteConnection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0, factory=SQLiteConnection)
