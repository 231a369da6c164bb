"""What Retry-After asks for, in seconds and as a date."""

from __future__ import annotations

import pytest

from pullcord.core.retry_after import retry_after

NOW = 1_792_000_000_000_000  # 2026-10-14 17:46:40 UTC


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9" * 30, 86_400.0 * 365),
        ("Wed, 14 Oct 2026 17:48:40 GMT", 120.0),
        ("Wed, 14 Oct 2026 17:00:00 GMT", 0.0),
        ("", None),
        ("-1", None),
        ("soon", None),
        ("Wed, 14 Oct 2026 25:00:00 GMT", None),
        ("Mon, 99 Foo 2020", None),
        ("Wed, 21 Oct 2015 07:28:00 -0000", None),
    ],
)
def test_seconds_and_dates(text: str | None, seconds: float | None) -> None:
    assert retry_after(text, NOW) == seconds
