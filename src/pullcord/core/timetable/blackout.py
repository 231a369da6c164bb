"""Blackouts: days on which a schedule asks for nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple

from pullcord.core.errors import DefinitionError
from pullcord.core.timetable.zone import DAY, Zone

_ITEM: Final = re.compile(r"(?:(\d{4})-)?(\d\d)-(\d\d)(?:/(?:(\d{4})-)?(\d\d)-(\d\d))?")
_EPOCH: Final = date(1970, 1, 1).toordinal()
_MOST: Final = 1000
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


class _Item(NamedTuple):
    """One entry: month and day to month and day, of one year or (None) of each."""

    years: tuple[int, int] | None
    first: tuple[int, int]
    last: tuple[int, int]
    reason: str

    def days(self, year: int) -> tuple[int, int] | None:
        """Return first and last day, counted from 1970, of the one that begins in a year."""
        begin, end = (year, year + (self.last < self.first)) if self.years is None else self.years
        if self.years is not None and begin != year:
            return None
        first, last = _day(begin, self.first, 1), _day(end, self.last, 0)
        return (first, last) if first <= last else None  # 29 February alone, in most years


class Blackout:
    """Days to leave out, on local clocks."""

    __slots__ = ("_items",)

    def __init__(self, items: tuple[_Item, ...]) -> None:
        self._items = items

    def __bool__(self) -> bool:
        return bool(self._items)

    def pieces(self, place: Zone, after: int, until: int) -> Iterator[Piece]:
        """Divide a time into blacked-out and free parts, in order; together they are the whole of it."""
        while after < until:
            piece = self.piece(place, after + 1)
            yield Piece(after, min(piece.until, until), piece.reason)
            after = piece.until

    def piece(self, place: Zone, at: int) -> Piece:
        """Return the part that a moment is in; a free one ends at the latest after some years."""
        second = at // 1_000_000
        day = place.local(second) // DAY
        year = date.fromordinal(day + _EPOCH).year
        ends, reason = [_day(year + 8, (1, 1), 0) - 1], None
        for item in self._items:
            years = range(year - 1, year + 9) if item.years is None else item.years[:1]
            for each in years:
                days = item.days(each)
                if days is None or days[1] < day:
                    continue
                if days[0] <= day:
                    if reason is None or days[1] > ends[0]:
                        ends = [days[1]]
                        reason = item.reason
                elif reason is None:
                    ends.append(days[0] - 1)
        end = place.landing((min(ends) + 1) * DAY)[0]
        if end <= second:  # the clocks go back over midnight, and this is the day's second end
            end = (day + 1) * DAY - place.stretch(second).offset
        return Piece(at - 1, end * 1_000_000 - 1, reason)


@lru_cache(maxsize=1024)
def blackout(texts: tuple[str, ...]) -> Blackout:
    """Read dates (`"2026-12-25"`), yearly dates (`"12-25"`), and ranges of either (`"12-24/12-26"`).

    Raises:
        DefinitionError: one of them is no date; the message says how to write it.
    """
    if len(texts) > _MOST:
        raise DefinitionError(f"a schedule has at most {_MOST} blackouts; write neighbouring days as a range")
    return Blackout(tuple(_item(text) for text in texts))


def _item(text: str) -> _Item:
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
        backwards = date(begin, *first) > date(end, *last) and years is not None
    except ValueError:
        raise DefinitionError(f"{text!r} is no blackout: there is no such date") from None
    if backwards:
        raise DefinitionError(f"{text!r} is no blackout: it ends before it begins")
    return _Item(years, first, last, f"blackout {_words(years, first, last)}")


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
