"""What becomes of a request while others of its flow run: the policies of overlap (design rule 8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pullcord.clock import rfc3339
from pullcord.core.concurrency import OnConflict, flow_of
from pullcord.core.states import Outcome
from pullcord.store.commands.cancelling import CancelNote, cancel_family
from pullcord.store.commands.journal import Ended
from pullcord.store.commands.limited import ACTIVE, lock_limits
from pullcord.store.transaction import Transaction

MOST_AHEAD: Final = 1000
"""Beyond this nobody is told a place in the queue: counting costs time."""

HOUR: Final = 3_600_000_000
"""Microseconds."""

_CAPACITY = "SELECT capacity FROM slots WHERE key = :key"
_HELD = f"SELECT count(*) FROM runs INDEXED BY runs_slot_held WHERE slot = :key AND {ACTIVE}"
_HELD_IN_GROUP = f"SELECT count(*) FROM runs INDEXED BY runs_shared_held WHERE shared = :key AND {ACTIVE}"
_QUEUED = """
SELECT count(*) FROM (SELECT 1 FROM runs INDEXED BY runs_slot_queue
    WHERE slot = :key AND state = 'queued' LIMIT :most) AS queued"""
_QUEUED_IN_GROUP = """
SELECT count(*) FROM (SELECT 1 FROM runs INDEXED BY runs_shared_queue
    WHERE shared = :key AND state = 'queued' LIMIT :most) AS queued"""
# A run that waits for its next attempt has not ended: what must not overlap with it must not begin meanwhile.
_RETRYING = """
SELECT count(*) FROM runs INDEXED BY runs_slot_retry WHERE slot = :key AND state = 'scheduled' AND attempt > 1"""
_AHEAD = f"""
SELECT count(*) FROM (SELECT 1 FROM runs INDEXED BY runs_slot_queue WHERE slot = :key AND state = 'queued'
    AND (priority > :priority OR (priority = :priority AND id < :id)) LIMIT {MOST_AHEAD + 1}) AS ahead"""
_AHEAD_IN_GROUP = f"""
SELECT count(*) FROM (SELECT 1 FROM runs INDEXED BY runs_shared_queue WHERE shared = :key AND state = 'queued'
    AND (priority > :priority OR (priority = :priority AND id < :id)) LIMIT {MOST_AHEAD + 1}) AS ahead"""
_HELD_BY_ANCESTORS = f"""
WITH RECURSIVE chain(id, parent_id, slot, shared, state) AS (
    SELECT id, parent_id, slot, shared, state FROM runs WHERE id = :parent
    UNION ALL
    SELECT r.id, r.parent_id, r.slot, r.shared, r.state FROM runs r JOIN chain c ON r.id = c.parent_id
) SELECT count(*) FROM chain WHERE (slot = :key OR shared = :key) AND {ACTIVE}"""
_IN_THE_WAY = """
SELECT EACH[id, uuid, state] FROM (
    SELECT id, uuid, state FROM runs WHERE slot = :key AND state IN ('running', 'waiting', 'cancelling')
    UNION ALL SELECT id, uuid, state FROM runs WHERE slot = :key AND state = 'queued'
    UNION ALL SELECT id, uuid, state FROM runs WHERE slot = :key AND state = 'scheduled' AND attempt > 1) AS found"""
_FIRST_IN_THE_WAY = f"""
SELECT EACH[id, uuid, state] FROM (SELECT id, uuid, state FROM runs
    WHERE slot = :key AND {ACTIVE} ORDER BY id LIMIT 1) AS found"""


_LEFT_BEHIND = f"""
SELECT EACH[id, uuid] FROM runs INDEXED BY runs_slot_held
WHERE slot = :key AND {ACTIVE} AND owner IS NULL AND id <= :floor"""
_LEFT_BEHIND_IN_GROUP = f"""
SELECT EACH[id, uuid] FROM runs INDEXED BY runs_shared_held
WHERE shared = :key AND {ACTIVE} AND owner IS NULL AND id <= :floor"""
_FIRST_OF_THOSE_THAT_WAIT = """
SELECT EACH[id, uuid, state] FROM (SELECT id, uuid, state FROM runs WHERE id IN (
    SELECT min(id) FROM runs WHERE slot = :key AND state = 'queued'
    UNION ALL SELECT min(id) FROM runs WHERE slot = :key AND state = 'scheduled' AND attempt > 1)
    ORDER BY id LIMIT 1) AS found"""


class Run(Protocol):
    """What has to be known of a run that is asked for."""

    slot: str | None
    shared: str | None
    on_conflict: OnConflict
    parent_id: int | None
    not_before: int | None
    floor: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a run is not made.

    Attributes:
        outcome: `skipped` or `rejected`.
        code: for programs.
        reason: for people.
        mark: what is in the way: as long as it is the same, a machine that asks again is told nothing new.
        retry_at: when asking again makes sense, microseconds, where that is known.
        final: it would be refused whenever it is asked for again together with the same others.
    """

    outcome: Outcome
    code: str
    reason: str
    mark: str | None = None
    retry_at: int | None = None
    final: bool = False


