"""What a schedule asks for at a moment: which ticks run, which are missed, which a blackout leaves out.

Every tick is settled once, as exactly one of these. The effort depends on how many ticks run or are told one by one,
not on how long nobody looked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from pullcord.core.timetable.blackout import Piece
from pullcord.core.timetable.schedule import Schedule
from pullcord.core.timetable.ticks import SECOND, Ticks

TOLD: Final = 1000
"""Up to so many ticks that do not run are told one by one."""
MOST_ON_TIME: Final = 10_000
"""No more ticks than so many are on time together; older ones are late."""
ASTRAY: Final = 3600 * SECOND
"""A cursor that is further ahead of the clock was made by a clock that was wrong, in microseconds."""

LATE: Final = "its time had passed by more than the misfire grace"


@dataclass(frozen=True, slots=True)
class Omitted:
    """Ticks that do not run; times in microseconds since 1970 UTC.

    Attributes:
        count: how many; exact.
        first: the first of them.
        last: the last of them.
        ticks: all of them, when they are at most 1,000; else nothing.
        reason: why, such as `"blackout 24 Dec to 26 Dec"`.
    """

    count: int
    first: int
    last: int
    ticks: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with the ticks between the cursor and now; times in microseconds since 1970 UTC.

    Attributes:
        run: ticks to ask for, in order; those that are late come before those that are on time.
        late: how many of them are late.
        missed: late ticks that do not run; None if there are none.
        skipped: ticks that blackouts leave out, one entry for each time.
        cursor: the last tick that is settled; the next plan begins after it.
        next_tick: the next tick, blacked out or not; None if there will be none.
        next_due: when to plan again; None if there will be nothing.
        reset: the cursor was more than an hour ahead of the clock and has been put to now. Without that, a clock that
            was once wrong would keep a schedule silent until it is right again.
    """

    run: tuple[int, ...]
    late: int
    missed: Omitted | None
    skipped: tuple[Omitted, ...]
    cursor: int
    next_tick: int | None
    next_due: int | None
    reset: bool = False

    def before(self, tick: int) -> Plan:
        """Return the part that is before a tick that runs, but not the first; the rest is planned again."""
        run = tuple(one for one in self.run if one < tick)
        skipped = tuple(omitted for omitted in self.skipped if omitted.last < tick)
        cursor = max(run[-1], *(omitted.last for omitted in skipped)) if skipped else run[-1]
        return replace(
            self, run=run, late=min(self.late, len(run)), skipped=skipped, cursor=cursor, next_tick=tick, next_due=tick
        )


def plan(schedule: Schedule, name: str, cursor: int, now: int) -> Plan:
    """Settle all ticks after the cursor that are due.

    A tick is on time when it is due not longer ago than the misfire grace. Late ticks run as `catch_up` says; while a
    blackout lasts, none of them does. With jitter, ticks are due in the order of their times: one that would be due
    before its predecessor is due together with it.

    Args:
        schedule: the schedule.
        name: its name, by which the jitter goes.
        cursor: the last tick that was settled, or the time at which the schedule was first registered.
        now: the time. One before the cursor settles nothing.
    """
    ticks = schedule.ticks(cursor)
    if cursor > now:
        reset = cursor - now > ASTRAY
        if reset:
            cursor, ticks = now, schedule.ticks(now)
        return _idle(schedule, name, ticks, cursor, reset=reset)
    idle = _idle(schedule, name, ticks, cursor)
    first = idle.next_tick
    if first is None or idle.next_due is None or idle.next_due > now:
        return idle
    if idle.next_due >= now - schedule.options.grace and schedule.left_out(first) is None:
        rest = _idle(schedule, name, ticks, first)
        if rest.next_due is None or rest.next_due > now:  # as nearly always: one tick, on time
            return replace(rest, run=(first,))
    jitter = schedule.options.jitter
    until = max(cursor, now - jitter)  # what is not later is due without a doubt
    for tick in ticks.between(until, now):
        if schedule.due(tick, name) > now:
            break
        until = tick

    days = schedule.options.blackout
    pieces = list(days.pieces(schedule.options.zone, cursor, until)) if days else [Piece(cursor, until, None)]
    free = [piece for piece in pieces if piece.reason is None]
    on_time = _on_time(schedule, name, ticks, free, now)
    late = sum(ticks.count(piece.after, piece.until) for piece in free) - on_time
    extra = 0 if days and schedule.left_out(now) else _caught_up(schedule, late, on_time)
    run = _newest(ticks, free, on_time + extra)
    return replace(
        _idle(schedule, name, ticks, ticks.newest(cursor, until, 1)[0]),
        run=tuple(run),
        late=extra,
        missed=_omitted(ticks, _before(free, run), LATE),
        skipped=tuple(
            omitted
            for piece in pieces
            if piece.reason is not None and (omitted := _omitted(ticks, [piece], piece.reason)) is not None
        ),
    )


def _idle(schedule: Schedule, name: str, ticks: Ticks, cursor: int, *, reset: bool = False) -> Plan:
    """Return the plan that settles nothing."""
    following = ticks.next_after(cursor)
    due = None if following is None else schedule.due(following, name)
    return Plan((), 0, None, (), cursor, following, due, reset)


def _on_time(schedule: Schedule, name: str, ticks: Ticks, free: Sequence[Piece], now: int) -> int:
    """Count the ticks that are due not longer ago than the grace."""
    least = now - schedule.options.grace
    oldest = least - schedule.options.jitter
    recent = [Piece(max(piece.after, oldest - 1), piece.until, None) for piece in free if piece.until >= oldest]
    candidates = _newest(ticks, recent, MOST_ON_TIME)
    for position, tick in enumerate(candidates):
        if schedule.due(tick, name) >= least:
            return len(candidates) - position  # the following are due together with it at the earliest
    return 0


def _caught_up(schedule: Schedule, late: int, on_time: int) -> int:
    """Return how many late ticks run."""
    match schedule.options.catch_up:
        case "all":
            return min(late, schedule.options.max_catch_up)
        case "latest":
            return min(late, 1) if not on_time else 0
        case _:
            return 0


def _newest(ticks: Ticks, pieces: Sequence[Piece], limit: int) -> list[int]:
    """Return the newest ticks of all pieces, in order."""
    found: list[list[int]] = []
    for piece in reversed(pieces):
        if limit < 1:
            break
        found.append(ticks.newest(piece.after, piece.until, limit))
        limit -= len(found[-1])
    return [tick for part in reversed(found) for tick in part]


def _before(pieces: Sequence[Piece], run: Sequence[int]) -> list[Piece]:
    """Return what of the pieces is before the first tick that runs."""
    if not run:
        return list(pieces)
    return [Piece(piece.after, min(piece.until, run[0] - 1), None) for piece in pieces if piece.after < run[0] - 1]


def _omitted(ticks: Ticks, pieces: Sequence[Piece], reason: str) -> Omitted | None:
    count = sum(ticks.count(piece.after, piece.until) for piece in pieces)
    if not count:
        return None
    each = (tick for piece in pieces for tick in ticks.between(piece.after, piece.until))
    told = tuple(islice(each, TOLD if count <= TOLD else 1))
    return Omitted(count, told[0], _newest(ticks, pieces, 1)[0], told if count <= TOLD else (), reason)
