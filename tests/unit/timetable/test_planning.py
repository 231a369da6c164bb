"""The catch-up rule: every tick is settled once, as run, missed or skipped, however long nobody looked."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pullcord as pc
from pullcord.clock import microseconds
from pullcord.core.timetable import Omitted, Plan, Schedule, plan
from pullcord.core.timetable.options import CatchUp

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86_400 * SECOND
BERLIN = ZoneInfo("Europe/Berlin")
BEGIN = microseconds(datetime(2026, 3, 27, tzinfo=UTC))


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    options: dict[str, Any] = {
        "tz": "Europe/Berlin",
        "catch_up": draw(st.sampled_from(get_args(CatchUp))),
        "max_catch_up": draw(st.integers(1, 6)),
        "misfire_grace": draw(st.sampled_from([0, 10, 600, 7200])),
        "jitter": draw(st.sampled_from([None, 20, 900, 10_000])),
        "blackout": draw(
            st.sampled_from([[], ["2026-03-28"], ["03-29/03-30", "2026-03-27"], ["03-28/03-29", "03-30"]])
        ),
    }
    kind = draw(st.sampled_from(["cron", "interval", "at"]))
    if kind == "at":
        return pc.at(datetime.fromtimestamp(BEGIN // SECOND + draw(st.integers(0, 4 * 86_400)), UTC), **options)
    options["start"] = draw(st.sampled_from([None, "2026-03-28T11:11"]))
    options["end"] = draw(st.sampled_from([None, "2026-03-30T11:11"]))
    if kind == "cron":
        return pc.cron(draw(st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 */3 * * *", "5,50 1-4 * * *"])), **options)
    return pc.interval(draw(st.integers(400, 30_000)), **options)


moments = st.integers(BEGIN, BEGIN + 4 * DAY)


def told(made: Plan) -> list[int]:
    """Return the ticks that a plan settles, however."""
    missed = made.missed.ticks if made.missed else ()
    return sorted([*made.run, *missed, *(tick for each in made.skipped for tick in each.ticks)])


def settled(schedule: Schedule, name: str, cursor: int, now: int) -> list[tuple[int, int]]:
    """Return by brute force the ticks that are due, and since when."""
    found, due = [], 0
    for tick in schedule.ticks(cursor).between(cursor, now):
        due = max(due, schedule.due(tick, name))
        if due > now:
            break
        found.append((tick, due))
    return found


@settings(max_examples=300)
@given(schedules(), moments, moments)
def test_a_plan_sorts_each_tick_that_is_due_into_one_place(schedule: Schedule, one: int, other: int) -> None:
    cursor, now = sorted([one, other])
    made = plan(schedule, "x", cursor, now)
    due = settled(schedule, "x", cursor, now)
    assert told(made) == [tick for tick, _ in due]
    assert made.cursor == (due[-1][0] if due else cursor)
    assert not made.reset

    options = schedule.options
    free = [(tick, since) for tick, since in due if schedule.left_out(tick) is None]
    on_time = [tick for tick, since in free if since >= now - options.grace]
    late = [tick for tick, since in free if since < now - options.grace]
    if options.catch_up == "skip" or schedule.left_out(now) or (options.catch_up == "latest" and on_time):
        caught_up: list[int] = []
    else:
        caught_up = late[-1 if options.catch_up == "latest" else -options.max_catch_up :]
    assert list(made.run) == caught_up + on_time
    assert made.late == len(caught_up)


@given(schedules(), moments, moments)
def test_a_plan_says_when_to_plan_again(schedule: Schedule, one: int, other: int) -> None:
    cursor, now = sorted([one, other])
    made = plan(schedule, "x", cursor, now)
    again = plan(schedule, "x", made.cursor, now)
    assert not told(again)
    assert (again.cursor, again.next_tick, again.next_due) == (made.cursor, made.next_tick, made.next_due)
    if made.next_due is None or made.next_tick is None:
        assert made.next_due is made.next_tick is schedule.ticks(made.cursor).next_after(made.cursor) is None
        return
    assert made.next_tick <= made.next_due
    assert made.next_due > now
    assert not told(plan(schedule, "x", made.cursor, made.next_due - 1))
    assert made.next_tick in told(plan(schedule, "x", made.cursor, made.next_due))


@given(schedules(), st.lists(moments, min_size=1, max_size=12))
def test_however_often_plans_are_made_each_tick_is_settled_once(schedule: Schedule, times: list[int]) -> None:
    cursor, found = BEGIN, []
    for now in sorted(times):
        made = plan(schedule, "x", cursor, now)
        found += told(made)
        cursor = made.cursor
    assert found == [tick for tick, _ in settled(schedule, "x", BEGIN, max(times))]


@given(schedules(), moments, moments)
def test_what_is_omitted_is_told_truly(schedule: Schedule, one: int, other: int) -> None:
    cursor, now = sorted([one, other])
    made = plan(schedule, "x", cursor, now)
    for omitted in (*made.skipped, *([made.missed] if made.missed else [])):
        assert omitted.count == len(omitted.ticks)
        assert (omitted.first, omitted.last) == (omitted.ticks[0], omitted.ticks[-1])
        assert list(omitted.ticks) == sorted(omitted.ticks)
    for omitted in made.skipped:
        assert {schedule.left_out(tick) for tick in omitted.ticks} == {omitted.reason}


YEARS = 10 * 365 * DAY


@pytest.mark.parametrize(
    ("schedule", "count"),
    [
        (pc.cron("* * * * *"), YEARS // MINUTE),
        (pc.cron("* * * * * *", tz="Europe/Berlin"), YEARS // SECOND),
        (pc.cron("30 2 * * *", tz="Europe/Berlin"), 3650),
        (pc.interval("1s"), YEARS // SECOND),
    ],
)
def test_years_without_a_server_are_counted_exactly(schedule: Schedule, count: int) -> None:
    now = microseconds(datetime(2026, 7, 1, 0, 0, 30, tzinfo=UTC))
    made = plan(schedule, "x", now - YEARS, now)
    assert made.missed is not None
    assert made.missed.count + len(made.run) == count
    assert made.missed.ticks == ()
    assert made.missed.first == schedule.next_after(now - YEARS)
    assert schedule.ticks(now - YEARS).next_after(made.missed.last) == made.run[0]
    assert made.run[-1] == made.cursor


def test_more_ticks_on_time_than_can_be_told_are_late() -> None:
    made = plan(pc.interval("1s", misfire_grace="30d", catch_up="skip"), "x", BEGIN, BEGIN + DAY)
    assert len(made.run) == 10_000
    assert made.missed is not None
    assert made.missed.count == 86_400 - 10_000


def test_blackouts_are_told_one_by_one_with_their_days() -> None:
    schedule = pc.cron("@hourly", tz="Europe/Berlin", blackout=["12-24/12-26", "2026-12-31"])
    cursor = microseconds(datetime(2026, 12, 23, 12, 30, tzinfo=BERLIN))
    made = plan(schedule, "x", cursor, microseconds(datetime(2027, 1, 1, 12, 30, tzinfo=BERLIN)))
    assert [(each.reason, each.count) for each in made.skipped] == [
        ("blackout 24 Dec to 26 Dec", 72),
        ("blackout 31 Dec 2026", 24),
    ]
    assert made.missed is not None
    assert made.missed.count + len(made.run) == 9 * 24 - 72 - 24


def test_nothing_is_caught_up_in_a_blackout() -> None:
    schedule = pc.cron("0 18 * * *", tz="Europe/Berlin", blackout=["12-24"], catch_up="all")
    cursor = microseconds(datetime(2026, 12, 22, 19, tzinfo=BERLIN))
    in_it = plan(schedule, "x", cursor, microseconds(datetime(2026, 12, 24, 3, tzinfo=BERLIN)))
    assert (in_it.run, in_it.missed and in_it.missed.count) == ((), 1)
    after = plan(schedule, "x", cursor, microseconds(datetime(2026, 12, 25, 3, tzinfo=BERLIN)))
    assert (len(after.run), after.late, len(after.skipped)) == (1, 1, 1)


def test_a_clock_that_went_back_a_little_repeats_nothing() -> None:
    made = plan(pc.cron("* * * * *"), "x", BEGIN, BEGIN - 50 * MINUTE)
    assert (made.run, made.missed, made.skipped, made.cursor) == ((), None, (), BEGIN)
    assert made.next_tick == BEGIN + MINUTE


@pytest.mark.parametrize("schedule", [pc.cron("* * * * *"), pc.interval("1m"), pc.interval("1m", start="2020-01-01")])
def test_a_cursor_from_the_future_does_not_silence_a_schedule(schedule: Schedule) -> None:
    made = plan(schedule, "x", BEGIN + 3650 * DAY, BEGIN)
    assert (made.reset, made.cursor, made.run) == (True, BEGIN, ())
    assert made.next_tick == BEGIN + MINUTE
    assert plan(schedule, "x", made.cursor, BEGIN + MINUTE).run == (BEGIN + MINUTE,)


def test_a_clock_that_went_ahead_and_back_settles_each_tick_once() -> None:
    schedule, cursor, found = pc.cron("*/5 * * * *", catch_up="all"), BEGIN, []
    for offset in (0, 7, 61, 11, 30, 59, 66, 71):
        made = plan(schedule, "x", cursor, BEGIN + offset * MINUTE)
        found += told(made)
        cursor = made.cursor
    assert found == [BEGIN + minutes * MINUTE for minutes in range(5, 71, 5)]


@pytest.mark.parametrize("catch_up", get_args(CatchUp))
@pytest.mark.parametrize("jitter", [None, "40m"])
def test_a_year_of_hours_with_restarts(catch_up: CatchUp, jitter: str | None) -> None:
    """A server that dies at any moment, also before what it planned is kept, settles each tick once."""
    schedule = pc.cron(
        "@hourly", tz="America/New_York", catch_up=catch_up, jitter=jitter, blackout=["07-04", "12-24/01-02"]
    )
    chance = random.Random(f"{catch_up} {jitter}")
    begin = microseconds(datetime(2026, 1, 1, tzinfo=UTC))
    cursor, now, kept = begin, begin, dict.fromkeys(("run", "missed", "skipped"), 0)
    seen: list[int] = []
    while now < begin + 365 * DAY:
        made = plan(schedule, "report", cursor, now)
        if chance.random() < 0.2:  # killed before the commit, and away for up to two days
            now += chance.randrange(1, 48 * HOUR)
            continue
        seen += told(made)
        cursor = made.cursor
        kept["run"] += len(made.run)
        kept["missed"] += made.missed.count if made.missed else 0
        kept["skipped"] += sum(each.count for each in made.skipped)
        now = now + chance.randrange(1, 6 * HOUR) if chance.random() < 0.1 else (made.next_due or now)
    first = datetime(2026, 1, 1, tzinfo=UTC)
    expected = [microseconds(first + timedelta(hours=count)) for count in range(1, len(seen) + 1)]
    assert seen == expected
    assert len(seen) > 355 * 24
    assert all(kept.values())


@given(st.text(max_size=20), st.integers(0, 10**16), st.integers(1, 86_400))
def test_jitter_is_the_same_again_and_within_its_length(name: str, tick: int, jitter: int) -> None:
    schedule, again = (pc.interval("1h", jitter=jitter) for _ in range(2))
    assert tick <= schedule.due(tick, name) == again.due(tick, name) < tick + jitter * SECOND


def test_jitter_spreads_schedules_that_tick_together() -> None:
    schedule = pc.cron("@daily", jitter="1h")
    dues = sorted(schedule.due(BEGIN, f"report-{number}") - BEGIN for number in range(1000))
    assert dues[0] < 2 * MINUTE
    assert dues[-1] > 58 * MINUTE
    assert max(later - each for each, later in pairwise(dues)) < 2 * MINUTE
    assert schedule.due(BEGIN, "report") - BEGIN != schedule.due(BEGIN + DAY, "report") - BEGIN - DAY


def test_an_omission_is_only_made_of_something() -> None:
    made = plan(pc.cron("@yearly"), "x", BEGIN, BEGIN + DAY)
    assert (made.missed, made.skipped, made.run) == (None, (), ())
    assert isinstance(plan(pc.cron("@hourly", catch_up="skip"), "x", BEGIN, BEGIN + DAY).missed, Omitted)
