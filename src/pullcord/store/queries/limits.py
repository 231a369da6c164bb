"""Limits as people see them, and what a queued run waits for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from pullcord.core.concurrency import NO_LIMIT, group_key
from pullcord.core.states import RunState
from pullcord.store.commands.overlap import MOST_AHEAD
from pullcord.store.connection import Connection
from pullcord.store.queries.page import Page
from pullcord.store.queries.runs import RunFilter, list_runs, parsed
from pullcord.store.statement import dump

_GROUP: Final = group_key("")

FEW: Final = 50
"""Of so many queued runs at most it is said how many others are before them."""

_COLUMNS = "key, capacity, declared, configured, override, shared, rule"
_ACTIVE = "state IN ('running', 'waiting', 'cancelling')"
_HELD = f"""
SELECT EACH[name, held] FROM (
    SELECT flow AS name, count(*) AS held FROM runs WHERE slot IS NOT NULL AND {_ACTIVE} GROUP BY flow
    UNION ALL SELECT shared AS name, count(*) AS held FROM runs WHERE shared IS NOT NULL AND {_ACTIVE} GROUP BY shared
) AS found"""
_QUEUED = """
SELECT EACH[name, queued] FROM (
    SELECT flow AS name, count(*) AS queued FROM runs WHERE slot IS NOT NULL AND state = 'queued' GROUP BY flow
    UNION ALL SELECT shared AS name, count(*) AS queued FROM runs WHERE shared IS NOT NULL AND state = 'queued'
    GROUP BY shared
) AS found"""
_WAITING = """
SELECT EACH[r.uuid, r.id, r.priority, r.slot, s.capacity, r.shared, g.capacity]
FROM runs r JOIN slots s ON s.key = r.flow LEFT JOIN slots g ON g.key = r.shared
WHERE r.uuid IN VALUES[uuids] AND r.slot IS NOT NULL"""


def list_limits(connection: Connection, key: str | None = None) -> list[dict[str, Any]]:
    """Return all limits by name, or one: `{"name", "kind", "limit", "declared", "configured", "override", …}`.

    A flow without a limit is among them only when it is asked for by name, or somebody gave it one.
    """
    where, parameters = ("WHERE key = :key", {"key": key}) if key is not None else ("", {})
    found = connection.execute(f"SELECT {_COLUMNS} FROM slots {where} ORDER BY key", parameters).fetchall()
    held = dict(connection.array(_HELD))
    queued = dict(connection.array(_QUEUED))
    members: dict[str, list[str]] = {}
    for row in connection.execute("SELECT shared, key FROM slots WHERE shared IS NOT NULL ORDER BY key").fetchall():
        members.setdefault(row[0], []).append(row[1])
    removed = {row[0] for row in connection.execute("SELECT name FROM flows WHERE removed_at IS NOT NULL").fetchall()}
    return [
        _item(row, held.get(row[0], 0), queued.get(row[0], 0), members.get(row[0], []))
        for row in found
        if key is not None or (row[0] not in removed and (row[1] < NO_LIMIT or row[4] is not None))
    ]


def _item(row: Any, held: int, queued: int, members: list[str]) -> dict[str, Any]:
    key, capacity, declared, configured, override, shared, rule = row
    is_group = key.startswith(_GROUP)
    return {
        "name": key,
        "kind": "group" if is_group else "flow",
        "limit": None if capacity == NO_LIMIT else capacity,
        "declared": declared,
        "configured": configured,
        "override": parsed(override),
        "key": rule,
        "group": shared,
        "flows": members if is_group else [key],
        "held": held,
        "queued": queued,
    }


def changed_limits(connection: Connection) -> set[str]:
    """Return the limits that somebody has changed."""
    rows = connection.execute("SELECT key FROM slots WHERE override IS NOT NULL").fetchall()
    return {row[0] for row in rows}


def explain_waiting(connection: Connection, items: Iterable[dict[str, Any]]) -> None:
    """Have run items that are queued say what they wait for, a limit or a worker.

    How many runs are before one is said for a few items only: counting them for a whole page would take long.
    """
    queued = {item["id"]: item for item in items if item["state"] == RunState.QUEUED and item["waiting_for"] is None}
    if not queued:
        return
    holders: dict[str, list[str]] = {}
    for uuid, run_id, priority, *needs in connection.array(_WAITING, {"uuids": dump(list(queued))}):
        queued[uuid]["waiting_for"] = {"kind": "worker", "text": "waits for a worker"}
        for column, key, limit in (("slot", *needs[:2]), ("shared", *needs[2:])):
            if key is None or limit is None:
                continue
            if key not in holders:
                holders[key] = _holders(connection, column, key, limit)
            if len(holders[key]) < limit:
                continue
            ahead = _ahead(connection, column, key, priority, run_id) if len(queued) <= FEW else None
            queued[uuid]["waiting_for"] = {"kind": "slot", "text": _sentence(key, limit, holders[key][0], ahead)}
            break


def list_waiting_runs(connection: Connection, which: RunFilter, page: Page) -> dict[str, Any]:
    """Return a page of runs as `list_runs` does; those in a queue say what they wait for."""
    listed = list_runs(connection, which, page)
    explain_waiting(connection, listed["items"])
    return listed


def _holders(connection: Connection, column: str, key: str, limit: int) -> list[str]:
    sql = f"SELECT uuid FROM runs WHERE {column} = :key AND {_ACTIVE} ORDER BY id LIMIT {limit}"
    return [row[0] for row in connection.execute(sql, {"key": key}).fetchall()]


def _ahead(connection: Connection, column: str, key: str, priority: int, run_id: int) -> int:
    sql = (
        f"SELECT count(*) FROM (SELECT 1 FROM runs WHERE {column} = :key AND state = 'queued' AND "
        f"(priority > :priority OR (priority = :priority AND id < :id)) LIMIT {MOST_AHEAD + 1}) AS ahead"
    )
    return int(connection.execute(sql, {"key": key, "priority": priority, "id": run_id}).fetchone()[0])


def _sentence(key: str, limit: int, holder: str, ahead: int | None) -> str:
    what = f"the group {key.removeprefix(_GROUP)}" if key.startswith(_GROUP) else key
    taken = f"run {holder} has the one slot" if limit == 1 else f"all {limit} slots are taken"
    if ahead is None:
        return f"waits for a slot of {what}: {taken}"
    if ahead > MOST_AHEAD:
        turn = f"more than {MOST_AHEAD:,} runs are before it"
    else:
        turn = {0: "it is next", 1: "1 run is before it"}.get(ahead, f"{ahead:,} runs are before it")
    return f"waits for a slot of {what}: {taken}, {turn}"
