"""Which runs go on, and since when."""

from __future__ import annotations

from pullcord.store.connection import Connection


def running_runs(connection: Connection) -> list[tuple[int, str, int]]:
    """Return number, flow and start, microseconds, of the runs that run now; test runs are left out."""
    rows = connection.array(
        "SELECT EACH[id, flow, started_at] FROM runs WHERE state = 'running' AND test = 0 AND started_at IS NOT NULL",
        {},
    )
    return [(row[0], row[1], row[2]) for row in rows]
