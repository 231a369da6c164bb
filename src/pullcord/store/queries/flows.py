"""Flows as the store remembers them."""

from __future__ import annotations

from typing import Any

from pullcord.clock import rfc3339
from pullcord.core.manifest import FlowSpec
from pullcord.store.connection import Connection
from pullcord.store.queries.runs import parsed


def stored_flows(connection: Connection) -> dict[str, FlowSpec]:
    """Return every flow that was registered and has not left its location."""
    rows = connection.execute("SELECT name, spec FROM flows WHERE removed_at IS NULL ORDER BY name").fetchall()
    return {row[0]: FlowSpec(**parsed(row[1])) for row in rows}


def removed_flows(connection: Connection) -> dict[str, tuple[FlowSpec, int]]:
    """Return every flow that was registered once and has left its location, with the time, microseconds."""
    rows = connection.execute(
        "SELECT name, spec, removed_at FROM flows WHERE removed_at IS NOT NULL ORDER BY name"
    ).fetchall()
    return {row[0]: (FlowSpec(**parsed(row[1])), row[2]) for row in rows}


def last_runs(connection: Connection, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return the newest run of each flow: `{"id", "state", "queued_at", "ended_at"}`."""
    result: dict[str, dict[str, Any]] = {}
    for name in names:
        row = connection.execute(
            "SELECT uuid, state, queued_at, started_at, ended_at FROM runs WHERE flow = :flow ORDER BY id DESC LIMIT 1",
            {"flow": name},
        ).fetchone()
        if row is not None:
            result[name] = {
                "id": row[0],
                "state": row[1],
                "queued_at": rfc3339(row[2]),
                "started_at": rfc3339(row[3]),
                "ended_at": rfc3339(row[4]),
            }
    return result


def oldest_queued(connection: Connection) -> int | None:
    """Return when the queued run with the lowest number was queued, microseconds; None when none is.

    That is the oldest one, but for runs that were tried again or had to wait for a time before they were queued.
    """
    row = connection.execute("SELECT queued_at FROM runs WHERE state = 'queued' ORDER BY id LIMIT 1").fetchone()
    return None if row is None else row[0]


def counts(connection: Connection) -> dict[str, int]:
    """Return how many runs are in each state that is not an end."""
    rows = connection.execute(
        "SELECT state, count(*) FROM runs WHERE state IN "
        "('scheduled', 'queued', 'running', 'waiting', 'cancelling') GROUP BY state"
    ).fetchall()
    return {row[0]: row[1] for row in rows}
