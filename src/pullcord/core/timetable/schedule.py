"""What the kinds of schedules have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

from pullcord.clock import microseconds
from pullcord.core.errors import UsageError
from pullcord.core.timetable.options import Options
from pullcord.core.timetable.ticks import Ticks
from pullcord.core.trigger import Declaration

_MOST: Final = 10_000
"""How many ticks are told at once."""
_SILENCE: Final = 50 * 366 * 86_400 * 1_000_000
"""A schedule whose every tick is blacked out is looked at for so long, in microseconds (50 years)."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick of a preview, or the first of several that a blackout leaves out.

    Attributes:
        at: microseconds since 1970 UTC.
        local: the same in the schedule's zone, as people write it: `"2026-03-29 03:00:00+02:00"`.
        due: when it is asked for: `at` and the jitter.
        fires: whether it is; false for what a blackout leaves out.
        notes: what the clocks or a blackout do to it, in words.
    """

    at: int
    local: str
    due: int
    fires: bool
    notes: tuple[str, ...] = ()


class Schedule(Declaration):
    """A trigger that asks at times.

    Made by `cron()`, `interval()` and `at()`. Without a name it is called after its flow and its kind.

    Attributes:
        options: zone, catch-up, grace, jitter, blackout, start and end.
    """

    def __init__(self, options: Options, name: str | None, parameters: Mapping[str, Any] | None, enabled: bool) -> None:
        super().__init__(name, parameters, enabled)
        self.options = options

    @abstractmethod
    def ticks(self, anchor: int) -> Ticks:
        """Return all ticks.

        Args:
            anchor: the last tick, or the time at which the schedule was first registered (microseconds since 1970 UTC);
                an interval without a start counts from it.
        """

    def next_after(self, at: int) -> int | None:
        """Return the first tick after a time, blacked out or not; None when there is none any more.

        Args:
            at: microseconds since 1970 UTC; for an interval without a start, its last tick or its registration.
        """
        return self.ticks(at).next_after(at)

    def due(self, tick: int, name: str) -> int:
        """Return when a tick is asked for: later than the tick by less than the jitter.

        It depends on the tick and the schedule's name alone, so that it is the same after a restart.
        """
        if not self.options.jitter:
            return tick
        digest = blake2b(f"{name}\0{tick}".encode(), digest_size=8).digest()
        return tick + (int.from_bytes(digest) * self.options.jitter >> 64)

    def left_out(self, tick: int) -> str | None:
        """Return which blackout leaves a tick out, such as `"blackout 24 Dec to 26 Dec"`; None if none does."""
        options = self.options
        return options.blackout.piece(options.zone, tick).reason if options.blackout else None

    def upcoming(self, n: int, after: datetime | None = None) -> list[datetime]:
        """Return the next times at which the schedule asks for a run, without jitter and without what is blacked out.

        Args:
            n: how many, at most 10,000; there are fewer when the schedule ends, or when blackouts leave out all of it.
            after: an aware datetime; now unless given.

        Returns:
            Aware datetimes in the schedule's zone.

        Raises:
            UsageError: `n` is out of range, or `after` has no time zone.
        """
        return [self.options.zone.moment(tick.at) for tick in self.preview(n, after) if tick.fires]

    def preview(self, n: int, after: datetime | None = None, name: str = "", anchor: int | None = None) -> list[Tick]:
        """Return the next ticks with what clocks and blackouts do to them.

        What one blackout leaves out is one entry, the first of its ticks, and does not count towards `n`.

        Args:
            n: how many that fire, at most 10,000.
            after: an aware datetime; now unless given.
            name: the schedule's name, by which the jitter goes; its own unless given.
            anchor: its last tick, microseconds since 1970 UTC, from which an interval counts; `after` unless given.

        Raises:
            UsageError: `n` is out of range, or `after` has no time zone.
        """
        if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= _MOST:
            raise UsageError(f"n is a whole number from 0 to {_MOST}, not {n!r}")
        if after is None:
            after = datetime.now(UTC)
        if not isinstance(after, datetime) or after.utcoffset() is None:
            raise UsageError(f"after must be a datetime with a time zone, such as datetime.now(UTC), not {after!r}")
        position = fired = microseconds(after)
        ticks = self.ticks(position if anchor is None else anchor)
        place, days = self.options.zone, self.options.blackout
        found: list[Tick] = []
        while n > 0:
            tick = ticks.next_after(position)
            if tick is None or tick - fired > _SILENCE:
                break
            piece = days.piece(place, tick) if days else None
            notes = list(self.notes(tick))
            fires = piece is None or piece.reason is None
            if piece is not None and not fires:
                count = ticks.count(tick - 1, piece.until)
                notes.append(f"left out: {piece.reason}" + (f" ({count} ticks)" if count > 1 else ""))
                position = piece.until
            else:
                position = fired = tick
                n -= 1
            found.append(Tick(tick, self._local(tick), self.due(tick, name or self.name or ""), fires, tuple(notes)))
        return found

    def notes(self, tick: int) -> list[str]:
        """Return what the clocks do to a tick, in words."""
        return []

    def _local(self, tick: int) -> str:
        return self.options.zone.moment(tick).isoformat(sep=" ")
