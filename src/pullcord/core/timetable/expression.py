"""Cron expressions: what they mean on local clocks.

cronsim reads them and matches days (`L`, `LW`, `#`, and Debian's rule that day-of-month and day-of-week both count
where one of them begins with a star, else either). The walk from one match to the next is this module's, on plain
numbers: cronsim's own drops slots where clocks are changed by half an hour, yields local midnights that do not exist,
and would have to parse the expression for each question.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from pullcord.core.errors import DefinitionError
from pullcord.core.timetable.zone import DAY

if TYPE_CHECKING:
    from cronsim import CronSim

MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_FIELDS: Final = {
    "second": "0 to 59",
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31, L for the last day or LW for the last weekday",
    "month": "1 to 12 or JAN to DEC",
    "day-of-week": "0 to 7 or SUN to SAT (0 and 7 are Sunday), 5L for the last Friday, 1#2 for the second Monday",
}
_EPOCH: Final = date(1970, 1, 1).toordinal()
_HORIZON: Final = 50 * 12
"""Months after which no further match is looked for."""
_LONGEST: Final = 1000


class Expression:
    """A cron expression, on local clocks; local times are seconds as `Zone` counts them.

    Attributes:
        text: as it was written.
        fixed: whether it names times of day (no star in second, minute and hour), rather than slots of elapsed time.
        per_day: how many times it names on a day.
    """

    __slots__ = ("_every_day", "_hours", "_minutes", "_months", "_seconds", "_sim", "fixed", "per_day", "text")

    def __init__(self, text: str, sim: CronSim) -> None:
        self.text = text
        self._sim = sim
        self._seconds, self._minutes, self._hours = (sorted(each) for each in (sim.seconds, sim.minutes, sim.hours))
        self.fixed = not any("*" in part for part in sim.parts[:3])
        self.per_day = len(self._seconds) * len(self._minutes) * len(self._hours)
        self._every_day = sim.parts[3:] == ["*", "*", "*"]
        self._months: dict[int, list[int]] = {}

    def following(self, local: int) -> int | None:
        """Return the first match not before a local time; None if there is none within 50 years."""
        day, rest = divmod(local, DAY)
        following = self._day(day)
        if following == day:
            time = self._time(rest)
            if time is not None:
                return day * DAY + time
            following = self._day(day + 1)
        if following is None:
            return None
        return following * DAY + self._hours[0] * 3600 + self._minutes[0] * 60 + self._seconds[0]

    def count(self, start: int, end: int) -> int:
        """Return how many matches there are from one local time to before another."""
        if end <= start:
            return 0
        (first, begun), (last, rest) = divmod(start, DAY), divmod(end, DAY)
        whole = self._days(first, last) * self.per_day
        if self._day(last) == last:
            whole += self._earlier(rest)
        return whole - (self._earlier(begun) if self._day(first) == first else 0)

    def _time(self, rest: int) -> int | None:
        """Return the first named second of the day not before one."""
        hour, within = divmod(rest, 3600)
        minute, second = divmod(within, 60)
        hours, minutes, seconds = self._hours, self._minutes, self._seconds
        at = bisect_left(hours, hour)
        if at < len(hours) and hours[at] == hour:
            here = bisect_left(minutes, minute)
            if here < len(minutes) and minutes[here] == minute:
                now = bisect_left(seconds, second)
                if now < len(seconds):
                    return hour * 3600 + minute * 60 + seconds[now]
                here += 1
            if here < len(minutes):
                return hour * 3600 + minutes[here] * 60 + seconds[0]
            at += 1
        if at < len(hours):
            return hours[at] * 3600 + minutes[0] * 60 + seconds[0]
        return None

    def _earlier(self, rest: int) -> int:
        """Return how many seconds of the day are named before one."""
        hour, within = divmod(rest, 3600)
        minute, second = divmod(within, 60)
        at, here = bisect_left(self._hours, hour), bisect_left(self._minutes, minute)
        count = at * len(self._minutes) * len(self._seconds)
        if at < len(self._hours) and self._hours[at] == hour:
            count += here * len(self._seconds)
            if here < len(self._minutes) and self._minutes[here] == minute:
                count += bisect_left(self._seconds, second)
        return count

    def _day(self, day: int) -> int | None:
        """Return the first matching day not before one, counted from 1970."""
        if self._every_day:
            return day
        month = _month_of(day)
        for each in range(month, month + _HORIZON):
            days = self._month(each)
            if days and days[-1] >= day:
                return days[bisect_left(days, day)]
        return None

    def _days(self, first: int, last: int) -> int:
        """Return how many days match, from one to before another."""
        if self._every_day:
            return last - first
        days = (self._month(each) for each in range(_month_of(first), _month_of(last) + 1))
        return sum(bisect_left(each, last) - bisect_left(each, first) for each in days)

    def _month(self, number: int) -> list[int]:
        """Return the matching days of a month, counted from the year 0."""
        days = self._months.get(number)
        if days is None:
            days = self._months[number] = []
            year, month = divmod(number, 12)
            if month + 1 in self._sim.months:
                start, end = date(year, month + 1, 1), date(year + month // 11, (month + 1) % 12 + 1, 1)
                for day in range(start.toordinal(), end.toordinal()):
                    if self._sim.match_day(date.fromordinal(day)):
                        days.append(day - _EPOCH)
        return days


def _month_of(day: int) -> int:
    moment = date.fromordinal(day + _EPOCH)
    return moment.year * 12 + moment.month - 1


@lru_cache(maxsize=1 << 14)
def expression(text: str) -> Expression:
    """Read a cron expression of five fields, six with seconds first, or a macro such as `@daily`.

    Raises:
        DefinitionError: it is not one, or names a date that never comes; the message says what to write instead.
    """
    plain = " ".join(text.split())
    _refuse_other_dialects(plain)
    return Expression(plain, _read(MACROS.get(plain.lower(), plain)))


def _read(plain: str) -> CronSim:
    from datetime import datetime

    from cronsim import CronSim, CronSimError

    start = datetime(2000, 1, 1)
    fields = plain.split(" ")
    try:
        sim = CronSim(plain, start)
    except CronSimError as error:
        wrong = str(error).removeprefix("Bad ")
        position = [*_FIELDS][6 - len(fields) :].index(wrong)
        if wrong == "day-of-month" and _reads(CronSim, CronSimError, [*fields[:-2], "*", fields[-1]], start):
            raise DefinitionError(
                f"{plain!r} names a date that never comes: no such month has a day {fields[position]}; "
                "write L as the day for the last one of a month"
            ) from None
        raise DefinitionError(
            f"{plain!r}: the {wrong} {fields[position]!r} cannot be; it takes {_FIELDS[wrong]}, "
            "lists (1,2), ranges (1-5) and steps (*/5)"
        ) from None
    # A plain day of the month up to the 28th falls on every weekday in the end; anything else is looked for.
    plain_days = 0 < min(sim.days) <= 28 and not any(isinstance(day, tuple) for day in sim.weekdays)
    if not plain_days and next(sim, None) is None:
        raise DefinitionError(f"{plain!r} names a date that never comes")
    return sim


def _reads(sim: type[CronSim], error: type[Exception], fields: list[str], start: object) -> bool:
    try:
        sim(" ".join(fields), start)  # type: ignore[arg-type]
    except error:
        return False
    return True


def _refuse_other_dialects(plain: str) -> None:
    fields = plain.upper().split(" ")
    if plain.startswith("@"):
        if plain.lower() in MACROS:
            return
        if plain.lower() == "@reboot":
            raise DefinitionError(
                "@reboot has no time; a flow that is to run when the server starts is asked for by whatever starts it"
            )
        raise DefinitionError(f"{plain!r} is none of {', '.join(MACROS)}")
    if len(plain) > _LONGEST:
        raise DefinitionError(f"a cron expression has at most {_LONGEST} characters")
    if len(fields) not in (5, 6):
        raise DefinitionError(
            f"{plain!r} has {len(fields) if plain else 0} fields; write five (minute, hour, day of month, month, day "
            "of week), or six with the seconds first"
        )
    if "?" in plain:
        raise DefinitionError(f"{plain!r}: ? is Quartz's; write * for any day")
    if any(part.startswith(("H", "H/", "H(")) for field in fields for part in field.split(",")):
        raise DefinitionError(
            f"{plain!r}: H is Jenkins's; write a number, and jitter= to spread schedules that begin at the same time"
        )
