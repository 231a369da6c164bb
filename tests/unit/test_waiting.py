"""How much is left of a wait that was recorded, perhaps by an earlier worker and under another clock."""

from __future__ import annotations

from pullcord.worker.moment import now
from pullcord.worker.waiting import rest_of

HOUR = 3600


def test_what_has_passed_is_not_waited_for_again() -> None:
    assert 0 < rest_of(now() + 10_000_000, 3600.0) <= 10
    assert rest_of(now() - 10_000_000, 60.0) == 0


def test_a_clock_that_went_back_does_not_make_a_wait_longer() -> None:
    assert rest_of(now() + 5 * HOUR * 1_000_000, 60.0) == 60.0
