"""Queues of runs with a limit: who is next, taking turns between the keys of a limit (design rule 8).

Held slots are counted from the rows. A slot that gives nothing is forgotten until something happens to it: it is full
until one of its runs ends, or empty until another is queued. So a claim looks at as many slots as there is room, and
not at all that have runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from pullcord.core.concurrency import flow_of
from pullcord.store.commands.startable import startable
from pullcord.store.statement import dump, rows
from pullcord.store.transaction import Transaction

PORTION: Final = 64
"""At least so many slots are looked at in one statement."""

ACTIVE = "state IN ('running', 'waiting', 'cancelling')"

# Locked in the order of the keys, so that no two transactions wait for each other, and before the held ones are
# counted: a count that began earlier would not see what the holder of the lock has just taken.
_LOCK = """
SELECT key FROM slots WHERE key IN VALUES[flows] OR key IN (SELECT shared FROM slots WHERE key IN VALUES[flows])
ORDER BY key FOR UPDATE"""
_LOOK = f"""
SELECT EACH[w.slot, l.capacity - (SELECT count(*) FROM runs a INDEXED BY runs_slot_held WHERE a.slot = w.slot
    AND a.{ACTIVE}), h.id, h.priority, h.lane, h.shared, (SELECT count(*) FROM (SELECT 1 FROM runs q
    INDEXED BY runs_slot_queue WHERE q.slot = w.slot AND q.state = 'queued' LIMIT 2) AS two)]
