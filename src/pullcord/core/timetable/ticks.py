"""The ticks of a schedule on the line of time: which one is next, how many there are, which are the newest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from pullcord.core.timetable.expression import Expression, expression
from pullcord.core.timetable.zone import Zone, zone

SECOND: Final = 1_000_000
EARLIEST: Final = -2_208_988_800 * SECOND
"""1900; no schedule has ticks before."""
LATEST: Final = 221_845_392_000 * SECOND
"""The year 9000; no schedule has ticks later."""
_HORIZON: Final = 50 * 366 * 86_400
"""So far a slot is looked for that clocks show, in seconds (50 years): all may be in hours that they leave out."""


class Ticks(ABC):
    """Times in microseconds since 1970 UTC.

    Args:
        start: no tick is earlier.
        end: no tick is later.
    """

    __slots__ = ("_end", "_start")

    def __init__(self, start: int | None = None, end: int | None = None) -> None:
        self._start = EARLIEST if start is None else start
        self._end = LATEST if end is None else end

    def next_after(self, at: int) -> int | None:
        """Return the first tick after a time; None if there is none (of a cron expression, within 50 years)."""
        found = self._following(max(at, self._start - 1))
        return None if found is None or found > self._end else found

    def count(self, after: int, until: int) -> int:
        """Return how many ticks there are after a time and until another, that one included."""
        after, until = max(after, self._start - 1), min(until, self._end)
        return self._count(after, until) if after < until else 0

    def between(self, after: int, until: int) -> Iterator[int]:
        """Go through the ticks after a time and until another."""
        tick = self.next_after(after)
        while tick is not None and tick <= until:
            yield tick
            tick = self.next_after(tick)

    def newest(self, after: int, until: int, limit: int) -> list[int]:
        """Return the newest ticks of a time, at most `limit`, in order.

        The effort depends on `limit`, not on how many there are.
        """
        if limit < 1 or after >= until:
            return []
        if self.count(after, until) > limit:
            width = SECOND
            while self.count(until - width, until) < limit:
                width *= 2
            low, high = width // 2, width  # the narrowest width that holds enough, to a second
            while high - low > SECOND:
                middle = (low + high) // 2
                if self.count(until - middle, until) < limit:
                    low = middle
                else:
                    high = middle
            after = max(after, until - high)
        return list(deque(self.between(after, until), maxlen=limit))

    @abstractmethod
    def _following(self, at: int) -> int | None: ...

    @abstractmethod
    def _count(self, after: int, until: int) -> int: ...


class CronTicks(Ticks):
    """What a cron expression means in a time zone.

    A fixed time of day that the clocks leave out happens once, at the first moment after the gap; one that they show
    twice happens once, the first time. Slots (a star in second, minute or hour) happen whenever the clocks show them.
    """

    __slots__ = ("_expression", "_zone")

    def __init__(self, meaning: Expression, place: Zone, start: int | None, end: int | None) -> None:
        super().__init__(start, end)
        self._expression = meaning
        self._zone = place

    def _following(self, at: int) -> int | None:
        if at >= LATEST:
            return None
        second = max(at, EARLIEST) // SECOND
        found = self._fixed(second) if self._expression.fixed else self._slot(second)
        return None if found is None else found * SECOND

    def _fixed(self, second: int) -> int | None:
        stretch = self._zone.stretch(second)
        # What the clocks show for the second time is over.
        seen = max(second + stretch.offset + 1, stretch.start + stretch.before)
        local = self._expression.following(seen)
        return None if local is None else self._zone.landing(local)[0]

    def _slot(self, second: int) -> int | None:
        start = second + 1
        while start - second < _HORIZON:
            stretch = self._zone.stretch(start)
            local = self._expression.following(start + stretch.offset)
            if local is None:
                return None
            if local - stretch.offset < stretch.end:
                return local - stretch.offset
            start = stretch.end
        return None

    def _count(self, after: int, until: int) -> int:
        first, last = after // SECOND + 1, until // SECOND + 1
        total = 0
        while first < last:
            stretch = self._zone.stretch(first)
            end = min(stretch.end, last)
            begin, shown = first + stretch.offset, end + stretch.offset
            if self._expression.fixed:
                opening = stretch.start + stretch.offset
                before = stretch.start + stretch.before
                if first == stretch.start and before < opening and self._expression.count(before, opening):
                    # What the clocks left out happens at their first second, together with what is named there.
                    total += 1
                    begin += 1
                begin = max(begin, before)
            total += self._expression.count(begin, shown)
            first = end
        return total


class GridTicks(Ticks):
    """Ticks at equal distances of real time.

    Args:
        first: the first one.
        every: the distance, in microseconds.
        end: no tick is later.
    """

    __slots__ = ("_every",)

    def __init__(self, first: int, every: int, end: int | None) -> None:
        super().__init__(first, end)
        self._every = every

    def _following(self, at: int) -> int | None:
        return at + self._every - (at - self._start) % self._every

    def _count(self, after: int, until: int) -> int:
        return (until - self._start) // self._every - (after - self._start) // self._every


class OneTick(Ticks):
    """A single tick."""

    __slots__ = ("_at",)

    def __init__(self, at: int, start: int | None, end: int | None) -> None:
        super().__init__(start, end)
        self._at = at

    def _following(self, at: int) -> int | None:
        return self._at if self._at > at else None

    def _count(self, after: int, until: int) -> int:
        return int(after < self._at <= until)


@lru_cache(maxsize=1 << 14)
def cron_ticks(text: str, tz: str, start: int | None, end: int | None) -> CronTicks:
    """Return the ticks of a cron expression; schedules that say the same share them."""
    return CronTicks(expression(text), zone(tz), start, end)
