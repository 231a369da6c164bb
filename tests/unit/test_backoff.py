"""How long a trigger that could not do its work is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullcord.triggers.backoff import LONGEST, after_errors, after_refusals

CADENCES = st.floats(0.05, 1e6)


@given(CADENCES, st.integers(1, 10_000))
def test_each_failure_doubles_the_pause_up_to_ten_minutes_or_the_cadence(every: float, errors: int) -> None:
    pause = after_errors(every, errors, None)
    assert every <= pause <= max(LONGEST, every)
    assert pause <= after_errors(every, errors + 1, None) <= 2 * pause


@given(CADENCES, st.integers(1, 10_000), st.floats(0, 1e9))
def test_what_the_other_side_asks_for_is_kept_to(every: float, errors: int, asked: float) -> None:
    assert after_errors(every, errors, asked) == max(asked, after_errors(every, errors, None))


@pytest.mark.parametrize(("errors", "pause"), [(1, 1.0), (2, 2.0), (5, 16.0), (11, LONGEST), (10**9, LONGEST)])
def test_a_fast_event_waits_a_second_at_first(errors: int, pause: float) -> None:
    assert after_errors(0.05, errors, None) == pause


@given(CADENCES, st.integers(1, 10_000))
def test_what_passes_by_itself_is_tried_again_within_a_minute_or_the_cadence(every: float, refusals: int) -> None:
    pause = after_refusals(every, refusals)
    assert every <= pause <= max(60.0, every)
    assert pause <= after_refusals(every, refusals + 1)
