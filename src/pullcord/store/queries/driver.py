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

TABLE: Final = "t.id"
"""Walk along the table, that is, in the order of the numbers."""


def driver(
    connection: Connection,
    tables: Mapping[str, str],
    filters: Mapping[str, str],
    parameters: Mapping[str, Any],
    span: range,
    wanted: int,
) -> str:
    """Return the column whose index to walk along, or `TABLE`.

    Args:
        connection: where to count.
        tables: what is listed, called `t`, and tables with the same numbers, by what conditions call them.
        filters: a condition for each column, such as `t.flow`, that has an index together with the number.
        parameters: the values of all conditions; the numbers' bounds are `first` and `before`.
        span: the same bounds.
        wanted: how many rows will be shown.
    """
    if connection.keeps_statistics or not filters or not span:
        return TABLE
    if len(filters) == 1 and not next(iter(filters.values())).endswith("VALUES[flows]"):
        return next(iter(filters))
    newest = int(connection.execute(f"SELECT coalesce(max(id), 0) FROM {tables['t']}").fetchone()[0])
    size = max(0, min(span.stop, newest + 1) - span.start)
    if size <= BOUNDS[0]:
        return TABLE
    counts: dict[str, int] = {}
    for bound in BOUNDS:
        for column, condition in filters.items():
            alias = column.partition(".")[0]
            within = f"{condition} AND {alias}.id >= :first AND {alias}.id < :before"
            counts[column] = _count(connection, f"{_hinted(tables, alias, column)} WHERE {within}", parameters, bound)
        if min(counts.values()) < bound:
            break
    return choose(counts, size, wanted)


def source(tables: Mapping[str, str], column: str) -> str:
    """Return what to select from, to walk along a column that `driver` gave; tables are joined by their numbers."""
    joined = [f"JOIN {_hinted(tables, alias, column)} ON {alias}.id = t.id" for alias in tables if alias != "t"]
    return " ".join([_hinted(tables, "t", column), *joined])


def _hinted(tables: Mapping[str, str], alias: str, column: str) -> str:
    walked, _, name = column.partition(".")
    indexed = walked == alias and column != TABLE
    return f"{tables[alias]} {alias} " + (f"INDEXED BY {tables[alias]}_{name}" if indexed else "NOT INDEXED")


def choose(counts: Mapping[str, int], size: int, wanted: int) -> str:
    """Return the column of the cheapest way, or `TABLE`.

    Args:
        counts: rows that each filter leaves, as far as they were counted.
        size: rows of the table within the bounds.
        wanted: how many rows will be shown.
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
            best, cost = column, this
    return best


def _count(connection: Connection, which: str, parameters: Mapping[str, Any], most: int) -> int:
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {which} LIMIT :most) AS counted"
    return int(connection.execute(sql, {**parameters, "most": most}).fetchone()[0])
