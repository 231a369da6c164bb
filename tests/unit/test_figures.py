"""Windows, the periods of a chart, percentiles."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullcord.cli.stats import bar, durations, outcomes, share
from pullcord.core.errors import UsageError
from pullcord.core.figures import DAY, HOUR, LONGEST, MEDIAN, P95, percentile, periods, windows_of

SHARES = st.fractions(Fraction(1, 1000), 1)


@given(st.lists(st.integers()), SHARES)
def test_a_percentile_is_the_smallest_value_that_the_share_does_not_exceed(values: list[int], share: Fraction) -> None:
    found = percentile(sorted(values), share)
    if not values:
        assert found is None
        return
    enough = [value for value in values if sum(other <= value for other in values) >= share * len(values)]
    assert found == min(enough)


def test_percentiles_of_a_few_runs() -> None:
    assert percentile([7], MEDIAN) == percentile([7], P95) == 7
    assert percentile([1, 2], MEDIAN) == 1
    assert percentile(list(range(1, 21)), P95) == 19
    assert percentile(list(range(1, 101)), P95) == 95


@given(st.integers(0, 2**51), st.integers(1, LONGEST), st.sampled_from([HOUR, DAY]))
def test_periods_cover_a_window_and_begin_at_whole_hours_or_days(since: int, length: int, period: int) -> None:
    starts = periods(since, since + length, period)
    assert starts[0] == since
    assert starts == sorted(set(starts))
    assert all(start % period == 0 for start in starts[1:])
    assert all(later - earlier <= period for earlier, later in itertools.pairwise(starts))
    assert starts[-1] <= since + length < starts[-1] + period


def test_windows() -> None:
    assert [(window.name, window.length, window.period) for window in windows_of(None)] == [
        ("24h", DAY, HOUR),
        ("7d", 7 * DAY, DAY),
        ("30d", 30 * DAY, DAY),
    ]
    assert [window.length for window in windows_of("1h, 1h,2d")] == [HOUR, 2 * DAY]
    assert len(periods(0, LONGEST, windows_of("366d")[0].period)) == 367


@pytest.mark.parametrize("text", ["", "7x", "1d,", "59s", "367d", "nan", "inf", "-1d", "1m,2m,3m,4m,5m,6m"])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        windows_of(text)


def test_rates_are_never_rounded_to_all_or_nothing() -> None:
    assert [share(rate) for rate in (None, 0.0, 1.0, 0.00001, 0.99999, 0.5)] == [
        "", "0%", "100%", "0.1%", "99.9%", "50.0%",
    ]  # fmt: skip


def test_bars() -> None:
    assert [bar(value, 8) for value in (0, 0.1, 4, 8)] == ["·", "▁", "▅", "█"]
    assert bar(0, 0) == "·"
    period = {"succeeded": 1, "failed": 0, "cancelled": 0, "median": 2.0}
    series = [period] * 30 + [period | {"failed": 3, "median": None}] * 31
    words = outcomes(series)
    assert len(words.plain) <= 40
    assert {str(span.style) for span in words.spans} == {"green", "red"}
    assert set(durations(series).plain) == {"█", "·"}
    assert durations([]).plain == outcomes([]).plain == ""