FROM {rows("slot flow")} AS w JOIN slots l ON l.key = w.flow
JOIN runs h ON h.id = (SELECT r.id FROM runs r INDEXED BY runs_slot_queue
    WHERE r.slot = w.slot AND r.state = 'queued' AND r.id > :floor{{also}} ORDER BY r.priority DESC, r.id LIMIT 1)"""
_FOLLOWING = """
SELECT EACH[id, priority] FROM (
    SELECT id, priority FROM runs INDEXED BY runs_slot_queue
    WHERE state = 'queued' AND slot = :slot AND lane = :lane AND id > :floor{also}
    ORDER BY priority DESC, id LIMIT :room) AS found"""
_GROUP_OPEN = f"""
SELECT capacity - (SELECT count(*) FROM runs INDEXED BY runs_shared_held WHERE shared = key AND {ACTIVE})
FROM slots WHERE key = :group"""


class Candidate(NamedTuple):
    """A run that may start.

    Attributes:
        rank: its priority, negative.
        run: its number.
        slot: what limits it; empty where nothing does.
        lane: where it runs.
    """

    rank: int
    run: int
    slot: str
    lane: str


def lock_limits(tx: Transaction, slots: Iterable[str]) -> None:
    """Lock the limits of these slots, and of all that the claim at the end of the transaction will look at."""
    if not tx.connection.contended:
        return
    flows = {flow_of(slot) for queue in (slots, tx.hints.fresh, *tx.hints.queues.values()) for slot in queue}
    tx.connection.lock(_LOCK, {"flows": dump(sorted(flows))})


@dataclass(slots=True)
class _Head:
    """What a slot can give.

    Attributes:
        free: how many of its runs may start.
        group: what limits them together with others, or None.
        more: whether there may be more queued runs than are known.
        runs: the first ones as far as they were looked up, `(-priority, number)`.
        taken: numbers of those that this claim has taken.
    """

    free: int
    group: str | None
    more: bool
    runs: list[tuple[int, int]]
    taken: list[int] = field(default_factory=list)


class LimitedQueues:
    """The queues of one claim.

    Args:
        tx: the transaction.
        floor: only runs with a higher number are looked at.

    Attributes:
        moved: lanes in which slots have turned up that were looked for in another.
    """

    def __init__(self, tx: Transaction, floor: int) -> None:
        self._tx = tx
        self._floor = floor
        self._queues = tx.hints.queues
        self._heads: dict[str, _Head] = {}
        self._groups: dict[str, int] = {}
        self.moved: set[str] = set()
        if not self._queues and not tx.hints.fresh:
            return
        lock_limits(tx, ())
        fresh, tx.hints.fresh = tx.hints.fresh, {}
        self._look(fresh)

    def first(self, lane: str, room: int) -> list[Candidate]:
        """Return runs of a lane that may start: one of each slot in turn, then the next ones.

        There are at most `room` of them. None is taken by this.
        """
        if lane not in self._queues:
            return []
        found: list[tuple[int, int, int, str]] = []
        for slot in self._able(lane, room):
            head = self._heads[slot]
            found += [(rank, place, run_id, slot) for place, (rank, run_id) in enumerate(head.runs[: head.free])]
        # Sorting leaves those of one rank and place in the order of their turns.
        found.sort(key=lambda item: item[:2])
        return [Candidate(rank, run_id, slot, lane) for rank, _, run_id, slot in found[:room]]

    def take(self, lane: str, slot: str) -> bool:
        """Take the first run of a slot, and let the others have their turns; say whether its group let it."""
        head = self._heads.get(slot)
        if head is None:
            return False
        if head.group is not None:
            if self._open(head.group) <= 0:
                self._block(slot, lane, head.group)
                return False
            self._groups[head.group] -= 1
        rank, run_id = head.runs.pop(0)
        head.free -= 1
        head.taken.append(run_id)
        self._forget(slot, lane)
        if head.free > 0 and (head.more or head.runs):
            self._queues.setdefault(lane, {})[slot] = -rank  # none that follows has a higher priority
        else:
            del self._heads[slot]
        return True

    def _able(self, lane: str, room: int) -> list[str]:
        """Return slots of a lane that have runs which may start, in turn: enough to fill the room, or all there are."""
        queue = self._queues.get(lane, {})
        ranked = any(queue.values())
        order = sorted(queue, key=lambda slot: -queue[slot]) if ranked else list(queue)
        size = max(PORTION, room)
        able: list[str] = []
        for start in range(0, len(order), size):
            portion = order[start : start + size]
            self._look({slot: lane for slot in portion if slot not in self._heads})
            able += [slot for slot in portion if slot in self._heads and self._heads[slot].runs]
            if len(able) >= room:
                if not ranked:
                    return able
                break
        # There is room for more than one of each, or the second of one goes before the first of another.
        for slot in order:
            head = self._heads.get(slot)
            if head is not None and head.more and len(head.runs) < min(head.free, room):
                self._look_deeper(slot, lane, head, room)
        return [slot for slot in order if slot in self._heads]

    def _look(self, slots: Mapping[str, str]) -> None:
        """Find out what slots can give, by the lanes they were in, and forget those that can give nothing."""
        if not slots:
            return
        wanted = dump([[slot, flow_of(slot)] for slot in slots])
        parameters = {"rows": wanted, "floor": self._floor, "now": self._tx.now}
        found = {row[0]: row[1:] for row in self._tx.array(startable(self._tx, _LOOK), parameters)}
        for slot, lane in slots.items():
            free, run_id, priority, home, group, queued = found.get(slot, (0, 0, 0, lane, None, 0))
            if free <= 0:
                self._forget(slot, lane)
            elif group is not None and self._open(group) <= 0:
                self._block(slot, lane, group)
            else:
                self._heads[slot] = _Head(free, group, queued > 1, [(-priority, run_id)])
                if home != lane:
                    self._forget(slot, lane)
                    self.moved.add(home)
                self._queues.setdefault(home, {})[slot] = priority

    def _look_deeper(self, slot: str, lane: str, head: _Head, room: int) -> None:
        """Find the runs of a slot that follow those which are known."""
        wanted = {"slot": slot, "lane": lane, "floor": self._floor, "room": len(head.taken) + min(head.free, room)}
        following = self._tx.array(startable(self._tx, _FOLLOWING), wanted | {"now": self._tx.now})
        known = set(head.taken)
        head.runs = sorted((-row[1], row[0]) for row in following if row[0] not in known)
        head.more = len(head.runs) >= min(head.free, room)
        if not head.runs:
            self._forget(slot, lane)
            del self._heads[slot]

    def _open(self, group: str) -> int:
        """Return how many more runs of a group may start."""
        if group not in self._groups:
            self._groups[group] = self._tx.value(_GROUP_OPEN, {"group": group}) or 0
        return self._groups[group]

    def _block(self, slot: str, lane: str, group: str) -> None:
        """Leave a slot alone until its group has room."""
        self._heads.pop(slot, None)
        self._forget(slot, lane)
        self._tx.hints.blocked.setdefault(group, {})[slot] = lane

    def _forget(self, slot: str, lane: str) -> None:
        queue = self._queues.get(lane)
        if queue is not None:
            queue.pop(slot, None)
            if not queue:
                del self._queues[lane]
