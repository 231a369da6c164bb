"""The one clock: everything that asks for the time asks here, so that tests can drive it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> int:
        """Return microseconds since 1970 UTC."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """Return microseconds since 1970 UTC."""
        return time.time_ns() // 1000


def rfc3339(at: int | None) -> str | None:
    """Write microseconds since 1970 as an RFC 3339 UTC time, or None as None."""
    if at is None:
        return None
    whole, micro = divmod(at, 1_000_000)
    return f"{_second(whole)}.{micro:06d}Z"


@lru_cache(maxsize=1024)
def _second(whole: int) -> str:
    """Write a second; lists show many times within the same few."""
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def microseconds(moment: datetime) -> int:
    """Return an aware datetime as microseconds since 1970 UTC, exactly."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
