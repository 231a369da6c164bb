"""The kinds of schedules: cron expressions, intervals, and single times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

from pullcord.core.durations import Duration
from pullcord.core.errors import DefinitionError
from pullcord.core.timetable import clockchange
from pullcord.core.timetable.expression import expression
from pullcord.core.timetable.options import CatchUp, Moment, Options, instant, length, options, text_of
from pullcord.core.timetable.schedule import Schedule
from pullcord.core.timetable.ticks import SECOND, GridTicks, OneTick, Ticks, cron_ticks
from pullcord.core.trigger import AT, CRON, INTERVAL

SHORTEST: Final = SECOND // 10
"""The shortest interval, in microseconds."""


class Cron(Schedule):
    """A cron expression, see `cron()`.

    Attributes:
        expression: the expression as it was written.
    """

    kind = CRON

    def __init__(
        self, text: str, options: Options, name: str | None, parameters: Mapping[str, Any] | None, enabled: bool
    ) -> None:
        super().__init__(options, name, parameters, enabled)
        if not isinstance(text, str):
            raise DefinitionError(f"a cron expression is a text like '30 2 * * *', not {text!r}")
        self.expression = text
        self._ticks = cron_ticks(text, options.zone.name, options.start, options.end)

    def __repr__(self) -> str:
        return f"<cron {self.expression!r} {self.options.zone.name}>"

    def ticks(self, anchor: int) -> Ticks:
        """Return all ticks; the anchor does not matter."""
        return self._ticks

    def settings(self) -> dict[str, Any]:
        """Return expression and options as a JSON object."""
        return {"expression": self.expression, **self.options.settings()}

    def notes(self, tick: int) -> list[str]:
        """Return what the clocks do to a tick, in words."""
        return clockchange.of_cron(expression(self.expression), self.options.zone, tick // SECOND)


class Interval(Schedule):
    """Ticks at equal distances, see `interval()`.

    Attributes:
        every: the distance in microseconds.
    """

    kind = INTERVAL

    def __init__(
        self, every: int, options: Options, name: str | None, parameters: Mapping[str, Any] | None, enabled: bool
    ) -> None:
        super().__init__(options, name, parameters, enabled)
        self.every = every

    def __repr__(self) -> str:
        return f"<interval {self.every / SECOND:g} s>"

    def ticks(self, anchor: int) -> Ticks:
        """Return all ticks; without a start they are counted from the anchor."""
        start = self.options.start
        return GridTicks(anchor + self.every if start is None else start, self.every, self.options.end)

    def settings(self) -> dict[str, Any]:
        """Return distance (in seconds) and options as a JSON object."""
        return {"every": self.every / SECOND, **self.options.settings()}


class At(Schedule):
    """A single time, see `at()`.

    Attributes:
        when: the time as it was written.
    """

    kind = AT

    def __init__(
        self, when: Moment, options: Options, name: str | None, parameters: Mapping[str, Any] | None, enabled: bool
    ) -> None:
        super().__init__(options, name, parameters, enabled)
        self._at, self._local_time = instant(when, options.zone)
        self.when = text_of(when)

    def __repr__(self) -> str:
        return f"<at {self.when}>"

    def ticks(self, anchor: int) -> Ticks:
        """Return the one tick; the anchor does not matter."""
        return OneTick(self._at, self.options.start, self.options.end)

    def settings(self) -> dict[str, Any]:
        """Return time and options as a JSON object."""
        return {"when": self.when, **self.options.settings()}

    def notes(self, tick: int) -> list[str]:
        """Return what the clocks do to the time, in words."""
        return [] if self._local_time is None else clockchange.of_time(self._local_time, self.options.zone)


def cron(
    expression: str,
    *,
    tz: str = "UTC",
    name: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    catch_up: CatchUp = "latest",
    max_catch_up: int = 100,
    misfire_grace: Duration = "10s",
    jitter: Duration | None = None,
    blackout: Sequence[str | date] = (),
    start: Moment | None = None,
    end: Moment | None = None,
    enabled: bool = True,
) -> Cron:
    """Declare a schedule by a cron expression.

    It names *fixed times* when none of second, minute and hour has a star: such a time happens once a day, at the first
    moment after the gap on a day on which it does not exist, and the first time on a day on which it exists twice.
    With a star in one of them it names *slots*, which happen whenever the clocks show them: `*/30 * * * *` every thirty
    minutes of real time, also while clocks are changed.

    Args:
        expression: minute, hour, day of month, month and day of week; six fields begin with the second. Names, lists,
            ranges and steps; `L` and `LW` for the last day and the last working day of a month, `5L` for its last
            Friday, `1#2` for its second Monday. Or `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`,
            `@annually`.
        tz: IANA name of the zone in which it is meant.
        name: called after its flow and its kind unless given.
        parameters: inputs of the runs it asks for.
        catch_up: what becomes of ticks that are late, because no server ran: `"skip"`, none of them runs; `"latest"`,
            the newest one runs if none is on time; `"all"`, the newest `max_catch_up` run, in order.
        max_catch_up: 1 to 10,000.
        misfire_grace: how late a tick may be and count as on time.
        jitter: ask later by up to this, by a time that is the same for the same name and tick; at most a day.
        blackout: days on which nothing is asked for, in the zone: dates `"2026-12-25"`, yearly dates `"12-25"`, and
            ranges of either, `"12-24/12-26"`.
        start: no tick is earlier; an ISO text or a datetime, in the zone unless it says otherwise.
        end: no tick is later.
        enabled: whether it asks from the start.

    Raises:
        DefinitionError: the expression names no possible date, the zone does not exist, or an option cannot be.
    """
    shared = options(tz, catch_up, max_catch_up, misfire_grace, jitter, blackout, start, end)
    return Cron(expression, shared, name, parameters, enabled)


def interval(
    every: Duration,
    *,
    tz: str = "UTC",
    name: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    catch_up: CatchUp = "latest",
    max_catch_up: int = 100,
    misfire_grace: Duration = "10s",
    jitter: Duration | None = None,
    blackout: Sequence[str | date] = (),
    start: Moment | None = None,
    end: Moment | None = None,
    enabled: bool = True,
) -> Interval:
    """Declare a schedule of equal distances of real time, whatever clocks do.

    Each tick is `every` after the last *scheduled* one, however late that ran, so the distance does not drift.

    Args:
        every: the distance, at least 100 ms.
        tz: IANA name of the zone for `blackout`, `start` and `end`.
        start: the first tick; unless given, it is `every` after the server first saw the schedule, and `upcoming`
            counts from `after`.

    The others are as for `cron()`.

    Raises:
        DefinitionError: the distance is too short, the zone does not exist, or an option cannot be.
    """
    distance = length(every, "every")
    if distance < SHORTEST:
        raise DefinitionError(f"an interval is at least 100 ms, not {every!r}")
    shared = options(tz, catch_up, max_catch_up, misfire_grace, jitter, blackout, start, end)
    return Interval(distance, shared, name, parameters, enabled)


def at(
    when: Moment,
    *,
    tz: str = "UTC",
    name: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    catch_up: CatchUp = "latest",
    max_catch_up: int = 100,
    misfire_grace: Duration = "10s",
    jitter: Duration | None = None,
    blackout: Sequence[str | date] = (),
    start: Moment | None = None,
    end: Moment | None = None,
    enabled: bool = True,
) -> At:
    """Declare a single time.

    Args:
        when: an ISO text such as `"2026-12-24T18:00"` or a datetime; without an offset it is local to `tz`. A local
            time that does not exist means the first moment after the gap, one that exists twice the first.
        tz: IANA name of the zone.

    The others are as for `cron()`.

    Raises:
        DefinitionError: it is no time, the zone does not exist, or an option cannot be.
    """
    shared = options(tz, catch_up, max_catch_up, misfire_grace, jitter, blackout, start, end)
    return At(when, shared, name, parameters, enabled)
