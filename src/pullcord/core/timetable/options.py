"""What all kinds of schedules can be told, read and checked once for all schedules that are told the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Final, Literal, get_args

from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import DefinitionError, UsageError
from pullcord.core.timetable.blackout import Blackout, blackout
from pullcord.core.timetable.ticks import SECOND
from pullcord.core.timetable.zone import Zone, utc_second, zone

CatchUp = Literal["skip", "latest", "all"]
"""What becomes of ticks that are late: none of them runs, the newest one, or all (the newest `max_catch_up`)."""
Moment = str | datetime
"""An ISO text or a datetime; without an offset it is local to the schedule's zone."""
MOST_CAUGHT_UP: Final = 10_000
LONGEST_JITTER: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Options:
    """What all kinds have in common; durations in microseconds.

    Attributes:
        zone: in which local times are meant and shown.
        catch_up: what becomes of late ticks.
        max_catch_up: how many late ticks run at most with `"all"`.
        grace: how late a tick may be and still be on time.
        jitter: each tick is due up to so much later.
        blackout: days that are left out.
        start: no tick is earlier; None for no limit.
        end: no tick is later; None for no limit.
        written: the same as JSON.
    """

    zone: Zone
    catch_up: CatchUp
    max_catch_up: int
    grace: int
    jitter: int
    blackout: Blackout
    start: int | None
    end: int | None
    written: Mapping[str, Any]

    def settings(self) -> dict[str, Any]:
        """Return the same as a JSON object, as manifests carry it."""
        return {**self.written, "blackout": list(self.written["blackout"])}


def options(
    tz: str = "UTC",
    catch_up: CatchUp = "latest",
    max_catch_up: int = 100,
    misfire_grace: Duration = "10s",
    jitter: Duration | None = None,
    blackout: Sequence[str | date] = (),
    start: Moment | None = None,
    end: Moment | None = None,
) -> Options:
    """Read the options that all kinds have.

    Raises:
        DefinitionError: one of them cannot be; the message says which and what it takes.
    """
    if not isinstance(blackout, list | tuple):
        raise DefinitionError(f"blackout is a list of dates like ['2026-12-25', '12-24/12-26'], not {blackout!r}")
    days = tuple(day.isoformat() if type(day) is date else day for day in blackout) if blackout else ()
    try:
        return _options(tz, catch_up, max_catch_up, misfire_grace, jitter, days, start, end)
    except TypeError:  # what cannot be a key of a cache cannot be an option
        raise DefinitionError("the options of a schedule are texts, numbers, durations and datetimes") from None


@lru_cache(maxsize=4096, typed=True)
def _options(
    tz: str,
    catch_up: CatchUp,
    max_catch_up: int,
    misfire_grace: Duration,
    jitter: Duration | None,
    days: tuple[str, ...],
    start: Moment | None,
    end: Moment | None,
) -> Options:
    place = zone(tz)
    if catch_up not in get_args(CatchUp):
        raise DefinitionError(f"catch_up is 'skip', 'latest' or 'all', not {catch_up!r}")
    if isinstance(max_catch_up, bool) or not isinstance(max_catch_up, int) or not 1 <= max_catch_up <= MOST_CAUGHT_UP:
        raise DefinitionError(f"max_catch_up is a whole number from 1 to {MOST_CAUGHT_UP}, not {max_catch_up!r}")
    grace = length(misfire_grace, "misfire_grace")
    spread = 0 if jitter is None else length(jitter, "jitter")
    if spread > LONGEST_JITTER * SECOND:
        raise DefinitionError(f"jitter is at most a day, not {jitter!r}")
    first, last = (None if each is None else instant(each, place)[0] for each in (start, end))
    if first is not None and last is not None and last < first:
        raise DefinitionError(f"the schedule ends ({end}) before it starts ({start})")
    written = {
        "tz": tz,
        "catch_up": catch_up,
        "max_catch_up": max_catch_up,
        "misfire_grace": grace / SECOND,
        "jitter": spread / SECOND if spread else None,
        "blackout": days,
        "start": None if start is None else text_of(start),
        "end": None if end is None else text_of(end),
    }
    return Options(place, catch_up, max_catch_up, grace, spread, blackout(days), first, last, written)


def length(value: Duration, what: str) -> int:
    """Read a duration in microseconds.

    Raises:
        DefinitionError: it is none; the message names it.
    """
    try:
        return round(seconds(value) * SECOND)
    except UsageError as error:
        raise DefinitionError(f"{what}: {error.message}") from None


def instant(when: Moment, place: Zone) -> tuple[int, int | None]:
    """Read a time in microseconds since 1970 UTC, and what local clocks were meant to show, if that was said.

    A local time that exists twice means the first; one that does not exist, the first moment after the gap.

    Raises:
        DefinitionError: it is no time.
    """
    moment = when
    if isinstance(moment, str):
        try:
            moment = datetime.fromisoformat(moment.strip())
        except ValueError:
            raise DefinitionError(f"{when!r} is no time; write it like '2026-12-24T18:00'") from None
    if not isinstance(moment, datetime):
        raise DefinitionError(f"a time is an ISO text like '2026-12-24T18:00' or a datetime, not {when!r}")
    if not 1900 <= moment.year < 9000:
        raise DefinitionError(f"{when!r} is out of range: the years 1900 to 8999")
    if moment.tzinfo is not None:
        return utc_second(moment) * SECOND + moment.microsecond, None
    local = utc_second(moment.replace(tzinfo=UTC))
    landed, stretch = place.landing(local)
    micro = moment.microsecond if landed + stretch.offset == local else 0
    return landed * SECOND + micro, local


def text_of(when: Moment) -> str:
    """Return a time as ISO text, as it was given."""
    return when.strip() if isinstance(when, str) else when.isoformat()
