"""Which database it is: the file in the data folder, or a PostgreSQL server by its address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pullcord.store import sqlite
from pullcord.store.address import parsed
from pullcord.store.connection import Connection
from pullcord.store.migrate import migrate


class Listener(Protocol):
    """Hears what other servers tell."""

    def start(self) -> None:
        """Begin to listen, on the running event loop."""

    async def stop(self) -> None:
        """Stop listening."""


class Database(Protocol):
    """Opens connections."""

    def writer(self) -> Connection:
        """Open the one connection that writes, and bring the schema up to date.

        Raises:
            StoreError: the database cannot be used, or another server uses it.
        """

    def reader(self) -> Connection:
        """Open a connection that cannot write.

        Raises:
            StoreError: the database cannot be read.
        """

    def listener(self, heard: Callable[[str], None]) -> Listener | None:
        """Return what hears the notifications of other writers, where there can be any.

        Args:
            heard: called on the event loop with what they say, and with "" when something may have been missed.
        """


@dataclass(frozen=True, slots=True)
class SQLiteDatabase:
    """A file. The data folder's lock keeps other servers away from it.

    Attributes:
        path: the file.
    """

    path: Path

    def writer(self) -> Connection:
        """Open the writing connection."""
        connection = sqlite.writer(self.path)
        try:
            migrate(connection, self.path.with_name("backups"))
            sqlite.look(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def reader(self) -> Connection:
        """Open a reading connection."""
        return sqlite.reader(self.path)

    def listener(self, heard: Callable[[str], None]) -> None:
        """Return nothing: nobody else writes to the file."""


def database_of(folder: Path, url: str | None) -> Database:
    """Return the database that a server uses.

    Args:
        folder: its data folder.
        url: address of a PostgreSQL database, or None.

    Raises:
        UsageError: the address cannot be read, or the driver is not installed.
    """
    if url is None:
        return SQLiteDatabase(folder / "pullcord.db")
    parsed(url)
    from pullcord.store.postgres import PostgresDatabase

    return PostgresDatabase(url)
