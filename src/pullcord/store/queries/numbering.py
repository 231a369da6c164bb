"""From a time to a number: requests, and the runs they became, are numbered in the order of time.

The writer sees to it, whatever the clock does. So a time is found by halving the numbers, and needs no index.
"""

from __future__ import annotations

from typing import Final

from pullcord.store.connection import Connection

_FIRST_SINCE: Final = """
WITH RECURSIVE search (low, high) AS (
    SELECT coalesce((SELECT min(id) FROM requests), 1), coalesce((SELECT max(id) FROM requests), 0) + 1
    UNION ALL
    SELECT CASE WHEN q.at < :at THEN q.id + 1 ELSE low END, CASE WHEN q.at < :at THEN high ELSE (low + high) / 2 END
    FROM search JOIN requests q ON q.id = (SELECT min(n.id) FROM requests n WHERE n.id >= (low + high) / 2)
    WHERE low < high)
SELECT low FROM search WHERE low = high"""


def first_since(connection: Connection, at: int) -> int:
    """Return the number of the first request at or after a time; one higher than the last when there is none.

    Args:
        connection: where to look.
        at: the time, microseconds.
    """
    return int(connection.execute(_FIRST_SINCE, {"at": at}).fetchone()[0])
