"""Claiming: which runs may start now, decided from the rows alone (design rule 8).

A run holds a slot while it is `running`, `waiting` or `cancelling`. Held slots are counted, not kept in a
counter, so that nothing can drift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pullcord.store.commands.limited import LimitedQueues
from pullcord.store.commands.startable import startable
from pullcord.store.statement import dump
from pullcord.store.transaction import Transaction

# A run that is `waiting` without a worker is parked, and not lost: its answer or its time makes it `running` first.
# Without statistics SQLite would rather walk through the index on states and sort: a long queue, at every claim.
_ORPHANS = """
SELECT EACH[id, lane, 0] FROM (
    SELECT id, lane FROM runs
    WHERE owner IS NULL AND state IN ('running', 'cancelling') AND lane = :lane AND id > :floor
    ORDER BY lane, id LIMIT :room) AS found"""
_ORPHANS_LEFT = """
SELECT count(*) FROM runs WHERE owner IS NULL AND state IN ('running', 'cancelling') AND id > :floor"""
_FREE = """
SELECT EACH[id, lane, priority] FROM (
    SELECT id, lane, priority FROM runs INDEXED BY runs_queue
    WHERE state = 'queued' AND slot IS NULL AND lane = :lane AND id > :floor{also}
    ORDER BY priority DESC, id LIMIT :room) AS found"""
_TAKE = """
UPDATE runs SET state = 'running', token = token + 1, owner = :owner, started_at = coalesce(started_at, :now),
    waiting_for = NULL,
    attempt_started_at = CASE WHEN attempt > 1 AND state = 'queued' THEN :now ELSE attempt_started_at END
WHERE id IN VALUES[ids:int]"""
_CLAIMED = """
SELECT EACH[r.id, r.token, r.uuid, r.flow, r.inputs, r.attempt, r.lane,
    coalesce(r.recorded_version, r.flow_version),
    r.scheduled_for, r.test, r.takeovers, r.resumed_from, q.uuid, q.invoker, q.invoker_kind, q.on_behalf_of,
    q.trigger_kind, q.trigger_name, r.queued_at, r.started_at, coalesce(r.epoch, 1), r.resumed_from]
FROM runs r JOIN requests q ON q.id = r.id WHERE r.id IN VALUES[ids:int]"""
_STEPS = """
SELECT EACH[run_id, identity, name, seq, attempt, state, result, error]
FROM steps WHERE run_id IN VALUES[ids:int] AND set_aside IS NULL"""


@dataclass(slots=True)
class Claimed:
    """A run that a worker is to execute now, with everything the worker needs.

    Attributes:
        id: number of the run.
        token: its fencing token.
        uuid: its id.
        flow: the flow's name.
        inputs: as validated, JSON.
        attempt: 1, or more after a retry.
        lane: where it is dispatched.
        flow_version: version of the code that its steps were recorded with: that which it was admitted with, or its
            origin's.
        scheduled_for: the time a schedule meant, microseconds.
        test: whether it is a test.
        request_uuid: id of its request.
        invoker: `{"id", "kind", "on_behalf_of"}`; the last one JSON text.
        trigger: `{"kind", "name"}`.
        steps: recorded steps, `[identity, name, seq, attempt, state, result, error]`.
        queued_at: when it was queued last, microseconds.
        started_at: when it started first, microseconds.
        epoch: how often its records have begun anew, those of its origins counted in, from 1.
        resumed_from: number of the run whose recorded results it keeps.
    """

    id: int
    token: int
    uuid: str
    flow: str
    inputs: str
    attempt: int
    lane: str
    flow_version: str
    scheduled_for: int | None
    test: bool
    request_uuid: str
    invoker: dict[str, Any]
    trigger: dict[str, Any]
    steps: list[list[Any]]
    queued_at: int | None = None
    started_at: int | None = None
    epoch: int = 1
    resumed_from: int | None = None


def claim(tx: Transaction, room: Mapping[str, int], floor: int) -> list[Claimed]:
    """Let runs start where there is room.

    Args:
        room: how many more runs each lane can take.
        floor: only runs with a higher number are looked at.

    Orphans go first: they hold their slots already. Lanes and slots that got nothing for want of room stay
    in the hints.
    """
    left = dict(room)
    chosen: list[int] = []
    if tx.hints.orphans:
        for name, free in room.items():
            orphans = tx.array(_ORPHANS, {"lane": name, "floor": floor, "room": free}) if free > 0 else []
            chosen += [row[0] for row in orphans]
            left[name] = free - len(orphans)
        # Lanes without room, and lanes whose workers are not there yet, may have more.
        tx.hints.orphans = tx.value(_ORPHANS_LEFT, {"floor": floor}) > len(chosen)
    limited = LimitedQueues(tx, floor)
    lanes = {name for name, free in left.items() if free > 0}
    while lanes:
        for name in sorted(lanes):
            started = _of_lane(tx, limited, name, left[name], floor)
            chosen += started
            left[name] -= len(started)
        lanes = {name for name in limited.moved if left.get(name, 0) > 0}
        limited.moved.clear()
    return _take(tx, chosen) if chosen else []


def _of_lane(tx: Transaction, limited: LimitedQueues, name: str, room: int, floor: int) -> list[int]:
    """Return the runs of a lane that start now: those with and without a limit, by priority and age."""
    unlimited: list[tuple[int, int, str]] = []
    if name in tx.hints.lanes:
        wanted = {"lane": name, "floor": floor, "room": room, "now": tx.now}
        found = tx.array(startable(tx, _FREE), wanted)
        unlimited = sorted((-row[2], row[0], "") for row in found)
        if len(found) < room:
            tx.hints.lanes.discard(name)
    if name not in limited:
        return [run_id for _, run_id, _ in unlimited]
    chosen: list[int] = []
    while room > 0:
        # Slots have their turns among themselves, and go by age among the others.
        candidates = sorted(limited.first(name, room) + unlimited)[:room]
        if not candidates:
            break
        started = {run_id for _, run_id, slot in candidates if not slot or limited.take(name, slot)}
        chosen += started
        room -= len(started)
        unlimited = [run for run in unlimited if run[1] not in started]
    if unlimited:
        tx.hints.lanes.add(name)
    return chosen


def _take(tx: Transaction, chosen: list[int]) -> list[Claimed]:
    ids = dump(chosen)
    tx.execute(_TAKE, {"ids": ids, "owner": tx.owner, "now": tx.now})
    found = tx.array(_CLAIMED, {"ids": ids})
    begun = [row[0] for row in found if row[1] > 1 or row[11] is not None]
    steps: dict[int, list[list[Any]]] = {}
    if begun:
        for row in sorted(tx.array(_STEPS, {"ids": dump(begun)}), key=lambda row: row[3]):
            steps.setdefault(row[0], []).append(list(row[1:]))
    return [
        Claimed(
            id=row[0],
            token=row[1],
            uuid=row[2],
            flow=row[3],
            inputs=row[4],
            attempt=row[5],
            lane=row[6],
            flow_version=row[7],
            scheduled_for=row[8],
            test=bool(row[9]),
            request_uuid=row[12],
            invoker={"id": row[13], "kind": row[14], "on_behalf_of": row[15]},
            trigger={"kind": row[16], "name": row[17]},
            steps=steps.get(row[0], []),
            queued_at=row[18],
            started_at=row[19],
            epoch=row[20],
            resumed_from=row[21],
        )
        for row in sorted(found, key=lambda row: row[0])
    ]
