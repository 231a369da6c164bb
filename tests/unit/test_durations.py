"""Durations: what people write becomes seconds, and nonsense is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullcord.core.durations import seconds
from pullcord.core.errors import UsageError

CENTURY = 100 * 365 * 86400


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("500ms", 0.5),
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        (" 2 D ", 172800.0),
        ("1w", 604800.0),
        ("1.5h", 5400.0),
        ("90", 90.0),
        ("1e3", 1000.0),
        (0, 0.0),
        (2.5, 2.5),
        (timedelta(minutes=2, milliseconds=1), 120.001),
        (CENTURY, float(CENTURY)),
    ],
)
def test_what_people_write(written: Any, meant: float) -> None:
    assert seconds(written) == pytest.approx(meant)


@pytest.mark.parametrize(
    "written",
    ["", "soon", "5 minutes", "m5", "5m!", "1h,30m", ".5s.", "5mm", "--5s", None, True, b"5m", [5], {"s": 5}],
)
def test_what_is_no_duration_is_refused(written: Any) -> None:
    with pytest.raises(UsageError):
        seconds(written)


@pytest.mark.parametrize(
    "written",
    [-1, -0.001, "-5m", float("nan"), float("inf"), "nan", "inf", "1e400", CENTURY + 1, "5300w", 10**400,
     timedelta(seconds=-1), timedelta.max],
    ids=lambda written: str(written)[:12],
)  # fmt: skip
def test_what_is_out_of_range_is_refused(written: Any) -> None:
    with pytest.raises(UsageError):
        seconds(written)


@given(hours=st.integers(0, 500), minutes=st.integers(0, 500), whole=st.integers(0, 500), milli=st.integers(0, 5000))
def test_parts_add_up(hours: int, minutes: int, whole: int, milli: int) -> None:
    text = f"{hours}h{minutes}m{whole}s{milli}ms"
    assert seconds(text) == pytest.approx(hours * 3600 + minutes * 60 + whole + milli / 1000)


@given(st.floats(0, CENTURY))
def test_a_number_a_text_and_a_timedelta_agree(value: float) -> None:
    assert seconds(value) == value
    assert seconds(repr(value)) == value
    assert seconds(timedelta(seconds=value)) == pytest.approx(value, abs=1e-6)
