"""Triggers as the store knows them, and their histories."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pullcord.clock import rfc3339
from pullcord.core.manifest import TriggerSpec
from pullcord.store.commands.triggers import DIGEST, TriggerState
from pullcord.store.connection import Connection
from pullcord.store.queries.page import Page
from pullcord.store.queries.runs import parsed


@dataclass(slots=True)
class StoredTrigger:
    """A trigger's row.

    Attributes:
        id: its number.
        uuid: its id.
        spec: as declared.
        override: JSON of what people changed, or None.
        registered_at: when it was first declared, microseconds.
        removed_at: when it left the code, microseconds, or None.
        generation: grows with every change by people.
        state: how far it has come.
    """

    id: int
    uuid: str
    spec: TriggerSpec
    override: str | None
    registered_at: int
    removed_at: int | None
    generation: int
    state: TriggerState


def stored_triggers(connection: Connection) -> list[StoredTrigger]:
    """Return all triggers that were ever declared."""
    rows = connection.execute(
        "SELECT t.id, t.uuid, t.name, t.kind, t.location, t.flows, t.place, t.description, t.enabled, t.parameters, "
        "t.settings, t.override, t.registered_at, t.removed_at, s.generation, s.cursor, s.next_due, s.last_poll_at, "
        "s.last_fired_at, s.errors, s.error FROM triggers t JOIN trigger_state s ON s.trigger_id = t.id ORDER BY t.id"
    ).fetchall()
    seen: dict[Any, Any] = {}
    once = seen.setdefault  # what many triggers have in common is kept once
    flows = lru_cache(1000)(lambda text: tuple(parsed(text)))
    return [
        StoredTrigger(
            row[0],
            row[1],
            TriggerSpec(
                row[2],
                once(row[3], row[3]),
                once(row[4], row[4]),
                flows(row[5]),
                once(row[6], row[6]),
                once(row[7], row[7]),
                bool(row[8]),
                once(row[9], row[9]),
                once(row[10], row[10]),
            ),
            row[11],
            row[12],
            row[13],
            row[14],
            TriggerState(*row[15:21]),
        )
        for row in rows
    ]


def trigger_digests(connection: Connection) -> dict[str, str]:
    """Return for each location what stands for all of its triggers that are registered."""
    rows = connection.execute("SELECT name, value FROM meta WHERE name LIKE 'triggers:%'").fetchall()
    return {row[0].removeprefix(DIGEST): row[1] for row in rows}


def trigger_history(connection: Connection, trigger: int, page: Page, offset: int = 0) -> dict[str, Any]:
    """Return a page of a trigger's history, newest first.

    Args:
        trigger: its number.
        page: which part.
        offset: so many lines of it are left out.
    """
    rows = connection.execute(
        "SELECT id, outcome, reason, detail, at, last_at, count FROM trigger_history "
        "WHERE trigger_id = :trigger AND id < :before ORDER BY id DESC LIMIT :limit OFFSET :offset",
        {"trigger": trigger, "before": page.before(), "limit": page.limit + 1, "offset": offset},
    ).fetchall()
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    return {"items": [_line(row) for row in rows], "next": str(rows[-1][0]) if more else None}


def _line(row: Any) -> dict[str, Any]:
    return {
        "id": row[0],
        "outcome": row[1],
        "reason": row[2],
        "detail": parsed(row[3]),
        "at": rfc3339(row[4]),
        "last_at": rfc3339(row[5]),
        "count": row[6],
    }


def ended_runs(connection: Connection, limit: int) -> list[tuple[int, str, str, str]]:
    """Return number, id, flow and state of the oldest noted runs whose end starts others."""
    rows = connection.execute(
        "SELECT e.run_id, r.uuid, r.flow, r.state FROM endings e JOIN runs r ON r.id = e.run_id "
        "ORDER BY e.run_id LIMIT :limit",
        {"limit": limit},
    ).fetchall()
    return [(row[0], row[1], row[2], row[3]) for row in rows]
