"""What `pullcord doctor` finds out about the lock and the database, without writing to either."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pullcord.core.errors import NotFoundError, PullcordError, UsageError

if TYPE_CHECKING:
    from pullcord.cli.checks import Finding
    from pullcord.settings import Settings
    from pullcord.store.connection import Connection
    from pullcord.store.sqlite import SQLiteConnection

PATIENCE: Final = 30.0
"""Seconds that looking through the database may take."""


def database(settings: Settings, whole: bool = False) -> Iterator[Finding]:
    """Yield findings about the lock and the database.

    Args:
        settings: say where it is.
        whole: check every page and index of a file, however long it takes.
    """
    from pullcord.cli.checks import Finding

    folder = settings.data_dir
    holder = lock_holder(folder)
    yield Finding("lock", "ok", "nobody holds the folder" if holder is None else f"process {holder} holds the folder")
    if settings.database_url is not None:
        yield from _postgres(settings)
        return
    path = folder / "pullcord.db"
    if not path.exists():
        yield Finding("database", "ok", "there is none yet")
        return
    try:
        with closing(open_reader(path)) as connection:
            yield _check_whole(connection, path) if whole else _check(connection, path)
            yield _schema(connection)
    except sqlite3.Error as error:
        advice = "stop Pullcord, keep a copy of the data folder, and restore a back-up"
        yield Finding("database", "wrong", f"{path}: {error}", advice)


def _postgres(settings: Settings) -> Iterator[Finding]:
    """Yield findings about a PostgreSQL database; the soundness of its files is that server's own concern."""
    from pullcord.cli.checks import Finding
    from pullcord.store.connection import explained

    try:
        with closing(reader_of(settings)) as connection:
            try:
                version = connection.execute("SHOW server_version").fetchone()[0]
                yield Finding("database", "ok", f"{settings.place}, version {version}")
                if connection.execute("SELECT to_regclass('alembic_version')").fetchone()[0] is not None:
                    yield _schema(connection)
            except Exception as error:
                raise explained(connection, error) from error
    except PullcordError as error:
        yield Finding("database", "wrong", f"{settings.place}: {error.message}", "do as it says, then look again")


def reader_of(settings: Settings) -> Connection:
    """Open the store so that nothing can be written to it.

    Raises:
        PullcordError: it cannot be reached, or its driver is not installed.
    """
    from pullcord.store.database import database_of
    from pullcord.store.errors import translated

    if settings.database_url is None:
        with translated():
            return open_reader(settings.data_dir / "pullcord.db")
    connection = database_of(settings.data_dir, settings.database_url).reader()
    connection.execute(
        "SET statement_timeout = 0"
    )  # a server's lists must end soon; looking at everything may take long
    return connection


def refuse_older(settings: Settings) -> None:
    """Refuse a database that would be made or upgraded before anybody could look at it.

    Raises:
        NotFoundError: there is none of Pullcord's.
        UsageError: its schema is older than this Pullcord's.
        PullcordError: it cannot be read.
    """
    from pullcord.store.connection import explained
    from pullcord.store.copy import schema_of
    from pullcord.store.migrate import HEAD, schema_of_postgres

    with closing(reader_of(settings)) as connection:
        try:
            if isinstance(connection, sqlite3.Connection):
                version = schema_of(connection)
            else:
                version = schema_of_postgres(connection)
        except Exception as error:
            raise explained(connection, error) from error
    if version is None:
        raise NotFoundError(f"{settings.place} holds no database of Pullcord's; name the right one")
    if version < HEAD:
        raise UsageError(
            f"the database has schema {version}, older than this Pullcord's {HEAD}, and a look must not upgrade it; "
            "start the server once, or do it without --dry-run"
        )


def open_reader(path: Path) -> SQLiteConnection:
    """Open a database file so that nothing can be written to it, not even the merging of its log."""
    from pullcord.store.sqlite import SQLiteConnection

    address = f"file:{_quoted(path)}?mode=ro"
    connection = sqlite3.connect(address, uri=True, timeout=5.0, isolation_level=None, factory=SQLiteConnection)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cache_size = -64000")
    return connection


def lock_holder(folder: Path) -> str | None:
    """Return the process that holds the folder's lock, or None; only the kernel's list is read."""
    try:
        facts = (folder / "lock").stat()
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    device = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}"
    for line in lines:
        words = line.split()
        if "FLOCK" not in words:
            continue
        pid, where = words[words.index("FLOCK") + 3 : words.index("FLOCK") + 5]
        if where.rpartition(":")[2] == str(facts.st_ino) and where.rpartition(":")[0] in (device, "00:00"):
            return pid
    return None


def _check(connection: sqlite3.Connection, path: Path) -> Finding:
    from pullcord.cli.checks import Finding

    size = _size(path)
    deadline = time.monotonic() + PATIENCE
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
    try:
        answers = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        return Finding("database", "note", f"{size:.0f} MB; too large to check in {PATIENCE:g} s, good as far as seen")
    finally:
        connection.set_progress_handler(None, 0)
    return _sound(answers, size)


def _check_whole(connection: sqlite3.Connection, path: Path) -> Finding:
    return _sound([str(row[0]) for row in connection.execute("PRAGMA integrity_check(5)")], _size(path))


def _sound(answers: list[str], size: float) -> Finding:
    from pullcord.cli.checks import Finding

    if answers == ["ok"]:
        return Finding("database", "ok", f"{size:.1f} MB, sound")
    advice = "stop Pullcord, keep a copy of the data folder, and restore a back-up"
    return Finding("database", "wrong", f"damaged: {'; '.join(answers)}", advice)


def _size(path: Path) -> float:
    return sum(file.stat().st_size for file in path.parent.glob("pullcord.db*")) / 1024**2


def _schema(connection: Connection) -> Finding:
    from pullcord.cli.checks import Finding
    from pullcord.store.migrate import HEAD

    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    version = None if row is None else str(row[0])
    if version == HEAD:
        return Finding("schema", "ok", HEAD)
    if version is None or version < HEAD:
        return Finding("schema", "note", f"{version}, older than this Pullcord's {HEAD}", "the next start upgrades it")
    advice = "install the newer Pullcord, or use another --data-dir"
    return Finding("schema", "wrong", f"{version}, newer than this Pullcord's {HEAD}", advice)


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path.absolute()))
