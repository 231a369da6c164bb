"""Times as people and programs read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from pullcord.clock import SystemClock, microseconds, rfc3339

moments = st.integers(0, 2**53)


@given(moments, moments)
def test_times_sort_as_they_are_written(one: int, other: int) -> None:
    texts = [str(rfc3339(at)) for at in (one, other)]
    assert (texts[0] < texts[1]) == (one < other)
    assert all(text.endswith("Z") and len(text) == 27 for text in texts)


@given(moments, st.integers(-14 * 60, 14 * 60))
def test_a_time_is_read_back_exactly_in_any_zone(at: int, offset: int) -> None:
    moment = datetime.fromisoformat(str(rfc3339(at)))
    assert microseconds(moment) == at
    assert microseconds(moment.astimezone(timezone(timedelta(minutes=offset)))) == at


def test_no_time_is_no_text() -> None:
    assert rfc3339(None) is None
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"


def test_the_machines_clock_counts_microseconds() -> None:
    before = microseconds(datetime.now(UTC))
    assert before <= SystemClock().now() <= microseconds(datetime.now(UTC)) + 1_000
