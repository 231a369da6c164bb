"""Durations as people write them: `"90s"`, `"5m"`, `"1h30m"`, a number of seconds, a timedelta."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from pullcord.core.errors import UsageError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_LONGEST = 100 * 365 * 86400.0

Duration = str | int | float | timedelta
"""What every duration argument takes; plain numbers are seconds."""


def seconds(value: Duration) -> float:
    """Return a duration in seconds.

    Raises:
        UsageError: it is not a duration, is negative, or is longer than a hundred years.
    """
    if isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, str):
        result = _parse(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        result = float(value) if abs(value) <= _LONGEST else math.inf
    else:
        raise UsageError(f"a duration is a text like '5m', seconds or a timedelta, not {type(value).__name__}")
    if not math.isfinite(result) or not 0 <= result <= _LONGEST:
        raise UsageError(f"the duration {value!r} is out of range: 0 s to 100 years")
    return result


def _parse(text: str) -> float:
    compact = text.strip().lower()
    try:
        return float(compact)
    except ValueError:
        pass
    parts = _PART.findall(compact)
    if not parts or _PART.sub("", compact).strip():
        raise UsageError(f"{text!r} is not a duration; write it like '500ms', '30s', '5m' or '1h30m'")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def span(seconds: float) -> str:
    """Return a distance that somebody chose, exactly: `5 s`, `1 h 30 min`, `50 ms`."""
    if seconds < 1:
        return f"{seconds * 1000:g} ms"
    parts, rest = [], seconds
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count:g} {unit}")
    return " ".join([*parts, *([f"{rest:g} s"] if rest else [])])
