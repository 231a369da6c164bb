"""What the database driver raises, translated into the error tree with advice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from pullcord.core.errors import StoreCorruptError, StoreError, StoreFullError, StoreLockedError, StoreReadOnlyError

_ADVICE: dict[int, tuple[type[StoreError], str]] = {
    sqlite3.SQLITE_FULL: (StoreFullError, "the disk is full; free some space, then try again"),
    sqlite3.SQLITE_READONLY: (
        StoreReadOnlyError,
        "the database cannot be written; check the data folder's permissions",
    ),
    sqlite3.SQLITE_CANTOPEN: (StoreReadOnlyError, "the database cannot be opened; check the data folder's permissions"),
    sqlite3.SQLITE_CORRUPT: (
        StoreCorruptError,
        "the database is damaged; stop Pullcord, keep a copy of the data folder, and restore a back-up",
    ),
    sqlite3.SQLITE_NOTADB: (StoreCorruptError, "pullcord.db is not a database; move it away or use another --data-dir"),
    sqlite3.SQLITE_BUSY: (StoreLockedError, "another process is using the database file; close it and try again"),
    sqlite3.SQLITE_LOCKED: (StoreLockedError, "another process is using the database file; close it and try again"),
    sqlite3.SQLITE_IOERR: (StoreError, "reading or writing the disk failed; look at the system's log"),
}


_OF_THE_VALUES = {
    0,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_RANGE,
    sqlite3.SQLITE_TOOBIG,
}


def translate(error: sqlite3.Error) -> StoreError:
    """Return Pullcord's error for a driver's."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_READONLY_DBMOVED:
        return StoreReadOnlyError(
            f"nothing can be recorded: {error}; put it back, or stop the server and restore a back-up"
        )
    code &= 0xFF
    kind, advice = _ADVICE.get(code, (StoreError, "the database refused the operation"))
    return kind(f"{advice} ({error})")


def is_data_error(error: sqlite3.Error) -> bool:
    """Say whether the error is about the values of a statement, so that bisecting its batch helps."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_THE_VALUES


@contextmanager
def translated() -> Iterator[None]:
    """Raise Pullcord's errors for the driver's within the block."""
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error) from error
