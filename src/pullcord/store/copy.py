"""Copies of a database file: taken beside a live server, checked, and on the disk before they get their name.

SQLite before 3.51.3 can damage a database when two connections write or checkpoint at the same time. So the connection
that a copy is read through opens the file for reading only: the kernel itself refuses a checkpoint to it, also to the
one that SQLite tries when the last connection closes.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from errno import ENOSPC
from pathlib import Path
from typing import Final
from urllib.parse import quote

from pullcord.clock import SystemClock, rfc3339
from pullcord.core.errors import StoreCorruptError, StoreFullError, StoreReadOnlyError
from pullcord.store.errors import translated

PAGES: Final = 2048
"""Pages that are copied between two reports of progress."""

KEPT: Final = 3
"""How many copies from before upgrades are kept."""

Progress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is."""


def silent(what: str, done: int, total: int) -> None:
    """Report to nobody."""


@contextmanager
def opened_read_only(path: Path, *, immutable: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a database file that somebody else may be writing to.

    Args:
        path: the file.
        immutable: nobody writes to it, so leave no `-wal` and `-shm` files beside it.

    Raises:
        StoreError: it cannot be opened, or is no database.
    """
    options = "mode=ro&immutable=1" if immutable else "mode=ro"
    with translated():
        address = f"file:{quote(str(path.absolute()))}?{options}"
        with closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=5.0)) as connection:
            connection.execute("PRAGMA query_only = ON")
            yield connection


def copy(source: sqlite3.Connection, target: Path, progress: Progress = silent) -> None:
    """Copy a database as it is at one moment into a new file, and sync that.

    The read transaction around the copy keeps its moment, however much is written meanwhile. While it lasts, the
    write-ahead log of a busy server grows; its next checkpoint after the copy uses that room again.

    Raises:
        StoreError: reading or writing failed.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with translated(), closing(sqlite3.connect(target, isolation_level=None)) as destination:
        destination.execute("PRAGMA synchronous = OFF")
        source.execute("BEGIN")
        try:
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            source.backup(
                destination,
                pages=PAGES,
                progress=lambda _, left, total: progress("copying the database", total - left, total),
            )
        finally:
            source.execute("ROLLBACK")
    sync(target)


def check(path: Path) -> None:
    """Look through a copy.

    Raises:
        StoreCorruptError: it is damaged.
    """
    with opened_read_only(path, immutable=True) as connection:
        found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
    if found != ["ok"]:
        raise StoreCorruptError(
            f"the database in this copy is damaged ({'; '.join(found)}); where it was copied from, `pullcord doctor` "
            "says more"
        )


def schema_of(connection: sqlite3.Connection) -> str | None:
    """Return a database's schema version, or None when it is not one of Pullcord's."""
    with translated():
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
            return None
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if row is None else str(row[0])


def copy_before_upgrade(connection: sqlite3.Connection, folder: Path, schema: str) -> Path:
    """Put a checked copy of an older database aside, and keep the newest few.

    Args:
        connection: an open connection to the database.
        folder: where the copies are; made when it is not there.
        schema: the version that the database has.

    Raises:
        StoreError: it cannot be copied, for example because the disk is full.
    """
    at = stamp()
    target, unfinished = folder / f"pullcord-{schema}-{at}.db", folder / f".pullcord-{at}.unfinished"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for left in folder.glob(".pullcord-*.unfinished"):
            left.unlink()
        try:
            copy(connection, unfinished)
            check(unfinished)
            unfinished.replace(target)
            sync(folder)
        finally:
            unfinished.unlink(missing_ok=True)
        copies = sorted(folder.glob("pullcord-*-*.db"), key=lambda path: path.stem.rpartition("-")[2])
        for old in copies[:-KEPT]:
            old.unlink()
    except StoreFullError as error:
        raise StoreFullError(f"before the upgrade the database is copied to {folder}, and {error.message}") from error
    except OSError as error:
        kind = StoreFullError if error.errno == ENOSPC else StoreReadOnlyError
        raise kind(
            f"before the upgrade the database is copied to {folder}, which cannot be written: {error.strerror}"
        ) from error
    return target


def stamp() -> str:
    """Return the present time as a part of a file's name: UTC, to the microsecond, in the order of time."""
    text = rfc3339(SystemClock().now()) or ""
    return text.translate(str.maketrans("", "", "-:."))


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
