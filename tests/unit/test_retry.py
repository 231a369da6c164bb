"""The back-off rule: pauses never shrink, never pass their bounds, and settings that cannot work are refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pullcord.core.errors import DefinitionError
from pullcord.core.retry import NO_RETRY, Retry, retry_of

delays = st.floats(0, 1e6)
backoffs = st.floats(1, allow_nan=False)
failures = st.integers(1, 1001)
spreads = st.floats(0, 1, exclude_max=True)


def made(**settings: Any) -> Retry:
    """Make a rule, or reject the example where the settings are refused."""
    try:
        return Retry(**settings)
    except DefinitionError:
        assume(False)
        raise


@given(delays, backoffs, delays, st.integers(1, 1000))
def test_without_jitter_a_later_pause_is_never_shorter(
    delay: float, backoff: float, longest: float, number: int
) -> None:
    rule = made(limit=5, delay=delay, backoff=backoff, max_delay=longest, jitter=False)
    assert rule.pause(number, 0.5) <= rule.pause(number + 1, 0.5)


@given(delays, backoffs, delays, failures, spreads, st.booleans())
def test_every_pause_is_finite_and_within_its_bounds(
    delay: float, backoff: float, longest: float, number: int, spread: float, jitter: bool
) -> None:
    rule = made(delay=delay, backoff=backoff, max_delay=longest, jitter=jitter)
    pause = rule.pause(number, spread)
    assert math.isfinite(pause)
    assert 0 <= pause <= longest


@given(delays, backoffs, delays, failures, spreads)
def test_jitter_spreads_over_the_upper_half(
    delay: float, backoff: float, longest: float, number: int, spread: float
) -> None:
    plain = made(delay=delay, backoff=backoff, max_delay=longest, jitter=False).pause(number, spread)
    spreading = made(delay=delay, backoff=backoff, max_delay=longest, jitter=True).pause(number, spread)
    assert plain / 2 <= spreading <= plain


@given(backoffs, failures)
def test_no_delay_means_no_pause_however_often_it_fails(backoff: float, number: int) -> None:
    assert made(delay=0, backoff=backoff, jitter=False).pause(number, 0.0) == 0


def test_the_pauses_grow_by_the_factor_up_to_the_longest() -> None:
    rule = Retry(limit=5, delay="10s", backoff=3, max_delay="2m", jitter=False)
    assert [rule.pause(number, 0) for number in (1, 2, 3, 4)] == [10, 30, 90, 120]


@pytest.mark.parametrize(
    "settings",
    [
        {"limit": -1},
        {"limit": 1001},
        {"limit": True},
        {"limit": 2.0},
        {"backoff": 0.5},
        {"backoff": math.nan},
        {"delay": "-1s"},
        {"delay": "soon"},
        {"max_delay": "soon"},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        Retry(**settings)


def test_what_a_decorator_takes() -> None:
    rule = Retry(limit=7)
    assert retry_of(None) == NO_RETRY
    assert retry_of(None).limit == 0
    assert retry_of(4) == Retry(limit=4)
    assert retry_of(rule) is rule


def test_the_settings_survive_the_manifest() -> None:
    rule = Retry(limit=2, delay="3s", backoff=1.5, jitter=False, max_delay="1m")
    assert Retry(**rule.as_json()) == rule
