"""Lists, newest first, by cursor: the cursor is the number of the last row that was shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from pullcord.core.errors import UsageError
from pullcord.store.connection import Connection
from pullcord.store.queries.driver import driver, source
from pullcord.store.queries.numbering import first_since


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted.

    Attributes:
        limit: 1 to 1000 rows.
        cursor: what the page before gave as `next`.
    """

    limit: int = 50
    cursor: str | None = None

    def before(self) -> int:
        """Return the number below which the page begins.

        Raises:
            UsageError: the cursor is none that a list gave.
        """
        if self.cursor is None:
            return 2**62
        if not self.cursor.isascii() or not self.cursor.isdigit() or len(self.cursor) > 18:
            raise UsageError(f"{self.cursor[:40]!r} is not a cursor; use the `next` of the page before")
        return int(self.cursor)


@dataclass(frozen=True, slots=True)
class Listed:
    """What is listed.

    Attributes:
        tables: what is listed, called `t`, and tables with the same numbers, by what conditions call them.
        select: the SELECT up to WHERE; its first column is the row's number.
        filters: a SQL condition for each column, such as `t.flow`, that has an index together with the number.
        others: further SQL conditions.
        parameters: the values of all conditions.
        since: asked for at or after, microseconds.
        until: before, microseconds.
    """

    tables: Mapping[str, str]
    select: str
    filters: Mapping[str, str]
    others: list[str]
    parameters: Mapping[str, Any]
    since: int | None
    until: int | None


def fetch_page(
    connection: Connection, listed: Listed, page: Page, item: Callable[[Any], dict[str, Any]]
) -> dict[str, Any]:
    """Return `{"items", "next"}` of a list; `item` makes an item of a row."""
    span = _span(connection, listed, page)
    values = {**listed.parameters, "first": span.start, "before": span.stop, "limit": page.limit + 1}
    column = driver(connection, listed.tables, listed.filters, values, span, page.limit + 1)
    number = f"{column.partition('.')[0]}.id"
    conditions = [f"{number} >= :first", f"{number} < :before", *listed.filters.values(), *listed.others]
    # What is shown of a row is fetched for the rows of the page alone, and not for all that were looked at.
    numbers = (
        f"SELECT {number} AS id FROM {source(listed.tables, column)} WHERE {' AND '.join(conditions)} "
        f"ORDER BY {number} DESC LIMIT :limit"
    )
    rows = connection.execute(f"{listed.select} WHERE t.id IN (SELECT id FROM ({numbers}) AS page)", values).fetchall()
    rows.sort(key=itemgetter(0), reverse=True)
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    return {"items": [item(row) for row in rows], "next": str(rows[-1][0]) if more else None}


def _span(connection: Connection, listed: Listed, page: Page) -> range:
    """Turn times and cursor into numbers: requests, and the runs they became, are numbered in the order of time."""
    first, before = 0, page.before()
    if listed.since is not None:
        first = first_since(connection, listed.since)
    if listed.until is not None:
        before = min(before, first_since(connection, listed.until))
    return range(first, before)
