"""The attempts of runs, as their items show them."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from pullcord.clock import rfc3339
from pullcord.core.states import ENDED, RunState
from pullcord.store.connection import Connection
from pullcord.store.statement import dump

_KEPT = """
SELECT EACH[run_id, attempt, started_at, ended_at, error, next_at] FROM attempts WHERE run_id IN VALUES[ids:int]"""


def failed_attempts(connection: Connection, ids: list[int]) -> dict[int, list[dict[str, Any]]]:
    """Return the attempts of runs that another one follows, oldest first, by the runs' numbers."""
    found: dict[int, list[dict[str, Any]]] = {}
    if ids:
        for row in sorted(connection.array(_KEPT, {"ids": dump(ids)}), key=lambda row: row[1]):
            times = (rfc3339(row[2]), rfc3339(row[3]))
            error = None if row[4] is None else shown_error(from_json(row[4]))
            found.setdefault(row[0], []).append(_attempt(row[1], RunState.FAILED, times, error, rfc3339(row[5])))
    return found


def latest_attempt(item: dict[str, Any], started_at: str | None) -> dict[str, Any]:
    """Return the attempt that a run is in, or ended with.

    Args:
        item: the run's item.
        started_at: when the attempt started, if it did and is not the first.
    """
    began = item["started_at"] if item["attempt"] == 1 else started_at
    error = item["error"] if item["state"] in ENDED else None
    return _attempt(item["attempt"], item["state"], (began, item["ended_at"]), error, None)


def shown_error(record: dict[str, Any]) -> dict[str, Any]:
    """Return what is shown of an error record."""
    return {"type": record["type"], "message": record["message"], "traceback": record.get("traceback")}


def _attempt(
    number: int, state: str, times: tuple[str | None, str | None], error: dict[str, Any] | None, next_at: str | None
) -> dict[str, Any]:
    return {
        "attempt": number,
        "state": state,
        "started_at": times[0],
        "ended_at": times[1],
        "error": error,
        "next_at": next_at,
    }
