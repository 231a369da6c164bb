"""Each tick of a schedule is admitted, missed or skipped, exactly once: through deaths, set clocks and changes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from pullcord.clock import rfc3339
from pullcord.core.errors import UsageError
from pullcord.core.quotas import Rate
from pullcord.core.timetable import Schedule, at, cron, interval
from pullcord.store.commands.triggers import FireTrigger, TriggerState
from pullcord.triggers import schedules
from tests.store.harness import NOON, Database, DrivenClock, spec
from tests.store.timekeeping import FLOWS, HOUR, Life

MINUTE = HOUR // 60
YEAR = 365 * 24 * HOUR
Lives = Callable[..., Any]

HOURLY = {"f": [cron("@hourly", name="hourly", catch_up="all")]}
"""15 January 2027 at 08:00 UTC, where the clock starts, is one of its ticks."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only a test moves is looked at all the time."""
    monkeypatch.setattr(schedules, "LOOK", 0.001)


@pytest.fixture
async def live(empty: Callable[[], Database], clock: DrivenClock) -> AsyncIterator[Lives]:
    """Begin lives over one store, one after the other."""
    database = empty()
    lives: list[Life] = []

    async def begin(declared: dict[str, list[Schedule]]) -> Life:
        if lives:
            await lives.pop().end()
        life = Life(database, clock, declared)
        lives.append(life)
        await life.begin()
        await life.registered(*(one.name or "" for some in declared.values() for one in some))
        await life.settled()
        return life

    yield begin
    for life in lives:
        await life.end()


def hours(first: int, last: int) -> list[int]:
    """Return the ticks of the hours from one to another after noon."""
    return [NOON + number * HOUR for number in range(first, last + 1)]


def test_the_clock_starts_at_a_full_hour() -> None:
    assert NOON % HOUR == 0


# --- a year ------------------------------------------------------------------------------------------


