"""How long somebody asks to be left alone: the header Retry-After."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from pullcord.clock import microseconds


def retry_after(text: str | None, now: int) -> float | None:
    """Return the seconds that a Retry-After header asks for, or None where there is none that can be read.

    It holds seconds or a date (RFC 9110, 10.2.3).

    Args:
        text: the header's value.
        now: microseconds since 1970 UTC.
    """
    try:
        if text is None or text.strip().isdecimal():
            return None if text is None else min(float(text), 86_400.0 * 365)
        return max(0.0, (microseconds(parsedate_to_datetime(text)) - now) / 1_000_000)
    except (ValueError, TypeError):
        return None