DEADLOCK: Final = Refused(
    Outcome.REJECTED,
    "would_deadlock",
    "an ancestor of this run holds the slot it would wait for; raise the flow's concurrency",
)
"""A run never waits for a slot that its own ancestor holds."""

_MEANS: Final = {
    OnConflict.SKIP: (Outcome.SKIPPED, "overlap_skipped", "the flow skips what is asked for meanwhile"),
    OnConflict.BUFFER_ONE: (
        Outcome.SKIPPED,
        "overlap_skipped",
        "one waits already, and the flow skips others",
    ),
    OnConflict.REJECT: (Outcome.REJECTED, "overlap_rejected", "the flow refuses what is asked for meanwhile"),
}


class Overlap:
    """Decides on the runs that one transaction admits, in order.

    Args:
        tx: the transaction.
        runs: all that are asked for.
    """

    def __init__(self, tx: Transaction, runs: Sequence[Run]) -> None:
        self._tx = tx
        self._before: Counter[str] = Counter()
        slots = [run.slot for run in runs if run.slot is not None and run.on_conflict is not OnConflict.QUEUE]
        if slots:
            lock_limits(tx, slots)

    def refusal(self, run: Run) -> Refused | None:
        """Say why a run cannot be made, or None when it can."""
        if run.parent_id is not None and self._would_deadlock(run, run.parent_id):
            return DEADLOCK
        if run.floor:
            left = self._left_behind(run)
            if left is not None:
                return left
        means = _MEANS.get(run.on_conflict)
        # What is asked for at a later time overlaps with nothing yet; it queues when its time has come.
        if means is None or run.slot is None or run.not_before is not None:
            return None
        (held, waiting), capacity = self._unended(run.slot), self._capacity(run.slot)
        taken, buffered = held + waiting, run.on_conflict is OnConflict.BUFFER_ONE
        outcome, code, rule = means
        if taken >= capacity + buffered:
            key = {"key": run.slot}
            found = self._tx.array(_FIRST_IN_THE_WAY, key) or self._tx.array(_FIRST_OF_THOSE_THAT_WAIT, key)
            holder = f" (run {found[0][1]} is {found[0][2]})" if found else ""
            runs = f"1 run of {run.slot} has" if taken == 1 else f"{taken} runs of {run.slot} have"
            reason = f"{runs} not ended{holder}, with a limit of {capacity}: {rule}"
            return Refused(outcome, code, reason, str(found[0][0]) if found else None)
        if run.shared is None or self._group_taken(run.shared) < self._capacity(run.shared):
            return None
        if buffered and not waiting:
            return None
        reason = f"the limit of {run.shared}, which other flows share, is reached: {rule}"
        return Refused(outcome, code, reason, f"{run.shared}:{self._tx.now // HOUR}")

    def _left_behind(self, run: Run) -> Refused | None:
        """Refuse a run that would wait for ever for runs which nobody executes here."""
        own = None if run.on_conflict is OnConflict.CANCEL_RUNNING else run.slot
        for key, sql in ((own, _LEFT_BEHIND), (run.shared, _LEFT_BEHIND_IN_GROUP)):
            found = [] if key is None else self._tx.array(sql, {"key": key, "floor": run.floor})
            if found and len(found) >= self._capacity(key or ""):
                holder = min(found)[1]
                reason = f"run {holder} of an earlier command has a slot of {key}, and `pullcord serve` finishes it"
                return Refused(Outcome.REJECTED, "overlap_rejected", reason, str(min(found)[0]))
        return None

    def admitted(self, run: Run) -> None:
        """A run is made by this transaction; its row is not there yet."""
        if run.not_before is None:
            for key in (run.slot, run.shared):
                if key is not None:
                    self._before[key] += 1

    def _would_deadlock(self, run: Run, parent: int) -> bool:
        """Say whether a run would wait for a slot that one of its own ancestors holds (design rule 8)."""
        for key, held, queued in ((run.slot, _HELD, _QUEUED), (run.shared, _HELD_IN_GROUP, _QUEUED_IN_GROUP)):
            if key is None or not self._tx.value(_HELD_BY_ANCESTORS, {"parent": parent, "key": key}):
                continue
            capacity = self._capacity(key)
            wanted = self._tx.value(held, {"key": key}) + self._tx.value(queued, {"key": key, "most": capacity})
            if wanted + self._before[key] >= capacity:
                return True
        return False

    def _unended(self, slot: str) -> tuple[int, int]:
        """Count the runs of a slot that have begun, and those that could begin, and have not ended."""
        most = {"key": slot, "most": self._capacity(slot) + 1}
        held, queued, retrying = (int(self._tx.value(sql, most)) for sql in (_HELD, _QUEUED, _RETRYING))
        return held, self._before[slot] + queued + retrying

    def _group_taken(self, group: str) -> int:
        most = {"key": group, "most": self._capacity(group) + 1}
        return self._before[group] + sum(int(self._tx.value(sql, most)) for sql in (_HELD_IN_GROUP, _QUEUED_IN_GROUP))

    def _capacity(self, key: str) -> int:
        return capacity_of(self._tx, key)


