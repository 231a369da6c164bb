"""How long a trigger that could not do its work is left alone."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 600.0
"""Seconds. An event that is polled less often than so keeps to its own cadence."""


def after_errors(every: float, errors: int, retry_after: float | None) -> float:
    """Return the seconds until a failing event is polled again: twice as long after each failure.

    Args:
        every: its cadence, in seconds.
        errors: how many polls have failed in a row, at least 1.
        retry_after: what the other side asked for, in seconds.
    """
    pause = max(every, min(LONGEST, max(every, 1.0) * 2.0 ** min(errors - 1, 30)))
    return max(pause, retry_after or 0.0)


def after_refusals(every: float, refusals: int) -> float:
    """Return the seconds until what passes by itself, such as code that is just loading, is tried again."""
    return max(every, min(60.0, 2.0 ** min(refusals - 1, 30)))
