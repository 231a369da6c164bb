"""Lists, newest first, by cursor: the cursor is the number of the last row that was shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from pullcord.core.errors import UsageError
from pullcord.store.connection import Connection
from pullcord.store.queries.driver import driver


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


def fetch_page(
    connection: Connection,
    table: str,
    select: str,
    filters: Mapping[str, str],
    window: list[str],
    parameters: Mapping[str, Any],
    page: Page,
    item: Callable[[Any], dict[str, Any]],
) -> dict[str, Any]:
    """Return `{"items", "next"}` of a list.

    Args:
        table: the table that is listed, called `t` in conditions.
        select: the SELECT up to WHERE; its first column is the row's number.
        filters: a SQL condition for each column that has an index together with the number.
        window: SQL conditions on the number.
        parameters: their values.
        page: which part.
        item: makes an item of a row.
    """
    values = {**parameters, "before": page.before()}
    bounds = ["t.id < :before", *window]
    way = driver(connection, table, filters, bounds, values, page.limit + 1)
    # What is shown of a row is fetched for the rows of the page alone, and not for all that were looked at.
    numbers = (
        f"SELECT t.id FROM {table} t {way} WHERE {' AND '.join([*filters.values(), *bounds])} "
        "ORDER BY t.id DESC LIMIT :limit"
    )
    rows = connection.execute(
        f"{select} WHERE t.id IN (SELECT id FROM ({numbers}) AS page)", {**values, "limit": page.limit + 1}
    ).fetchall()
    rows.sort(key=itemgetter(0), reverse=True)
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    return {"items": [item(row) for row in rows], "next": str(rows[-1][0]) if more else None}