def capacity_of(tx: Transaction, key: str) -> int:
    """Return the limit of a slot or group; 0 where nothing is known of it, so that nothing starts."""
    return int(tx.value(_CAPACITY, {"key": flow_of(key)}) or 0)


def waiting_in(tx: Transaction, slot: str, group: str | None, most: int) -> tuple[int, int]:
    """Return how many more runs of a slot may start, and how many are queued for it, counted up to `most`."""
    free = capacity_of(tx, slot) - int(tx.value(_HELD, {"key": slot}))
    if group is not None:
        free = min(free, capacity_of(tx, group) - int(tx.value(_HELD_IN_GROUP, {"key": group})))
    return max(0, free), int(tx.value(_QUEUED, {"key": slot, "most": most}))


def full(tx: Transaction, slot: str, group: str | None) -> bool:
    """Say whether all slots that a run needs are held."""
    if tx.value(_HELD, {"key": slot}) >= capacity_of(tx, slot):
        return True
    return group is not None and bool(tx.value(_HELD_IN_GROUP, {"key": group}) >= capacity_of(tx, group))


def place(tx: Transaction, run_id: int, slot: str, group: str | None, priority: int) -> tuple[int | None, str | None]:
    """Return a queued run's place in its queue, from 1, None beyond 1000; and the slot or group that it waits for.

    Both are None when only a worker is missing.
    """
    where = {"id": run_id, "priority": priority}
    if tx.value(_HELD, {"key": slot}) >= capacity_of(tx, slot):
        key, ahead = slot, int(tx.value(_AHEAD, where | {"key": slot}))
    elif group is not None and tx.value(_HELD_IN_GROUP, {"key": group}) >= capacity_of(tx, group):
        key, ahead = group, int(tx.value(_AHEAD_IN_GROUP, where | {"key": group}))
    else:
        return None, None
    return None if ahead > MOST_AHEAD else ahead + 1, key


def supersede(tx: Transaction, slot: str, uuid: str, invoker: str) -> list[tuple[str, Ended]]:
    """Cancel the oldest runs of a slot, so that a new one can take their place.

    Args:
        tx: the transaction; the new run is written already.
        slot: whose runs.
        uuid: id of the new run.
        invoker: who asked for it.

    Returns:
        `(id, Ended)` for each run that changed, children included.
    """
    newest = sorted(tx.array(_IN_THE_WAY, {"key": slot}), reverse=True)
    note = CancelNote(invoker, rfc3339(tx.now) or "", f"run {uuid} takes its place", force=False)
    changed: list[tuple[str, Ended]] = []
    for _, old, state in newest[capacity_of(tx, slot) :]:
        if state != "cancelling":
            changed += cancel_family(tx, old, note)
    return changed
