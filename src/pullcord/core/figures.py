"""Rules of figures about runs: windows, the periods of a chart, percentiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final

from pullcord.core.durations import seconds
from pullcord.core.errors import UsageError

SECOND: Final = 1_000_000
HOUR: Final = 3600 * SECOND
DAY: Final = 24 * HOUR

WINDOWS: Final = ("24h", "7d", "30d")
"""The windows that are shown unless others are asked for."""

MOST_WINDOWS: Final = 5
"""So many at once."""

LONGEST: Final = 366 * DAY
"""A window is not longer, microseconds; a chart of it has 367 periods."""

MEDIAN: Final = Fraction(1, 2)
P95: Final = Fraction(95, 100)


@dataclass(frozen=True, slots=True)
class Window:
    """A time that ends now.

    Attributes:
        name: as it was asked for, such as `7d`.
        length: microseconds.
    """

    name: str
    length: int

    @property
    def period(self) -> int:
        """The length of a chart's periods, microseconds: hours up to two days, days above."""
        return HOUR if self.length <= 2 * DAY else DAY


def windows_of(text: str | None) -> list[Window]:
    """Return windows from a list with commas, `WINDOWS` for None.

    Raises:
        UsageError: one is no duration between a minute and 366 days, or there are more than `MOST_WINDOWS`.
    """
    names = list(WINDOWS) if text is None else [name.strip() for name in text.split(",")]
    if len(names) > MOST_WINDOWS:
        raise UsageError(f"{len(names)} windows are too many; ask for {MOST_WINDOWS} at most")
    return [_window(name) for name in dict.fromkeys(names)]


def _window(name: str) -> Window:
    length = round(seconds(name) * SECOND)
    if not 60 * SECOND <= length <= LONGEST:
        raise UsageError(f"the window {name!r} is out of range: 1m to 366d")
    return Window(name, length)


def periods(since: int, until: int, period: int) -> list[int]:
    """Return where the periods of a chart begin, times in microseconds.

    The first begins at `since`, the others at whole hours or days of UTC.
    """
    first = since - since % period + period
    return [since, *range(first, until + 1, period)]


def percentile(ordered: Sequence[int], share: Fraction) -> int | None:
    """Return the smallest value that at least this share of all values does not exceed (the nearest rank).

    Args:
        ordered: the values, smallest first; None is returned when there are none.
        share: above 0, at most 1; a fraction, for 0.95 as a float is a little less than it says.
    """
    return ordered[ceil(share * len(ordered)) - 1] if ordered else None
