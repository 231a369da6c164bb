"""Schedules by brute force: every minute of a few days, asked of the standard library's zones."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

WINDOWS = {
    "America/New_York": ["2026-03-06", "2026-10-30"],
    "Europe/Berlin": ["2026-03-27", "2026-10-23"],
    "Australia/Lord_Howe": ["2026-04-03", "2026-10-02"],
    "America/Sao_Paulo": ["2018-02-16", "2018-11-02"],
    "Africa/Casablanca": ["2026-02-13", "2026-03-20"],
    "Pacific/Apia": ["2011-12-28", "2011-09-22"],
    "Asia/Kathmandu": ["2026-06-29"],
    "UTC": ["2024-02-27"],
}
DAYS = 4
MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Field:
    """One field: as it is written, and what it means."""

    text: str
    values: frozenset[int]

    @property
    def star(self) -> bool:
        return "*" in self.text


@st.composite
def fields(draw: st.DrawFn, low: int, high: int) -> Field:
    kind = draw(st.sampled_from(["star", "step", "one", "list", "range", "stepped range"]))
    values = st.integers(low, high)
    if kind == "star":
        return Field("*", frozenset(range(low, high + 1)))
    if kind == "step":
        step = draw(st.sampled_from([2, 5, 10, 15, 20, 30, 45]))
        return Field(f"*/{step}", frozenset(range(low, high + 1, step)))
    if kind == "one":
        value = draw(values)
        return Field(str(value), frozenset([value]))
    if kind == "list":
        chosen = draw(st.lists(values, min_size=2, max_size=4))
        return Field(",".join(map(str, chosen)), frozenset(chosen))
    first, last = sorted([draw(values), draw(values)])
    if kind == "range":
        return Field(f"{first}-{last}", frozenset(range(first, last + 1)))
    step = draw(st.integers(1, 7))
    last = max(last, first + 1) if first < high else last
    first = min(first, last - 1)
    return Field(f"{first}-{last}/{step}", frozenset(range(first, last + 1, step)))


@dataclass(frozen=True)
class Days:
    """Day of month and day of week: as they are written, and whether they take a date."""

    text: tuple[str, str]
    kind: str
    days: frozenset[int]
    weekdays: frozenset[int]

    def take(self, day: date) -> bool:
        month_end = calendar.monthrange(day.year, day.month)[1]
        weekday = day.isoweekday() % 7
        match self.kind:
            case "any":
                return True
            case "day":
                return day.day in self.days
            case "weekday":
                return weekday in self.weekdays
            case "either":
                return day.day in self.days or weekday in self.weekdays
            case "last":
                return day.day == month_end
            case "last working":
                return day.isoweekday() < 6 and not any(
                    day.replace(day=later).isoweekday() < 6 for later in range(day.day + 1, month_end + 1)
                )
            case "nth":
                return weekday in self.weekdays and (day.day + 6) // 7 in self.days
            case _:
                return weekday in self.weekdays and day.day + 7 > month_end


NAMES = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


@st.composite
def days(draw: st.DrawFn) -> Days:
    kind = draw(
        st.sampled_from(["any"] * 5 + ["day", "weekday", "either", "last", "last working", "nth", "last weekday"])
    )
    one, weekday = draw(fields(1, 31).filter(lambda each: not each.star)), draw(st.integers(0, 6))
    nth = draw(st.integers(1, 5))
    name = draw(st.sampled_from([str(weekday), NAMES[weekday], NAMES[weekday].lower()]))
    text = {
        "any": ("*", "*"),
        "day": (one.text, "*"),
        "weekday": ("*", name),
        "either": (one.text, name),
        "last": ("L", "*"),
        "last working": ("LW", "*"),
        "nth": ("*", f"{name}#{nth}"),
        "last weekday": ("*", f"{weekday}L"),
    }[kind]
    return Days(text, kind, frozenset([nth]) if kind == "nth" else one.values, frozenset([weekday]))


@dataclass(frozen=True)
class Case:
    """A cron expression in a zone, with the time in which it is looked at."""

    tz: str
    begin: datetime
    minute: Field
    hour: Field
    days: Days

    @property
    def text(self) -> str:
        return f"{self.minute.text} {self.hour.text} {self.days.text[0]} * {self.days.text[1]}"

    @property
    def end(self) -> datetime:
        return self.begin + timedelta(days=DAYS)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    tz = draw(st.sampled_from(sorted(WINDOWS)))
    begin = datetime.fromisoformat(draw(st.sampled_from(WINDOWS[tz]))).replace(tzinfo=UTC)
    hour = draw(st.one_of(fields(0, 23), fields(0, 3).filter(lambda each: not each.star)))
    return Case(tz, begin, draw(fields(0, 59)), hour, draw(days()))


@cache
def clock(tz: str, begin: datetime) -> list[tuple[datetime, datetime]]:
    """Return every minute with what local clocks show, from a day before until a day after the window."""
    place = ZoneInfo(tz)
    moments = [begin - timedelta(days=1) + count * MINUTE for count in range((DAYS + 2) * 1440)]
    return [(moment, moment.astimezone(place).replace(tzinfo=None, fold=0)) for moment in moments]


def dates_of(case: Case) -> set[date]:
    """Return all dates of the window, also those that local clocks never show."""
    return {(case.begin + timedelta(days=count)).date() for count in range(-2, DAYS + 3)}


def ticks(case: Case) -> list[datetime]:
    """Return the ticks of the window, its end included, minute by minute."""
    shown = clock(case.tz, case.begin)

    dates = {day for day in dates_of(case) if case.days.take(day)}

    def matches(local: datetime) -> bool:
        return local.minute in case.minute.values and local.hour in case.hour.values and local.date() in dates

    found = [moment for moment, local in shown if matches(local)]
    if not (case.minute.star or case.hour.star):
        found = sorted(set(_fixed(shown, matches)))
    return [moment for moment in found if case.begin < moment <= case.end]


def _fixed(shown: list[tuple[datetime, datetime]], matches: Any) -> Iterator[datetime]:
    """Go through the moments of local times: the first minute that shows one, or the first minute past it."""
    first: dict[datetime, datetime] = {}
    for moment, local in shown:
        first.setdefault(local, moment)
    local, past = shown[0][1], shown[-1][1]
    while local < past:
        if matches(local):
            yield first.get(local) or next(moment for moment, clocks in shown if clocks > local)
        local += MINUTE
