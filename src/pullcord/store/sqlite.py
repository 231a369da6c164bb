"""SQLite connections: one that writes and checkpoints, others that can only read."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from pullcord.core.errors import StoreError
from pullcord.store.errors import translated

MINIMUM = (3, 35, 0)
"""The first SQLite with RETURNING and UPDATE … FROM."""


def writer(path: Path) -> sqlite3.Connection:
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
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        connection.execute("PRAGMA cache_size = -8000")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA foreign_keys = OFF")
        path.chmod(0o600)
        return connection


def reader(path: Path) -> sqlite3.Connection:
    """Open a connection that cannot write.

    Raises:
        StoreError: the file cannot be opened or is damaged.
    """
    with translated():
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection
