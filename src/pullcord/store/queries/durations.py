"""Which runs go on, and since when."""

from __future__ import annotations

from pullcord.store.connection import Connection


def begun_runs(connection: Connection) -> list[tuple[int, str, int]]:
    """Return number, flow and start, microseconds, of the runs that go on, also of those that wait.

    A run between two attempts is here again when the next one begins, with its first start. Test runs are left out.
    """
    rows = connection.array(
        "SELECT EACH[id, flow, started_at] FROM runs WHERE state IN ('running', 'waiting', 'cancelling') "
        "AND test = 0 AND started_at IS NOT NULL",
        {},
    )
    return [(row[0], row[1], row[2]) for row in rows]
