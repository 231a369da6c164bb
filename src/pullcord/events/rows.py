"""Rows of a database that are new."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from itertools import pairwise
from typing import Any, Unpack
from uuid import UUID

from pullcord.core.canonical import canonical_json
from pullcord.core.durations import Duration
from pullcord.core.errors import DefinitionError
from pullcord.core.event import Cursor, EventTrigger, Fire, PollError, Skip
from pullcord.events.database import Database
from pullcord.events.declare import Flows, Options, declared

Position = int | float | str


class NewRows:
    """Fires for the rows of a query that come after a position, its cursor.

    Args:
        address: SQLAlchemy's, without a password, or `env:NAME`.
        query: with `:cursor`, in the order of the column.
        column: whose value in the last row becomes the cursor.
        start: the first cursor.
        batch: one fire for all rows of a poll.
        limit: rows of one poll at most.
    """

    def __init__(
        self,
        address: str,
        query: str,
        column: str = "id",
        start: Position = 0,
        batch: bool = False,
        limit: int = 500,
    ) -> None:
        if ":cursor" not in query:
            raise DefinitionError("the query needs :cursor, as in 'SELECT … WHERE id > :cursor ORDER BY id'")
        if not 1 <= limit <= 10_000:
            raise DefinitionError(f"limit is 1 to 10000 rows, not {limit}")
        self.query, self.column, self.start = query, column, start
        self.batch, self.limit = batch, limit
        self._database = Database(address)

    def poll(self, state: Cursor) -> list[Fire] | Skip:
        """Read the rows after the cursor.

        Raises:
            PollError: the database cannot be asked, or the query does not go on from the cursor.
        """
        cursor = self.start if state.value is None else state.value
        with self._database.select(self.query, {"cursor": cursor}, self.limit + 1) as result:
            rows = [dict(row._mapping) for row in result.fetchmany(self.limit + 1)]
        if not rows:
            return Skip("no new rows")
        positions = self._positions(rows, cursor)
        count = len(rows)
        if count > self.limit:
            # Rows that share a position go together, for none of them would come after the cursor later.
            count = next(
                (number for number in range(self.limit, 0, -1) if positions[number] != positions[number - 1]), 0
            )
            if count == 0:
                raise PollError(
                    f"more than {self.limit} rows have the same {self.column}; take a column that differs in each row, "
                    "or raise limit",
                    permanent=True,
                )
        state.value = positions[count - 1]
        if self.batch:
            return [Fire({"rows": rows[:count]})]
        return [Fire(row) for row in rows[:count]]

    def teardown(self) -> None:
        """Close the connection."""
        self._database.close()

    def _positions(self, rows: list[dict[str, Any]], cursor: Any) -> list[Position]:
        try:
            values = [row[self.column] for row in rows]
            ordered = all(before <= after for before, after in pairwise(values))
        except KeyError:
            raise PollError(f"the query gives no column {self.column!r}", permanent=True) from None
        except TypeError:
            raise PollError(f"the column {self.column!r} has no order: NULLs or mixed types", permanent=True) from None
        if not ordered:
            raise PollError(f"the rows are not in order; write ORDER BY {self.column}", permanent=True)
        positions = [_position(value) for value in values]
        if canonical_json(positions[0]) == canonical_json(cursor):
            raise PollError(
                f"the query gives the row at the cursor again; write {self.column} > :cursor", permanent=True
            )
        return positions


def _position(value: Any) -> Position:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, int | float | str):
        return value
    raise PollError(f"a cursor cannot be a {type(value).__name__}; take a number, a text or a time", permanent=True)


def rows(
    address: str,
    query: str,
    *,
    column: str = "id",
    start: Position = 0,
    batch: bool = False,
    limit: int = 500,
    flow: Flows = (),
    every: Duration = "5s",
    name: str | None = None,
    **options: Unpack[Options],
) -> EventTrigger:
    """Run a flow for each new row of a database, or once for all that a poll finds.

    The columns are the context, with `batch` it is `{"rows": […]}`. What the query changes is rolled back. A row that
    becomes visible behind the cursor is not seen: transactions that commit in another order than they took their ids,
    and rows that get the same time later. Leave the last seconds out of the query where that can happen.

    Args:
        address: any address that SQLAlchemy knows, without a password in it, or `env:NAME` for the variable of the
            server's environment that holds it. SQLAlchemy and the driver must be installed where the flow runs.
        query: with `:cursor`, in order: `SELECT id, total FROM orders WHERE id > :cursor ORDER BY id`.
        column: whose value in the last row becomes the cursor.
        start: the first cursor.
        batch: one fire for all rows of a poll.
        limit: rows of one poll at most, up to 10,000; the next poll goes on.
        flow: what to run: a flow, its name, or a list.
        every: time between queries.
        name: `{flow}-rows` unless given.
        **options: `allow_concurrent`, `max_errors` and `enabled`, as `pc.event` takes them.

    Raises:
        DefinitionError: the declaration cannot work.
    """
    parameters = {
        "address": address, "query": query, "column": column, "start": start, "batch": batch, "limit": limit,
    }  # fmt: skip
    return declared(NewRows, "rows", parameters, flow=flow, every=every, name=name, options=options)
