"""Claiming: which runs may start now, decided from the rows alone (design rule 8).

A run holds a slot while it is `running`, `waiting` or `cancelling`. Held slots are counted, not kept in a
counter, so that nothing can drift.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

from pullcord.store.commands.limited import Candidate, LimitedQueues
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
_COLUMNS = (
    "r.id, r.token, r.uuid, r.flow, r.inputs, r.attempt, r.lane, coalesce(r.recorded_version, r.flow_version), "
    "r.scheduled_for, r.test, q.uuid, q.invoker, q.invoker_kind, q.on_behalf_of, q.trigger_kind, q.trigger_name, "
    "r.queued_at, r.started_at, coalesce(r.epoch, 1), r.resumed_from"
)
_CLAIMED = f"""
SELECT EACH[{_COLUMNS}] FROM runs r JOIN requests q ON q.id = r.id WHERE r.id IN VALUES[ids:int]"""
_STEPS = """
SELECT EACH[run_id, identity, name, seq, attempt, state, result, error]
FROM steps WHERE run_id IN VALUES[ids:int] AND set_aside IS NULL"""


class Claimed(NamedTuple):
    """A run that a worker is to execute now, with everything the worker needs.

    A row of `_COLUMNS` as it is: each run that starts is one, and the writer's thread makes it.

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
        test: 1 for a test.
        request_uuid: id of its request.
        invoker: id of who asked.
        invoker_kind: what kind of principal that is.
        on_behalf_of: for whom the invoker acts, JSON.
        trigger_kind: what asked.
        trigger_name: its name, where it has one.
        queued_at: when it was queued last, microseconds.
        started_at: when it started first, microseconds.
        epoch: how often its records have begun anew, those of its origins counted in, from 1.
        resumed_from: number of the run whose recorded results it keeps.
        steps: recorded steps, `[identity, name, seq, attempt, state, result, error]`.
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
    test: int
    request_uuid: str
    invoker: str
    invoker_kind: str
    on_behalf_of: str | None
    trigger_kind: str
    trigger_name: str | None
    queued_at: int | None
    started_at: int | None
    epoch: int
    resumed_from: int | None
    steps: Sequence[list[Any]] = ()


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
    unlimited = {name: _unlimited(tx, name, free, floor) for name, free in left.items() if free > 0}
    while True:
        candidates = _candidates(limited, unlimited, left)
        started = [one for one in candidates if not one.slot or limited.take(one.lane, one.slot)]
        for one in started:
            left[one.lane] -= 1
            if not one.slot:
                unlimited[one.lane].popleft()
        chosen += [one.run for one in started]
        if not candidates and not limited.moved:
            break
        limited.moved.clear()
    tx.hints.lanes |= {name for name, runs in unlimited.items() if runs}
    return _take(tx, chosen) if chosen else []


def _unlimited(tx: Transaction, lane: str, room: int, floor: int) -> deque[Candidate]:
    """Return runs of a lane that no limit keeps, by priority and age."""
    if lane not in tx.hints.lanes:
        return deque()
    wanted = {"lane": lane, "floor": floor, "room": room, "now": tx.now}
    found = tx.array(startable(tx, _FREE), wanted)
    if len(found) < room:
        tx.hints.lanes.discard(lane)
    return deque(sorted(Candidate(-row[2], row[0], "", lane) for row in found))


def _candidates(
    limited: LimitedQueues, unlimited: Mapping[str, Iterable[Candidate]], left: Mapping[str, int]
) -> list[Candidate]:
    """Return runs that may start, by priority and age in all lanes together: a group may limit flows of several.

    Slots have their turns among themselves, and go by age among the others. There are no more of a lane than it has
    room for.
    """
    turns: list[list[Candidate]] = []
    for lane, others in unlimited.items():
        if left[lane] > 0:
            turns.append(list(islice(merge(limited.first(lane, left[lane]), others), left[lane])))
    return list(merge(*turns))


def _take(tx: Transaction, chosen: list[int]) -> list[Claimed]:
    ids = dump(chosen)
    tx.execute(_TAKE, {"ids": ids, "owner": tx.owner, "now": tx.now})
    found = [Claimed(*row) for row in sorted(tx.array(_CLAIMED, {"ids": ids}))]
    begun = [run.id for run in found if run.token > 1 or run.resumed_from is not None]
    if not begun:
        return found
    steps: dict[int, list[list[Any]]] = {}
    for run_id, *step in sorted(tx.array(_STEPS, {"ids": dump(begun)}), key=lambda row: row[3]):
        steps.setdefault(run_id, []).append(step)
    return [run._replace(steps=steps.get(run.id, ())) for run in found]
