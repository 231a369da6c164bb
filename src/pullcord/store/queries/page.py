"""Lists, newest first, by cursor: the cursor is the number of the last row that was shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pullcord.core.errors import UsageError
from pullcord.store.connection import Connection


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
    select: str,
    conditions: list[str],
    parameters: dict[str, Any],
    page: Page,
    item: Callable[[Any], dict[str, Any]],
) -> dict[str, Any]:
    """Return `{"items", "next"}` of a list.

    Args:
        select: the SELECT up to WHERE; its first column is the row's number, its first table is called `t`.
        conditions: SQL conditions, joined by AND.
        parameters: their values.
        item: makes an item of a row.
    """
    where = " AND ".join(["t.id < :before", *conditions])
    rows = connection.execute(
        f"{select} WHERE {where} ORDER BY t.id DESC LIMIT :limit",
        parameters | {"before": page.before(), "limit": page.limit + 1},
    ).fetchall()
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    return {"items": [item(row) for row in rows], "next": str(rows[-1][0]) if more else None}
