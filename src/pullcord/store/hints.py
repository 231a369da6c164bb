"""What may have become claimable. Only a hint: losing it delays a run, it never lets one slip by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pullcord.core.rulebook import Book


@dataclass(slots=True)
class Hints:
    """Where the next claim should look.

    Attributes:
        lanes: lanes that may hold queued runs without a limit.
        fresh: slots where something has happened, with their lanes: a slot or a queued run may have appeared.
        queues: slots with queued runs, by lane, with the priority of the first of them as far as known. Their order is
            whose turn it is.
        blocked: slots whose first run waits for a group, by group, with their lanes.
        orphans: whether there may be active runs without a worker.
        anything: whether all queues must be looked at.
        watched: whether the end of any flow starts others.
        endings: whether this transaction noted such an end.
        paused: whether any flow is paused.
        suspends: whether any flow is suspended after failures in a row.
        expires: whether any run may expire before it starts.
        pauses_changed: whether this transaction paused a flow or let one go on.
        failed: `(id, Ended)` of runs that this transaction has ended without a worker's word.
        counted: numbers of runs whose end this transaction has counted.
        book: who is told of what.
        noted: whether this transaction put something into the outbox.
        parked: whether runs ask people, or wait without a worker.
        news: `(lane, slot)` that this transaction put into `queues`.
        released: groups that a run of this transaction has left.
    """

    lanes: set[str] = field(default_factory=set)
    fresh: dict[str, str] = field(default_factory=dict)
    queues: dict[str, dict[str, int]] = field(default_factory=dict)
    blocked: dict[str, dict[str, str]] = field(default_factory=dict)
    orphans: bool = False
    anything: bool = False
    watched: bool = False
    endings: bool = False
    paused: bool = False
    suspends: bool = False
    expires: bool = False
    pauses_changed: bool = False
    failed: list[Any] = field(default_factory=list)
    counted: set[int] = field(default_factory=set)
    book: Book = field(default_factory=Book)
    noted: bool = False
    parked: bool = False
    news: set[tuple[str, str]] = field(default_factory=set)
    released: set[str] = field(default_factory=set)

    def copy(self) -> Hints:
        """Return an independent copy, as a further transaction begins with."""
        return Hints(
            lanes=set(self.lanes),
            fresh=dict(self.fresh),
            queues={lane: dict(queue) for lane, queue in self.queues.items()},
            blocked={group: dict(slots) for group, slots in self.blocked.items()},
            orphans=self.orphans,
            anything=self.anything,
            watched=self.watched,
            paused=self.paused,
            suspends=self.suspends,
            expires=self.expires,
            book=self.book,
            parked=self.parked,
        )

    def queued(self, lane: str, slot: str | None, priority: int) -> None:
        """A run was queued."""
        if slot is None:
            self.lanes.add(lane)
            return
        queue = self.queues.setdefault(lane, {})
        queue[slot] = max(queue.get(slot, priority), priority)
        self.news.add((lane, slot))

    def freed(self, lane: str, slot: str | None, group: str | None) -> None:
        """A run gave its slots back, or may have. Slots that its group kept waiting have their turn before its own."""
        if group is not None:
            self.release([group])
        if slot is not None:
            self.fresh.pop(slot, None)
            self.fresh[slot] = lane

    def leftover(self) -> list[tuple[str, str]]:
        """Return the `(lane, slot)` of this transaction's news that found no room."""
        return sorted((lane, slot) for lane, slot in self.news if slot in self.queues.get(lane, {}))

    def add(self, other: Hints) -> None:
        """Take over what another server says: what it freed, and what it has no room for."""
        self.lanes |= other.lanes
        self.orphans |= other.orphans
        self.anything |= other.anything
        self.fresh.update(other.fresh)
        self.release(other.released)

    def release(self, groups: Iterable[str]) -> None:
        """These groups may have room again."""
        for group in groups:
            self.released.add(group)
            self.fresh.update(self.blocked.pop(group, {}))
