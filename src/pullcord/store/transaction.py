"""One write transaction as the commands see it, and what a command is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from pullcord.core.errors import StoreError
from pullcord.store.connection import Connection
from pullcord.store.hints import Hints


@dataclass(slots=True)
class Transaction:
    """An open transaction.

    Attributes:
        connection: the writer's connection.
        now: the time of this transaction, microseconds; it never goes back between transactions.
        owner: number of this server's incarnation.
        hints: what the claim at the end should look at.
        clock: what the clock says, microseconds; unlike `now` it goes back with it. `now` unless given.
    """

    connection: Connection
    now: int
    owner: int
    hints: Hints
    clock: int = 0

    def __post_init__(self) -> None:
        self.clock = self.clock or self.now

    def execute(self, sql: str, parameters: Mapping[str, Any]) -> int:
        """Run a statement and return how many rows it changed."""
        return self.connection.execute(sql, parameters).rowcount

    def value(self, sql: str, parameters: Mapping[str, Any]) -> Any:
        """Return the first column of the first row, or None."""
        row = self.connection.execute(sql, parameters).fetchone()
        return None if row is None else row[0]

    def array(self, sql: str, parameters: Mapping[str, Any]) -> list[Any]:
        """Return all rows of a `SELECT EACH[…]`."""
        return self.connection.array(sql, parameters)

    def next_id(self, table: str) -> int:
        """Return the first free number of a table that only this writer inserts into."""
        return int(self.value(f"SELECT coalesce(max(id), 0) + 1 FROM {table}", {}))


class Command(Protocol):
    """Something to write. All commands of a class in one batch are applied together, in order.

    Attributes:
        keep_trying: a command that was promised to a worker is tried again after a full disk or an I/O error;
            others fail at once and say so.
        done: called on the event loop with the result when it is on disk, or with the error.
    """

    keep_trying: ClassVar[bool]

    @property
    def done(self) -> Callable[[Any], None]:
        """Return what takes the result."""

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[Self]) -> list[Any]:
        """Write the commands and return one result for each."""

    def split(self) -> Sequence[Self]:
        """Return smaller commands that say the same, for finding the one that poisons a batch."""

    def failure(self, error: StoreError) -> Any:
        """Return the result when nothing could be written."""


def ignore(_: Any) -> None:
    """Take a result that nobody waits for."""
