"""Which index a list walks along, where several would do.

SQLite keeps no statistics here: they would be of the day they were taken, and a planner without them guesses. A list
of the few runs of one invoker must not walk along the many that succeeded. So the rows that each filter leaves are
counted, up to a bound, and the list walks along what promises to be through first. PostgreSQL keeps statistics, and
decides by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pullcord.store.connection import Connection

BOUNDS: Final = (500, 8_000)
"""Rows up to which filters are counted: most are told apart by the first, within a tenth of a millisecond."""

_LOOK_UP: Final = 2.0
"""What a row costs that an index leads to, where 1 is the next row of the table itself."""

TABLE: Final = "NOT INDEXED"
"""Walk along the table, that is, in the order of the numbers."""


def driver(
    connection: Connection,
    table: str,
    filters: Mapping[str, str],
    parameters: Mapping[str, Any],
    span: range,
    wanted: int,
) -> str:
    """Return how to walk through a table: `INDEXED BY …` or `TABLE`.

    Args:
        connection: where to count.
        table: `runs` or `requests`, called `t` in conditions.
        filters: a condition for each column that has an index together with the number.
        parameters: the values of all conditions; the numbers' bounds are `first` and `before`.
        span: the same bounds.
        wanted: how many rows will be shown.
    """
    if connection.keeps_statistics or not filters or not span:
        return TABLE
    hints = {column: f"INDEXED BY {table}_{column}" for column in filters}
    if len(filters) == 1 and not next(iter(filters.values())).endswith("VALUES[flows]"):
        return next(iter(hints.values()))
    newest = int(connection.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0])
    size = max(0, min(span.stop, newest + 1) - span.start)
    if size <= BOUNDS[0]:
        return TABLE
    counts: dict[str, int] = {}
    for bound in BOUNDS:
        for column, condition in filters.items():
            counts[column] = _count(connection, f"{table} t {hints[column]}", condition, parameters, bound)
        if min(counts.values()) < bound:
            break
    return choose(counts, size, wanted, hints)


def choose(counts: Mapping[str, int], size: int, wanted: int, hints: Mapping[str, str]) -> str:
    """Return the hint of the cheapest way.

    Args:
        counts: rows that each filter leaves, as far as they were counted.
        size: rows of the table within the bounds.
        wanted: how many rows will be shown.
        hints: what to say for each filter.
    """
    shares = {column: min(1.0, count / max(1, size)) for column, count in counts.items()}

    def rows(length: int, others: list[float]) -> float:
        """Return how many rows are looked at until enough are found, were the filters independent."""
        share = 1.0
        for other in others:
            share *= other
        return min(length, wanted / share) if share else length

    best, cost = TABLE, rows(size, list(shares.values()))
    for column, count in counts.items():
        this = _LOOK_UP * rows(count, [share for other, share in shares.items() if other != column])
        if this < cost:
            best, cost = hints[column], this
    return best


def _count(connection: Connection, source: str, condition: str, parameters: Mapping[str, Any], most: int) -> int:
    where = f"{condition} AND t.id >= :first AND t.id < :before"
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {source} WHERE {where} LIMIT :most) AS counted"
    return int(connection.execute(sql, {**parameters, "most": most}).fetchone()[0])
