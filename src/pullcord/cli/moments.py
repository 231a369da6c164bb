"""Times on the command line: written out, or as a duration ago or from now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pullcord.core.durations import seconds
from pullcord.core.errors import UsageError


def moment(text: str | None) -> str | None:
    """Return a time, RFC 3339 UTC; a duration is that long ago.

    Raises:
        UsageError: it is neither, or is beyond the calendar.
    """
    return None if text is None else _read(text, -1)


def ahead(text: str | None) -> str | None:
    """Return a time to come, RFC 3339 UTC; a duration is that long from now.

    Raises:
        UsageError: it is neither, or is beyond the calendar.
    """
    return None if text is None else _read(text, 1)


def _read(text: str, direction: int) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return (datetime.now(UTC) + direction * timedelta(seconds=_length(text))).isoformat()
    try:
        return at.astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        # Near the ends of the calendar a moment may lie outside of it in UTC.
        raise UsageError(f"the time {text!r} is beyond the calendar; write one from 0002 to 9998") from None


def _length(text: str) -> float:
    try:
        return seconds(text)
    except UsageError:
        raise UsageError(
            f"{text[:60]!r} is neither a time nor a duration of at most 100 years; write a time like "
            "2026-12-24T18:00:00Z or 2026-12-24, or a duration like 30s, 2h or 7d"
        ) from None
