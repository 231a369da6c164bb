"""Schedules as they are declared: what is refused, what a preview says, and settings that rebuild them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pullcord as pc
from pullcord.clock import microseconds
from pullcord.core.canonical import canonical_json, parse_json
from pullcord.core.errors import DefinitionError, PullcordError, UsageError
from pullcord.core.timetable import Schedule, schedule_of
from pullcord.core.timetable.blackout import blackout
from pullcord.core.timetable.expression import expression
from pullcord.core.timetable.zone import zone

AFTER = datetime(2026, 3, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 0 30 2 *", "never comes"),
        ("0 0 30 2 *", "write L"),
        ("0 0 31 4,6,9,11 *", "never comes"),
        ("0 12 0 0 31 feb *", "has 7 fields"),
        ("0 0 0 31 feb *", "never comes"),
        ("@reboot", "has no time"),
        ("@fortnightly", "@weekly"),
        ("H * * * *", "jitter="),
        ("H/15 * * * *", "jitter="),
        ("0 0 ? * MON", "write \\* for any day"),
        ("61 * * * *", "the minute '61' cannot be; it takes 0 to 59"),
        ("0 24 * * *", "the hour '24'"),
        ("0 0 * 13 *", "the month '13'"),
        ("0 0 * * 8", "the day-of-week '8'"),
        ("0 0 1W * *", "the day-of-month '1W'"),
        ("60 * * * * *", "the second '60'"),
        ("*/0 * * * *", "the minute"),
        ("5-1 * * * *", "the minute"),
        ("* * * *", "has 4 fields"),
        ("", "has 0 fields"),
        ("1," * 600 + "1 * * * *", "at most 1000 characters"),
        (None, "is a text like"),
        (5, "is a text like"),
    ],
)
def test_an_expression_that_cannot_be_is_refused(text: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        pc.cron(text)


@given(st.text(alphabet="0123456789*/-,#LWHh? @dailyMON\t", max_size=30) | st.text(max_size=20))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        schedule = pc.cron(text)
    except DefinitionError:
        return
    (fire,) = schedule.upcoming(1, AFTER)
    assert fire > AFTER


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tz": "Europe/Berlim"}, "'Europe/Berlin'"),
        ({"tz": ["UTC"]}, "options"),
        ({"catch_up": "newest"}, "'skip', 'latest' or 'all'"),
        ({"max_catch_up": 0}, "1 to 10000"),
        ({"max_catch_up": True}, "1 to 10000"),
        ({"misfire_grace": "soon"}, "misfire_grace: 'soon' is not a duration"),
        ({"misfire_grace": None}, "misfire_grace"),
        ({"jitter": "25h"}, "at most a day"),
        ({"jitter": -1}, "jitter"),
        ({"blackout": "2026-12-25"}, "is a list"),
        ({"blackout": ["25.12."]}, "write a date '2026-12-25'"),
        ({"blackout": ["2026-02-30"]}, "no such date"),
        ({"blackout": ["02-30"]}, "no such date"),
        ({"blackout": ["2026-12-25/12-26"]}, "write a date"),
        ({"blackout": ["2026-12-25/2026-12-24"]}, "ends before it begins"),
        ({"blackout": [5]}, "write a date"),
        ({"blackout": [f"2026-01-{day:02}" for day in range(1, 32)] * 12}, "at most 366"),
        ({"start": "tomorrow"}, "write it like"),
        ({"start": 5}, "a time is an ISO text"),
        ({"start": "2026-05-02", "end": "2026-05-01"}, "before it starts"),
        ({"end": "9999-01-01"}, "out of range"),
        ({"enabled": "yes"}, "True or False"),
        ({"name": "a b"}, "no trigger name"),
        ({"parameters": {"day": {1}}}, "must be JSON"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    for make in (lambda: pc.cron("@daily", **options), lambda: pc.interval("1h", **options)):
        with pytest.raises(DefinitionError, match=said):
            make()
    with pytest.raises(DefinitionError, match=said):
        pc.at("2026-01-01", **options)


@pytest.mark.parametrize("every", ["99ms", 0, "soon", None, True])
def test_an_interval_that_cannot_be_is_refused(every: Any) -> None:
    with pytest.raises(DefinitionError, match=r"every|at least 100 ms"):
        pc.interval(every)
    assert pc.interval("100ms").every == 100_000


@pytest.mark.parametrize("when", ["soon", "", None, date(2026, 1, 1), "1066-10-14"])
def test_a_time_that_cannot_be_is_refused(when: Any) -> None:
    with pytest.raises(DefinitionError, match=r"time|out of range"):
        pc.at(when)


DECLARED = [
    pc.cron("30 2 * * *"),
    pc.cron("@daily", tz="Asia/Kathmandu", catch_up="all", max_catch_up=7, misfire_grace="1m", jitter="90s"),
    pc.cron("0 */2 * * *", blackout=["12-25", date(2026, 5, 1)], start="2026-01-01", end=datetime(2027, 1, 1)),
    pc.interval("90m", tz="Europe/Berlin", start="2026-03-29T01:00"),
    pc.interval(0.25, catch_up="skip"),
    pc.at("2026-12-24T18:00", tz="Europe/Berlin"),
    pc.at(datetime(2026, 12, 24, 18, tzinfo=ZoneInfo("Asia/Tokyo"))),
]


@pytest.mark.parametrize("schedule", DECLARED, ids=repr)
def test_settings_rebuild_a_schedule(schedule: Schedule) -> None:
    again = schedule_of(schedule.kind, parse_json(canonical_json(schedule.settings())))
    assert type(again) is type(schedule)
    assert again.settings() == schedule.settings()
    assert again.preview(20, AFTER, "x") == schedule.preview(20, AFTER, "x")


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("event", {}, "no kind of schedule"),
        ("cron", {}, "at least 'expression'"),
        ("interval", {"expression": "@daily"}, "at least 'every'"),
        ("at", [], "at least 'when'"),
        ("cron", {"expression": "@daily", "timezone": "UTC"}, "has no setting 'timezone'"),
        ("cron", {"expression": "@daily", "enabled": False}, "has no setting 'enabled'"),
        ("cron", {"expression": "@sometimes"}, "@weekly"),
        ("cron", {"expression": "@daily", "blackout": None}, "is a list"),
        ("cron", {"expression": ["@daily"]}, "is a text like"),
        ("interval", {"every": "1h", "tz": {}}, "options"),
    ],
)
def test_settings_that_cannot_be_are_refused(kind: str, settings: Any, said: str) -> None:
    with pytest.raises(PullcordError, match=said):
        schedule_of(kind, settings)


def test_what_is_read_once_is_not_changed_by_who_has_it() -> None:
    pc.cron("@daily").settings()["blackout"].append("12-25")
    pc.cron("@daily").settings()["tz"] = "Europe/Berlin"
    assert pc.cron("@daily").settings()["blackout"] == []
    assert pc.cron("@daily").settings()["tz"] == "UTC"


def test_a_flow_takes_schedules() -> None:
    nightly = pc.cron("30 2 * * *", tz="Europe/Berlin", name="nightly", parameters={"full": True}, enabled=False)

    @pc.flow(triggers=[nightly, pc.interval("1h"), pc.at("2026-12-24T18:00")])
    def report(full: bool = False) -> None: ...

    assert [each.kind for each in report.triggers] == ["cron", "interval", "at"]
    assert (nightly.name, nightly.parameters, nightly.enabled) == ("nightly", {"full": True}, False)


def notes(schedule: Schedule, n: int, after: datetime) -> list[tuple[str, bool, tuple[str, ...]]]:
    """Return what a preview shows."""
    return [(tick.local, tick.fires, tick.notes) for tick in schedule.preview(n, after)]


def test_a_preview_says_what_clocks_do() -> None:
    spring, autumn = AFTER, datetime(2026, 10, 24, 12, tzinfo=UTC)
    fixed, slots = (pc.cron(text, tz="Europe/Berlin") for text in ("30 2 * * *", "*/30 2-3 * * *"))
    assert notes(fixed, 2, spring) == [
        ("2026-03-29 03:00:00+02:00", True, ("02:30 does not exist on this day, fires at 03:00",)),
        ("2026-03-30 02:30:00+02:00", True, ()),
    ]
    assert notes(fixed, 2, autumn) == [
        ("2026-10-25 02:30:00+02:00", True, ("02:30 happens twice, fires once, the first time",)),
        ("2026-10-26 02:30:00+01:00", True, ()),
    ]
    assert notes(slots, 2, spring) == [
        ("2026-03-29 03:00:00+02:00", True, ("02:00 does not exist on this day",)),
        ("2026-03-29 03:30:00+02:00", True, ()),
    ]
    assert notes(slots, 5, autumn) == [
        ("2026-10-25 02:00:00+02:00", True, ("02:00 happens twice, fires both times; this is the first",)),
        ("2026-10-25 02:30:00+02:00", True, ("02:30 happens twice, fires both times; this is the first",)),
        ("2026-10-25 02:00:00+01:00", True, ("02:00 happens twice, fires both times; this is the second",)),
        ("2026-10-25 02:30:00+01:00", True, ("02:30 happens twice, fires both times; this is the second",)),
        ("2026-10-25 03:00:00+01:00", True, ()),
    ]
    assert notes(pc.at("2026-03-29T02:15", tz="Europe/Berlin"), 1, spring) == [
        ("2026-03-29 03:00:00+02:00", True, ("02:15 does not exist on this day, fires at 03:00",))
    ]
    assert notes(pc.cron("0 12 * * *", tz="Pacific/Apia"), 2, datetime(2011, 12, 30, tzinfo=UTC)) == [
        ("2011-12-31 00:00:00+14:00", True, ("the day before does not exist, fires at 00:00",)),
        ("2011-12-31 12:00:00+14:00", True, ()),
    ]


def test_a_preview_shows_what_a_blackout_leaves_out_without_counting_it() -> None:
    schedule = pc.cron("0 */12 * * *", tz="Europe/Berlin", blackout=["12-24/12-26"])
    after = datetime(2026, 12, 23, 12, tzinfo=UTC)
    assert notes(schedule, 2, after) == [
        ("2026-12-24 00:00:00+01:00", False, ("left out: blackout 24 Dec to 26 Dec (6 ticks)",)),
        ("2026-12-27 00:00:00+01:00", True, ()),
        ("2026-12-27 12:00:00+01:00", True, ()),
    ]
    assert [each.day for each in schedule.upcoming(2, after)] == [27, 27]


def test_a_schedule_that_is_always_blacked_out_has_no_upcoming_ticks() -> None:
    schedule = pc.cron("@daily", blackout=["01-01/12-31"])
    assert schedule.upcoming(3, AFTER) == []
    assert 0 < len(schedule.preview(3, AFTER)) < 60


@pytest.mark.parametrize("n", [-1, 10_001, True, 1.5, "3"])
def test_a_number_of_ticks_that_cannot_be_is_refused(n: Any) -> None:
    with pytest.raises(UsageError, match="from 0 to 10000"):
        pc.cron("@daily").upcoming(n)


@pytest.mark.parametrize("after", [datetime(2026, 1, 1), "2026-01-01", 5])
def test_a_time_without_a_zone_is_refused(after: Any) -> None:
    with pytest.raises(UsageError, match="with a time zone"):
        pc.cron("@daily").upcoming(1, after=after)


def test_upcoming_begins_now_unless_told() -> None:
    before = datetime.now(UTC)
    (fire,) = pc.cron("* * * * * *").upcoming(1)
    assert before < fire <= datetime.now(UTC) + timedelta(seconds=1)


def test_no_ticks_are_told_beyond_the_calendar() -> None:
    for schedule in (pc.cron("* * * * *"), pc.interval("1h"), pc.cron("0 0 29 2 *", tz="Europe/Berlin")):
        assert schedule.upcoming(2, after=datetime(9998, 1, 1, tzinfo=UTC)) == []
        assert schedule.next_after(10**18) is None
        assert schedule.next_after(-(10**18)) is not None


@given(
    st.lists(
        st.sampled_from(
            ["2026-03-29", "03-29", "03-28/03-30", "2026-03-31/2026-04-02", "12-31/01-01", "02-29", "02-27/02-29"]
        ),
        max_size=4,
    ),
    st.integers(0, 5 * 366),
    st.integers(0, 800),
)
def test_blackout_parts_agree_with_every_day(items: list[str], first: int, length: int) -> None:
    place, days = zone("Europe/Berlin"), blackout(tuple(items))
    begin = datetime(2023, 1, 1, 12, tzinfo=place.info) + timedelta(days=first)
    after, until = (microseconds(each.astimezone(UTC)) for each in (begin, begin + timedelta(days=length)))
    pieces = list(days.pieces(place, after, until))
    assert [piece.after for piece in pieces[1:]] == [piece.until for piece in pieces[:-1]]
    if length:
        assert (pieces[0].after, pieces[-1].until) == (after, until)
    for day in range(length):
        noon = begin + timedelta(days=day + 1)
        at = microseconds(noon.astimezone(UTC))
        (piece,) = (piece for piece in pieces if piece.after < at <= piece.until)
        assert (piece.reason is not None) == any(_in(item, noon) for item in items)


def _in(item: str, day: datetime) -> bool:
    first, _, last = item.partition("/")
    last = last or first
    if len(first) > 5:
        return first <= f"{day:%Y-%m-%d}" <= last
    shown = f"{day:%m-%d}"
    return first <= shown <= last if first <= last else shown >= first or shown <= last


def test_a_day_whose_midnight_comes_twice_is_left_out_to_its_second_end() -> None:
    """In Sao Paulo the clocks went from midnight back to 23:00 on 18 February 2018."""
    schedule = pc.cron("*/30 * * * *", tz="America/Sao_Paulo", blackout=["2018-02-17"])
    (fire,) = schedule.upcoming(1, after=datetime(2018, 2, 17, 12, tzinfo=UTC))
    assert str(fire) == "2018-02-18 00:00:00-03:00"


def test_schedules_that_say_the_same_share_what_is_read() -> None:
    assert expression("5 5 * * *") is expression("5 5 * * *")
    one, other = (pc.cron("5 5 * * *", tz="Europe/Berlin", blackout=["12-25"], name=name) for name in ("a", "b"))
    assert one.options is other.options
    assert one.ticks(0) is other.ticks(1)


@pytest.mark.parametrize("text", ["0 0 LW * */7", "0 0 */31 * 1#2", "0 0 30 2 */2"])
def test_a_date_that_never_comes_is_refused_however_it_is_written(text: str) -> None:
    with pytest.raises(DefinitionError, match="never comes"):
        pc.cron(text)


@pytest.mark.parametrize(
    "text", ["0 0 28 2 *", "0 0 */28 2 0", "0 0 29 2 *", "0 0 L * */7", "0 0 31 * */7", "0 0 30 2 1"]
)
def test_a_date_that_comes_now_and_then_is_taken(text: str) -> None:
    assert pc.cron(text).upcoming(3, AFTER)


@pytest.mark.parametrize(
    "parameters",
    [
        {"text": "\ud800"},
        {"\ud800": 1},
        {"number": 10**5000},
        {"number": float("nan")},
        {"set": {1}},
        {"list": ["\ud800"]},
    ],
)
def test_parameters_that_are_no_json_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="parameters must be JSON"):
        pc.cron("* * * * *", parameters=parameters)


def test_parameters_of_any_json_are_taken() -> None:
    given = {"none": None, "yes": True, "number": -(2**70), "half": 0.5, "text": "ü", "list": [1, {"two": "zwei"}]}
    assert pc.cron("* * * * *", parameters=given).parameters == given
