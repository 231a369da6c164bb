"""When schedules tick, compared with every minute (or second) of the days on which clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pullcord as pc
from pullcord.clock import microseconds
from pullcord.core.timetable import Schedule
from tests.unit.timetable.bruteforce import WINDOWS, Case, cases, ticks

BERLIN = ZoneInfo("Europe/Berlin")


def enumerated(schedule: Schedule, after: datetime, until: datetime) -> list[int]:
    """Go from tick to tick."""
    found, tick = [], schedule.next_after(microseconds(after))
    while tick is not None and tick <= microseconds(until):
        found.append(tick)
        tick = schedule.next_after(tick)
    return found


@settings(max_examples=200)
@given(cases())
def test_cron_ticks_as_every_minute_says(case: Case) -> None:
    try:
        schedule = pc.cron(case.text, tz=case.tz)
    except pc.PullcordError as error:
        assert "never comes" in str(error)
        assert not ticks(case)
        return
    assert enumerated(schedule, case.begin, case.end) == [microseconds(each) for each in ticks(case)]


@settings(max_examples=100)
@given(cases(), st.data())
def test_what_is_asked_from_any_moment_fits_the_list(case: Case, data: st.DataObject) -> None:
    try:
        schedule = pc.cron(case.text, tz=case.tz)
    except pc.PullcordError:
        return
    every = [microseconds(each) for each in ticks(case)]
    moments = st.integers(microseconds(case.begin), microseconds(case.end))
    after, until = sorted([data.draw(moments), data.draw(moments)])
    limit = data.draw(st.integers(0, 20))
    line = schedule.ticks(after)
    inside = [each for each in every if after < each <= until]
    assert list(line.between(after, until)) == inside
    assert line.count(after, until) == len(inside)
    assert line.newest(after, until, limit) == inside[len(inside) - min(limit, len(inside)) :]


@pytest.mark.parametrize("expression", ["*/10 30 1-3 * * *", "15,45 */20 0-4 * * *", "0 0 2 * * *", "30 15 1,2 * * *"])
@pytest.mark.parametrize("tz", ["Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo"])
def test_six_fields_tick_as_every_second_says(expression: str, tz: str) -> None:
    second, minute, hour = ({*_values(part)} for part in expression.split()[:3])
    fixed = "*" not in "".join(expression.split()[:3])
    place = ZoneInfo(tz)
    for day in WINDOWS[tz]:
        begin = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
        expected, seen = [], set()
        last = (begin - timedelta(seconds=1)).astimezone(place).replace(tzinfo=None)
        for count in range(2 * 86_400):
            moment = begin + timedelta(seconds=count)
            local = moment.astimezone(place).replace(tzinfo=None, fold=0)
            step = (local - last).total_seconds()
            jumped = [last + timedelta(seconds=each) for each in range(1, int(step))] if fixed else []
            shown = [local] if not (fixed and local in seen) else []
            if any(t.second in second and t.minute in minute and t.hour in hour for t in [*jumped, *shown]):
                expected.append(microseconds(moment))
            seen.add(local)
            last = local
        schedule = pc.cron(expression, tz=tz)
        assert enumerated(schedule, begin - timedelta(seconds=1), begin + timedelta(seconds=2 * 86_400 - 1)) == expected


def _values(part: str) -> list[int]:
    if part.startswith("*/"):
        return list(range(0, 60, int(part[2:])))
    if "-" in part:
        first, last = map(int, part.split("-"))
        return list(range(first, last + 1))
    return [int(each) for each in part.split(",")]


def test_a_time_that_does_not_exist_fires_once_after_the_gap() -> None:
    schedule = pc.cron("30 2 * * *", tz="Europe/Berlin")
    fires = schedule.upcoming(3, after=datetime(2026, 3, 28, tzinfo=BERLIN))
    assert [str(each) for each in fires] == [
        "2026-03-28 02:30:00+01:00",
        "2026-03-29 03:00:00+02:00",
        "2026-03-30 02:30:00+02:00",
    ]
    assert {each.tzinfo for each in fires} == {BERLIN}


def test_a_time_that_exists_twice_fires_the_first_time_only() -> None:
    fires = pc.cron("30 2 * * *", tz="Europe/Berlin").upcoming(3, after=datetime(2026, 10, 24, tzinfo=BERLIN))
    assert [str(each) for each in fires] == [
        "2026-10-24 02:30:00+02:00",
        "2026-10-25 02:30:00+02:00",
        "2026-10-26 02:30:00+01:00",
    ]


def test_slots_are_equally_far_apart_while_clocks_change() -> None:
    for day in (datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)):
        fires = pc.cron("*/30 * * * *", tz="Europe/Berlin").upcoming(100, after=day)
        assert {later.astimezone(UTC) - each.astimezone(UTC) for each, later in pairwise(fires)} == {
            timedelta(minutes=30)
        }


def test_a_day_that_does_not_exist_fires_when_the_next_one_begins() -> None:
    fires = pc.cron("0 12 * * *", tz="Pacific/Apia").upcoming(3, after=datetime(2011, 12, 29, 11, tzinfo=UTC))
    assert [str(each) for each in fires] == [
        "2011-12-29 12:00:00-10:00",
        "2011-12-31 00:00:00+14:00",
        "2011-12-31 12:00:00+14:00",
    ]


@pytest.mark.parametrize(
    ("macro", "expression"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * SUN"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 JAN *"),
        ("@Annually", "0 0 1 1 *"),
    ],
)
def test_macros(macro: str, expression: str) -> None:
    after = datetime(2026, 5, 5, 5, 5, tzinfo=UTC)
    assert pc.cron(macro).upcoming(5, after) == pc.cron(expression).upcoming(5, after)


def test_a_leap_day_that_is_a_monday_is_found() -> None:
    assert [each.year for each in pc.cron("0 0 * 2 MON#5").upcoming(2, datetime(2026, 1, 1, tzinfo=UTC))] == [
        2044,
        2072,
    ]


@given(st.integers(1, 10**6), st.integers(0, 10**9), st.integers(0, 10**10))
def test_an_interval_counts_from_its_last_tick_and_does_not_drift(every: int, registered: int, later: int) -> None:
    schedule = pc.interval(every)
    anchor = registered * 1_000_000
    line = schedule.ticks(anchor)
    assert schedule.next_after(anchor) == anchor + every * 1_000_000
    following = line.next_after(anchor + later)
    assert following is not None
    assert (following - anchor) % (every * 1_000_000) == 0
    assert anchor + later < following <= anchor + later + every * 1_000_000


def test_an_interval_with_a_start_begins_there() -> None:
    schedule = pc.interval("90m", start="2026-03-29T01:00", tz="Europe/Berlin")
    fires = schedule.upcoming(3, after=datetime(2026, 3, 1, tzinfo=UTC))
    assert [str(each) for each in fires] == [
        "2026-03-29 01:00:00+01:00",
        "2026-03-29 03:30:00+02:00",
        "2026-03-29 05:00:00+02:00",
    ]


@pytest.mark.parametrize(
    ("when", "tz", "expected"),
    [
        ("2026-12-24T18:00", "Europe/Berlin", "2026-12-24 18:00:00+01:00"),
        ("2026-12-24T18:00Z", "Europe/Berlin", "2026-12-24 19:00:00+01:00"),
        ("2026-03-29T02:30", "Europe/Berlin", "2026-03-29 03:00:00+02:00"),
        ("2026-10-25T02:30", "Europe/Berlin", "2026-10-25 02:30:00+02:00"),
        ("2018-11-04T00:00", "America/Sao_Paulo", "2018-11-04 01:00:00-02:00"),
        (datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "Europe/Berlin", "2026-10-25 02:30:00+01:00"),
    ],
)
def test_a_single_time(when: str | datetime, tz: str, expected: str) -> None:
    schedule = pc.at(when, tz=tz)
    before = datetime(2000, 1, 1, tzinfo=UTC)
    (fire,) = schedule.upcoming(5, after=before)
    assert str(fire) == expected
    assert schedule.upcoming(5, after=fire) == []


def test_slots_that_clocks_always_leave_out_are_not_looked_for_without_end() -> None:
    never = pc.cron("*/30 2 * 3 0L", tz="Europe/Berlin", start="2000-01-01")
    assert never.upcoming(1, after=datetime(2026, 1, 1, tzinfo=UTC)) == []
    (fire,) = pc.cron("30 2 * 3 0L", tz="Europe/Berlin").upcoming(1, after=datetime(2026, 1, 1, tzinfo=UTC))
    assert str(fire) == "2026-03-29 03:00:00+02:00"


def test_start_and_end_are_bounds_that_belong_to_the_time() -> None:
    schedule = pc.cron("@hourly", tz="Europe/Berlin", start="2026-05-01T10:00", end="2026-05-01T12:00")
    fires = schedule.upcoming(9, after=datetime(2026, 1, 1, tzinfo=UTC))
    assert [each.hour for each in fires] == [10, 11, 12]
    assert schedule.ticks(0).count(0, 10**17) == 3
