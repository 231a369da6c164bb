"""How long runs take, and have taken."""

from __future__ import annotations

from statistics import median
from typing import Final

from pullcord.store.connection import Connection

LATEST: Final = 100
"""The usual duration is that of successful runs among so many latest ones of a flow."""

LEAST: Final = 3
"""With fewer successful runs among them, nothing is usual."""


def running_runs(connection: Connection) -> list[tuple[int, str, int]]:
    """Return number, flow and start, microseconds, of the runs that run now; test runs are left out."""
    rows = connection.array(
        "SELECT EACH[id, flow, started_at] FROM runs WHERE state = 'running' AND test = 0 AND started_at IS NOT NULL",
        {},
    )
    return [(row[0], row[1], row[2]) for row in rows]


def usual_duration(connection: Connection, flow: str) -> int | None:
    """Return the median duration of a flow's latest successful runs, microseconds; None when there are too few."""
    rows = connection.array(
        "SELECT EACH[state, test, started_at, ended_at] FROM (SELECT state, test, started_at, ended_at FROM runs "
        "WHERE flow = :flow ORDER BY id DESC LIMIT :latest) AS latest",
        {"flow": flow, "latest": LATEST},
    )
    took = [ended - began for state, test, began, ended in rows if state == "succeeded" and not test and began]
    return int(median(took)) if len(took) >= LEAST else None
