"""What commands and queries need of a database's driver: both stores speak to them through this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pullcord.core.errors import StoreError

NOTHING: Mapping[str, Any] = {}
"""No parameters."""


class Cursor(Protocol):
    """The rows of a statement, and how many it changed."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""

    @property
    def description(self) -> Any:
        """One tuple for each column, beginning with its name."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""

    def __iter__(self) -> Iterator[Any]:
        """Go through the rows that are left."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in a driver.

    Attributes:
        error: the same in Pullcord's words, with advice.
        of_the_values: whether the values of a statement are to blame, so that bisecting its batch helps.
        unknown: whether a commit may have happened all the same; `Connection.committed` finds out.
    """

    error: StoreError
    of_the_values: bool
    unknown: bool = False


class Connection(Protocol):
    """An open connection; statements are in the language of `store.statement`.

    Attributes:
        keeps_statistics: whether the database knows by itself which index leads to few rows.
        contended: whether other servers may write to the database at the same time.
    """

    keeps_statistics: bool
    contended: bool

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""

    @property
    def usable(self) -> bool:
        """Whether it can still be used; a connection to a server may have broken."""

    def execute(self, sql: str, parameters: Mapping[str, Any] = NOTHING, /) -> Cursor:
        """Run a statement."""

    def array(self, sql: str, parameters: Mapping[str, Any] = NOTHING, /) -> list[Any]:
        """Return all rows of a `SELECT EACH[…]`, each a sequence."""

    def lock(self, sql: str, parameters: Mapping[str, Any] = NOTHING, /) -> None:
        """Lock the rows of a `SELECT … FOR UPDATE` until the transaction ends."""

    def notify(self, payload: str) -> None:
        """Tell other servers on this database, when the transaction is on disk."""

    def begin(self) -> None:
        """Open a write transaction."""

    def commit(self) -> None:
        """Put the transaction on disk; when this returns it is there."""

    def committed(self) -> bool:
        """Find out what became of a transaction whose commit failed in the unknown.

        Raises:
            Exception: the database cannot be asked yet.
        """

    def abandon(self) -> None:
        """Break the connection under a statement that does not come back; called on another thread."""

    def rollback(self) -> None:
        """Give up the transaction, if there is one."""

    def size(self) -> int:
        """Return the size of the database, bytes."""

    def failure(self, error: Exception) -> Failure | None:
        """Explain an error of the driver, or of opening a connection anew; None for any other error."""

    def close(self) -> None:
        """Close it."""


def explained(connection: Connection, error: Exception) -> Exception:
    """Return what to raise for an error that a query or statement raised."""
    failure = connection.failure(error)
    return error if failure is None else failure.error
