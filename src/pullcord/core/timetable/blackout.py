"""Blackouts: days on which a schedule asks for nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple

from pullcord.core.errors import DefinitionError
from pullcord.core.timetable.zone import DAY, Zone

_ITEM: Final = re.compile(r"(?:(\d{4})-)?(\d\d)-(\d\d)(?:/(?:(\d{4})-)?(\d\d)-(\d\d))?")
_EPOCH: Final = date(1970, 1, 1).toordinal()
_MOST: Final = 366
_REMEMBERED: Final = 4096
_MONTHS: Final = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


class Piece(NamedTuple):
    """A part of a time, from after one moment until another (microseconds), all blacked out or all free.

    Attributes:
        after: the moment before its first one.
        until: its last moment.
        reason: which blackout it is, such as `"blackout 24-26 Dec"`; None where it is free.
    """

    after: int
    until: int
    reason: str | None


class _Yearly(NamedTuple):
    """Month and day to month and day of each year; over the turn of the year when the last is before the first."""

    first: tuple[int, int]
    last: tuple[int, int]
    reason: str

    def of(self, year: int) -> _Span | None:
        """Return the one that begins in a year."""
        first, last = _day(year, self.first, 1), _day(year + (self.last < self.first), self.last, 0)
        return _Span(first, last, self.reason) if first <= last else None  # 29 February alone, in most years


class _Span(NamedTuple):
    """First and last day, counted from 1970."""

    first: int
    last: int
    reason: str


class Blackout:
    """Days to leave out, on local clocks."""

    __slots__ = ("_dated", "_seen", "_yearly")

    def __init__(self, items: Sequence[_Span | _Yearly]) -> None:
        self._dated = [item for item in items if isinstance(item, _Span)]
        self._yearly = [item for item in items if isinstance(item, _Yearly)]
        self._seen: dict[int, tuple[int, str | None]] = {}

    def __bool__(self) -> bool:
        return bool(self._dated or self._yearly)

    def pieces(self, place: Zone, after: int, until: int) -> Iterator[Piece]:
        """Divide a time into blacked-out and free parts, in order; together they are the whole of it."""
        while after < until:
            piece = self.piece(place, after + 1)
            yield Piece(after, min(piece.until, until), piece.reason)
            after = piece.until

    def piece(self, place: Zone, at: int) -> Piece:
        """Return the part of time that begins at a moment; a free one ends at the latest with the next year."""
        second = at // 1_000_000
        day = place.local(second) // DAY
        last, reason = self._part(day)
        end = place.landing((last + 1) * DAY)[0]
        if end <= second:  # the clocks go back over midnight, and this is the day's second end
            end = (day + 1) * DAY - place.stretch(second).offset
        return Piece(at - 1, end * 1_000_000 - 1, reason)

    def _part(self, day: int) -> tuple[int, str | None]:
        """Return until which day it goes on like on a given one, and which blackout that is."""
        found = self._seen.get(day)
        if found is None:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            found = self._seen[day] = self._find(day)
        return found

    def _find(self, day: int) -> tuple[int, str | None]:
        year = date.fromordinal(day + _EPOCH).year
        yearly = (item.of(each) for item in self._yearly for each in (year - 1, year, year + 1))
        spans = [*self._dated, *(span for span in yearly if span is not None)]
        over = [span for span in spans if span.first <= day <= span.last]
        if over:
            longest = max(over, key=lambda span: span.last)
            return longest.last, longest.reason
        return min((span.first for span in spans if span.first > day), default=_day(year + 2, (1, 1), 0)) - 1, None


@lru_cache(maxsize=1024)
def blackout(texts: tuple[str, ...]) -> Blackout:
    """Read dates (`"2026-12-25"`), yearly dates (`"12-25"`), and ranges of either (`"12-24/12-26"`).

    Raises:
        DefinitionError: one of them is no date; the message says how to write it.
    """
    if len(texts) > _MOST:
        raise DefinitionError(f"a schedule has at most {_MOST} blackouts; write neighbouring days as a range")
    return Blackout([_item(text) for text in texts])


def _item(text: str) -> _Span | _Yearly:
    found = _ITEM.fullmatch(text) if isinstance(text, str) else None
    if found is None or (found[5] and bool(found[1]) != bool(found[4])):
        raise DefinitionError(
            f"{text!r} is no blackout; write a date '2026-12-25', one of each year '12-25', or a range "
            "'2026-12-24/2026-12-26' or '12-24/12-26'"
        )
    first = (int(found[2]), int(found[3]))
    last = (int(found[5]), int(found[6])) if found[5] else first
    years = (int(found[1]), int(found[4] or found[1])) if found[1] else None
    begin, end = years or (2024, 2024)  # a leap year: 29 February may be named
    try:
        days = [date(begin, *first), date(end, *last)]
    except ValueError:
        raise DefinitionError(f"{text!r} is no blackout: there is no such date") from None
    reason = f"blackout {_words(years, first, last)}"
    if years is None:
        return _Yearly(first, last, reason)
    if days[1] < days[0]:
        raise DefinitionError(f"{text!r} is no blackout: it ends before it begins")
    return _Span(days[0].toordinal() - _EPOCH, days[1].toordinal() - _EPOCH, reason)


def _words(years: tuple[int, int] | None, first: tuple[int, int], last: tuple[int, int]) -> str:
    ends = [f"{day[1]} {_MONTHS[day[0] - 1]}" for day in (first, last)]
    if years is not None:
        ends = [f"{text} {year}" for text, year in zip(ends, years, strict=True)]
    if first == last and (years is None or years[0] == years[1]):
        return ends[0]
    return f"{ends[0]} to {ends[1]}"


def _day(year: int, day: tuple[int, int], missing: int) -> int:
    """Count a date from 1970; 29 February of a common year is the day after or before."""
    try:
        return date(year, *day).toordinal() - _EPOCH
    except ValueError:
        return date(year, 3, 1).toordinal() - _EPOCH - 1 + missing