async def test_in_a_year_of_hours_each_tick_happens_once_however_often_the_server_dies(
    empty: Callable[[], Database], kind: str
) -> None:
    """It dies between any two turns of its loop, before or after any commit, and stays dead for up to days."""
    dice = random.Random(20)
    database, clock = empty(), DrivenClock()
    each = cron("@hourly", name="hourly", catch_up="all", max_catch_up=10_000)
    declared = {"f": [each], "g": [interval("1h", name="each", catch_up="latest")]}
    end = NOON + (YEAR if kind == "sqlite" else YEAR // 12)
    deaths = 0
    life = await Life(database, clock, declared).begin()
    await life.registered("hourly", "each")
    await life.settled()
    while clock.at < end:
        if dice.random() < 0.5:
            life.store.left = dice.randrange(6)
        clock.advance(dice.choice([MINUTE, 20 * MINUTE, HOUR, 3 * HOUR, 9 * HOUR, 30 * HOUR]))
        for _ in range(dice.randrange(40)):
            await asyncio.sleep(0)
        if dice.random() < 0.25:
            life.store.dead.set()
        await life.settled()
        life.store.left = None
        if life.store.dead.is_set():
            deaths += 1
            await life.end()
            clock.advance(dice.choice([0, MINUTE, HOUR, 50 * HOUR]))
            life = await Life(database, clock, declared).begin()
    await life.settled()
    last = (clock.at - NOON) // HOUR
    try:
        assert deaths > last / 200
        for name in ("hourly", "each"):
            assert await life.ticks(name) == Counter(hours(1, last)), name
            outcomes = Counter(row["outcome"] for row in await life.ledger(name))
            assert outcomes["admitted"] > last / 50
        assert (await life.admitted("hourly")) == sorted(await life.admitted("hourly"))
        assert {row["outcome"] for row in await life.ledger("hourly")} == {"admitted"}
        assert {row["outcome"] for row in await life.ledger("each")} == {"admitted", "missed"}
    finally:
        await life.end()


# --- when the clock is set ---------------------------------------------------------------------------


@pytest.mark.parametrize("minutes", [1, 7, 59])
async def test_a_clock_that_is_set_back_a_little_has_no_tick_happen_twice(
    live: Lives, clock: DrivenClock, minutes: int
) -> None:
    life = await live(HOURLY)
    for _ in range(3):
        await life.pass_time(HOUR)
    for _ in range(4):
        clock.advance(-minutes * MINUTE)
        await life.settled()
        await life.pass_time((minutes + 60) * MINUTE)
    assert await life.ticks("hourly") == Counter(hours(1, 7))


@pytest.mark.parametrize("back", [2 * HOUR, 24 * HOUR, YEAR])
async def test_a_clock_that_was_wrong_by_hours_does_not_silence_a_schedule(
    live: Lives, clock: DrivenClock, back: int
) -> None:
    life = await live(HOURLY)
    await life.pass_time(HOUR)
    clock.advance(back)
    await life.settled()
    clock.advance(-back)
    record = life.registry.find("hourly")
    await life.until(lambda: record.state.cursor is not None and int(record.state.cursor) <= clock.at)
    for _ in range(3):
        await life.pass_time(HOUR)
    admitted = await life.admitted("hourly")
    assert admitted[-3:] == hours(2, 4)
    assert any("the clock was set back" in (reason or "") for _, reason, _ in await life.history("hourly"))


async def test_a_clock_that_leaps_over_a_year_runs_what_the_schedule_says_and_counts_the_rest(
    live: Lives, clock: DrivenClock
) -> None:
    life = await live({"f": [cron("@hourly", name="latest"), cron("@hourly", name="none", catch_up="skip")]})
    await life.pass_time(YEAR + MINUTE)
    assert await life.admitted("latest") == [NOON + YEAR]
    assert await life.admitted("none") == []
    for name, missed in (("latest", 365 * 24 - 1), ("none", 365 * 24)):
        (row,) = [row for row in await life.ledger(name) if row["outcome"] == "missed"]
        assert row["count"] == missed
        assert f"{missed:,} ticks from 2027-01-15T09:00:00" in row["reason"]
    await life.pass_time(HOUR)
    assert (await life.admitted("latest"))[-1] == NOON + YEAR + HOUR


async def test_a_server_that_was_away_while_the_clock_was_set_back_goes_on(live: Lives, clock: DrivenClock) -> None:
    life = await live(HOURLY)
    await life.pass_time(5 * HOUR)
    await life.end()
    clock.advance(-4 * HOUR)
    life = await live(HOURLY)
    record = life.registry.find("hourly")
    await life.until(lambda: int(record.state.cursor or 0) == clock.at)
    await life.pass_time(HOUR)
    assert (await life.admitted("hourly"))[-1] == NOON + 2 * HOUR


# --- pauses, blackouts, jitter, catching up ----------------------------------------------------------


async def test_what_a_pause_leaves_out_is_counted_and_it_ends_by_itself(live: Lives, clock: DrivenClock) -> None:
    life = await live(HOURLY)
    await life.pass_time(HOUR)
    await life.change("hourly", enabled=False, until=rfc3339(NOON + 4 * HOUR + MINUTE), reason="repairs")
    assert life.control.get("hourly")["enabled"] is False
    for _ in range(6):
        await life.pass_time(HOUR)
    assert life.control.get("hourly")["enabled"] is True
    rows = await life.ledger("hourly")
    assert await life.admitted("hourly") == [*hours(1, 1), *hours(5, 7)]
    (skipped,) = [row for row in rows if row["outcome"] == "skipped"]
    assert skipped["count"] == 3
    assert skipped["reason"] == f"owner disabled it until {rfc3339(NOON + 4 * HOUR + MINUTE)}: repairs"
    assert sum(row["count"] for row in rows) == 7


async def test_a_pause_is_over_at_a_tick_of_that_very_moment(live: Lives) -> None:
    life = await live(HOURLY)
    await life.change("hourly", enabled=False, until=rfc3339(NOON + 2 * HOUR))
    for _ in range(3):
        await life.pass_time(HOUR)
    assert await life.admitted("hourly") == hours(2, 3)


async def test_a_pause_survives_a_restart_and_ends_while_no_server_runs(live: Lives, clock: DrivenClock) -> None:
    life = await live(HOURLY)
    await life.change("hourly", enabled=False, until=rfc3339(NOON + 3 * HOUR))
    life = await live(HOURLY)
    assert life.control.get("hourly")["override"]["until"] == rfc3339(NOON + 3 * HOUR)
    await life.pass_time(HOUR)
    await life.end()
    clock.advance(3 * HOUR)
    life = await live(HOURLY)
    assert await life.admitted("hourly") == hours(3, 4)
    rows = await life.ledger("hourly")
    assert sum(row["count"] for row in rows if row["outcome"] == "skipped") == 2


async def test_disabled_in_the_code_it_asks_for_nothing_until_somebody_enables_it(live: Lives) -> None:
    life = await live({"f": [cron("@hourly", name="off", enabled=False)]})
    await life.pass_time(HOUR)
    assert await life.admitted("off") == []
    await life.change("off", enabled=True)
    await life.pass_time(HOUR)
    assert await life.admitted("off") == hours(2, 2)
    (row,) = [row for row in await life.ledger("off") if row["outcome"] == "skipped"]
    assert row["reason"] == "it is not enabled in the code"


async def test_a_blackout_leaves_out_its_ticks_and_says_so(live: Lives) -> None:
    life = await live({"f": [cron("@hourly", name="quiet", blackout=["2027-01-16"])]})
    for _ in range(60):
        await life.pass_time(HOUR)
    rows = await life.ledger("quiet")
    assert await life.ticks("quiet") == Counter(hours(1, 60))
    left_out = [row["scheduled_for"] for row in rows if row["outcome"] == "skipped"]
    assert left_out == hours(16, 39)
    assert {row["reason"] for row in rows if row["outcome"] == "skipped"} == {"blackout 16 Jan 2027"}


async def test_with_jitter_a_tick_waits_its_turn_and_keeps_its_time(live: Lives, clock: DrivenClock) -> None:
    life = await live({"f": [cron("@hourly", name="vague", jitter="30m", misfire_grace="1h")]})
    schedule = life.schedules.schedule(life.registry.find("vague"))
    for tick in hours(1, 5):
        due = schedule.due(tick, "vague")
        await life.pass_time(due - clock.at - 1)
        assert tick not in await life.admitted("vague")
        await life.pass_time(1)
        assert (await life.admitted("vague"))[-1] == tick
    assert {schedule.due(tick, "vague") - tick for tick in hours(1, 5)} != {0}


@pytest.mark.parametrize(
    ("policy", "run"),
    [({"catch_up": "skip"}, []), ({"catch_up": "latest"}, [5]), ({"catch_up": "all"}, [1, 2, 3, 4, 5]),
     ({"catch_up": "all", "max_catch_up": 2}, [4, 5])],
)  # fmt: skip
async def test_what_is_late_runs_as_declared(
    live: Lives, clock: DrivenClock, policy: dict[str, Any], run: list[int]
) -> None:
    declared = {"f": [cron("@hourly", name="late", **policy)]}
    life = await live(declared)
    await life.end()
    clock.advance(5 * HOUR + MINUTE)
    life = await live(declared)
    assert await life.admitted("late") == [NOON + number * HOUR for number in run]
    assert await life.ticks("late") == Counter(hours(1, 5))
    assert {row["outcome"] for row in await life.ledger("late")} <= {"admitted", "missed"}


# --- the cursor --------------------------------------------------------------------------------------


async def test_again_from_here_runs_everything_once_more_whatever_catching_up_says(live: Lives) -> None:
    life = await live({"f": [cron("@hourly", name="latest", catch_up="skip")]})
    for _ in range(4):
        await life.pass_time(HOUR)
    await life.change("latest", cursor=rfc3339(NOON + HOUR), reason="the source was wrong")
    await life.settled()
    await life.until(lambda: life.done(life.registry.find("latest")))
    assert await life.admitted("latest") == [*hours(1, 4), *hours(2, 4)]
    await life.pass_time(10 * HOUR + MINUTE)
    assert await life.admitted("latest") == [*hours(1, 4), *hours(2, 4)], "from then on it is as declared"
    assert any("again from" in (reason or "") for _, reason, _ in await life.history("latest"))


async def test_again_from_here_survives_a_death_in_the_middle(live: Lives) -> None:
    life = await live({"f": [cron("@hourly", name="latest", catch_up="skip")]})
    for _ in range(4):
        await life.pass_time(HOUR)
    life.store.left = 1  # the change is written, and nothing after it
    changing = asyncio.ensure_future(life.change("latest", cursor=rfc3339(NOON)))
    await life.store.dead.wait()
    changing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await changing
    life = await live({"f": [cron("@hourly", name="latest", catch_up="skip")]})
    assert await life.admitted("latest") == [*hours(1, 4), *hours(1, 4)]


async def test_the_backlog_can_be_skipped(live: Lives, clock: DrivenClock) -> None:
    life = await live(HOURLY)
    life.catalog.missing.add("f")  # what cannot run now stays due
    clock.advance(3 * HOUR)
    record = life.registry.find("hourly")
    await life.until(lambda: record.id in life.schedules._refusals)
    assert await life.admitted("hourly") == []
    await life.change("hourly", cursor="now")
    life.catalog.missing.clear()
    await life.pass_time(HOUR)
    assert await life.admitted("hourly") == hours(4, 4)


async def test_what_cannot_run_now_runs_when_it_can(live: Lives, clock: DrivenClock) -> None:
    life = await live(HOURLY)
    life.catalog.missing.add("f")
    clock.advance(HOUR)
    record = life.registry.find("hourly")
    await life.until(lambda: record.id in life.schedules._refusals)
    life.catalog.missing.clear()
    clock.advance(5 * MINUTE)
    await life.until(lambda: record.id not in life.schedules._refusals)
    assert await life.admitted("hourly") == hours(1, 1)


async def test_ticks_beyond_a_rate_run_one_after_the_other(
    live: Lives, clock: DrivenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More were missed than the rate admits at once: those that fit run, the others when there is room."""
    rate = Rate(2, "10m").as_json()
    monkeypatch.setitem(FLOWS, "f", spec("f", None, settings={"concurrency": None, "rate": rate}))
    life = await live(HOURLY)
    record = life.registry.find("hourly")
    clock.advance(5 * HOUR)
    for ran in (2, 4, 5):
        await life.until(lambda: life.done(record) or record.id in life.schedules._refusals)
        assert await life.admitted("hourly") == hours(1, ran)
        assert record.state.cursor == str(NOON + ran * HOUR)
        assert life.done(record) == (ran == 5)
        life.schedules._refusals.pop(record.id, None)
        clock.advance(11 * MINUTE)
    outcomes = [(outcome, reason) for outcome, reason, _ in await life.history("hourly")]
    held = ("refused", "tried again: the rate of f is used up: 2 in 10 min for everybody together")
    assert outcomes == [("fired", "2 admitted"), held, ("fired", "2 admitted"), held, ("fired", "1 admitted")]


async def test_a_part_of_what_is_due_settles_each_tick_once(
    live: Lives, clock: DrivenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missed, and what a blackout leaves out, is told with the ticks that it is next to."""
    rate = Rate(1, "10m").as_json()
    monkeypatch.setitem(FLOWS, "f", spec("f", None, settings={"concurrency": None, "rate": rate}))
    options = {"catch_up": "all", "max_catch_up": 3, "blackout": ["2027-01-16"]}
    life = await live({"f": [cron("0 */6 * * *", name="part", **options)]})
    record = life.registry.find("part")
    clock.advance(48 * HOUR)
    for _ in range(3):
        await life.until(lambda: life.done(record) or record.id in life.schedules._refusals)
        life.schedules._refusals.pop(record.id, None)
        clock.advance(11 * MINUTE)
    await life.settled()
    rows = [(row["outcome"], row["scheduled_for"]) for row in await life.ledger("part") if row["outcome"] != "rejected"]
    assert sorted(rows, key=lambda row: row[1]) == [
        ("missed", NOON + 4 * HOUR),
        ("admitted", NOON + 10 * HOUR),
        *[("skipped", NOON + number * HOUR) for number in (16, 22, 28, 34)],
        ("admitted", NOON + 40 * HOUR),
        ("admitted", NOON + 46 * HOUR),
    ]


@pytest.mark.parametrize("cursor", ["tomorrow", "2027-01-15T08:00:00", 7, "2999-01-01T00:00:00Z"])
async def test_a_cursor_that_cannot_be_is_refused(live: Lives, cursor: Any) -> None:
    life = await live(HOURLY)
    with pytest.raises(UsageError):
        await life.change("hourly", cursor=cursor)
    await life.pass_time(HOUR)
    assert await life.admitted("hourly") == hours(1, 1)


# --- changes -----------------------------------------------------------------------------------------


async def test_a_schedule_that_people_change_goes_by_it_from_then_on_and_after_restarts(
    live: Lives, clock: DrivenClock
) -> None:
    life = await live(HOURLY)
    await life.pass_time(HOUR)
    await life.change("hourly", schedule="30 * * * *", reason="others need the hour")
    await life.pass_time(HOUR)
    life = await live(HOURLY)
    await life.pass_time(HOUR)
    assert await life.admitted("hourly") == [NOON + HOUR, NOON + HOUR + 30 * MINUTE, NOON + 2 * HOUR + 30 * MINUTE]
    shown = life.control.get("hourly")
    assert shown["settings"]["expression"] == "30 * * * *"
    assert shown["declared"]["settings"]["expression"] == "@hourly"
    assert (shown["override"]["by"], shown["override"]["reason"]) == ("owner", "others need the hour")
    await life.change("hourly", schedule=None)
    await life.pass_time(HOUR)
    assert (await life.admitted("hourly"))[-1] == NOON + 4 * HOUR


async def test_a_deploy_changes_a_schedule_from_then_on_and_loses_no_tick(live: Lives, clock: DrivenClock) -> None:
    life = await live(HOURLY)
    await life.pass_time(HOUR)
    clock.advance(HOUR)  # the tick is due, and the deploy comes before anybody has looked
    life.deploy({"f": [cron("*/20 * * * *", name="hourly", catch_up="all")]})
    await life.until(lambda: "*/20" in life.registry.find("hourly").spec.settings)
    await life.settled()
    await life.pass_time(HOUR)
    thirds = [NOON + 2 * HOUR + number * 20 * MINUTE for number in (1, 2, 3)]
    assert await life.admitted("hourly") == [*hours(1, 2), *thirds]


@pytest.mark.parametrize("turns", range(0, 30, 3))
async def test_a_change_in_the_middle_of_a_tick_neither_loses_nor_doubles_it(
    live: Lives, clock: DrivenClock, turns: int
) -> None:
    life = await live(HOURLY)
    life.catalog.hanging["f"] = asyncio.Event()
    clock.advance(HOUR)
    record = life.registry.find("hourly")
    await life.until(lambda: life.schedules.busy(record))
    life.deploy({"f": [cron("*/30 * * * *", name="hourly")]})
    changing = asyncio.ensure_future(life.change("hourly", parameters={"n": 1}))
    for _ in range(turns):
        await asyncio.sleep(0)
    life.catalog.hanging["f"].set()
    await changing
    await life.settled()
    await life.pass_time(30 * MINUTE)
    assert await life.ticks("hourly") == Counter([NOON + HOUR, NOON + HOUR + 30 * MINUTE])


async def test_what_was_written_just_before_a_deploy_is_known_after_it(live: Lives, clock: DrivenClock) -> None:
    """Its writer has not heard of it yet: what it was told would come too late."""
    life = await live(HOURLY)
    record = life.registry.find("hourly")
    state = TriggerState(str(NOON + 5 * HOUR), NOON + 6 * HOUR)
    await life.store.store.write(lambda done: FireTrigger(record.id, record.generation, state, done))
    life.deploy({"f": [cron("@hourly", name="hourly", catch_up="all", parameters={"n": 1})]})
    await life.until(lambda: "n" in record.spec.parameters and not life.registry._tasks)
    assert record.state.cursor == str(NOON + 5 * HOUR)


async def test_what_people_changed_and_the_code_contradicts_by_now_gives_way(live: Lives) -> None:
    life = await live(HOURLY)
    await life.change("hourly", settings={"start": "2027-02-01T00:00:00"})
    declared = [cron("@hourly", name="hourly", end="2027-01-20T00:00:00"), cron("@hourly", name="beside")]
    life.deploy({"f": declared})
    await life.registered("hourly", "beside")
    await life.pass_time(HOUR)
    assert await life.admitted("hourly") == await life.admitted("beside") == hours(1, 1)


async def test_one_that_leaves_the_code_is_silent_and_comes_back_without_a_backlog(
    live: Lives, clock: DrivenClock
) -> None:
    life = await live(HOURLY)
    await life.pass_time(HOUR)
    life.deploy({})
    record = life.registry.find("hourly")
    await life.until(lambda: record.removed_at is not None)
    shown = life.control.get("hourly")
    assert (shown["health"], shown["next_due"]) == ("orphaned", None)
    clock.advance(3 * HOUR)
    with pytest.raises(UsageError, match="left the code"):
        await life.change("hourly", enabled=True)
    life.deploy(HOURLY)
    await life.until(lambda: record.removed_at is None)
    await life.pass_time(HOUR)
    assert await life.admitted("hourly") == [*hours(1, 1), *hours(5, 5)]
    assert len(await life.history("hourly")) == 2


async def test_a_file_that_does_not_load_orphans_no_schedule(live: Lives) -> None:
    life = await live(HOURLY | {"g": [cron("@hourly", name="other")]})
    life.deploy({"g": [cron("@hourly", name="other")]}, complete=False)
    await life.pass_time(HOUR)
    assert await life.admitted("hourly") == await life.admitted("other") == hours(1, 1)


# --- rule 10, single times, many schedules -----------------------------------------------------------


async def test_manual_runs_do_not_disturb_a_schedule(live: Lives) -> None:
    """An interval counts from its last scheduled start, whatever people start in between."""
    life = await live({"f": [interval("1h", name="each")]})
    for _ in range(5):
        await life.pass_time(25 * MINUTE)
        await life.ask("f")
    assert await life.admitted("each") == hours(1, 2)
    record = life.registry.find("each")
    assert record.state.next_due == NOON + 3 * HOUR


async def test_a_time_that_has_passed_when_it_is_declared_is_missed_and_another_runs_once(
    live: Lives, clock: DrivenClock
) -> None:
    moments = {name: datetime.fromtimestamp((NOON + by) / 1e6, UTC) for name, by in (("past", -1), ("soon", HOUR))}
    declared = {"f": [at(moments["past"], name="past"), at(moments["soon"], name="soon")]}
    life = await live(declared)
    await life.pass_time(2 * HOUR)
    life = await live(declared)
    await life.pass_time(2 * HOUR)
    (row,) = await life.ledger("past")
    assert (row["outcome"], "had passed when it was declared" in row["reason"]) == ("missed", True)
    assert await life.admitted("past") == []
    assert await life.ticks("soon") == Counter(hours(1, 1))
    assert await life.admitted("soon") == hours(1, 1)
    assert life.control.get("soon")["next_due"] is None


async def test_a_missed_time_can_be_asked_for_again(live: Lives) -> None:
    past = datetime.fromtimestamp((NOON - HOUR) / 1e6, UTC)
    life = await live({"f": [at(past, name="past")]})
    assert await life.admitted("past") == []
    await life.change("past", cursor=rfc3339(NOON - 2 * HOUR))
    await life.settled()
    assert await life.admitted("past") == [NOON - HOUR]


async def test_a_schedule_whose_flow_does_not_answer_delays_no_other(live: Lives, clock: DrivenClock) -> None:
    life = await live(HOURLY | {"g": [cron("@hourly", name="other")]})
    life.catalog.hanging["f"] = asyncio.Event()
    other = life.registry.find("other")
    for hour in (1, 2, 3):
        clock.advance(HOUR)
        await life.until(lambda: life.done(other))
        assert await life.admitted("other") == hours(1, hour)
    assert await life.admitted("hourly") == []
    life.catalog.hanging["f"].set()
    await life.settled()
    assert await life.ticks("hourly") == Counter(hours(1, 3))


async def test_a_schedule_that_cannot_be_read_stops_no_other(
    live: Lives, clock: DrivenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = await live(HOURLY | {"g": [cron("@hourly", name="other")]})
    broken, true = life.registry.find("hourly"), life.schedules.schedule

    def schedule(record: Any) -> Schedule:
        if record is broken:
            raise KeyError("expression")
        return true(record)

    monkeypatch.setattr(life.schedules, "schedule", schedule)
    clock.advance(HOUR)
    await life.until(lambda: life.done(life.registry.find("other")))
    assert await life.admitted("other") == hours(1, 1)
    monkeypatch.undo()
    clock.advance(MINUTE)
    monkeypatch.setattr(schedules, "LOOK", 0.001)
    await life.until(lambda: life.done(broken))
    assert await life.admitted("hourly") == hours(1, 1), "it is tried again"
