"""What a change of the clocks does to a tick, in words for a preview."""

from __future__ import annotations

from pullcord.core.timetable.expression import Expression
from pullcord.core.timetable.zone import DAY, Stretch, Zone


def of_cron(meaning: Expression, place: Zone, second: int) -> list[str]:
    """Return notes on a tick of a cron expression, given in seconds since 1970 UTC."""
    stretch = place.stretch(second)
    shown = second + stretch.offset
    if meaning.fixed:
        if second == stretch.start and (missing := _first_missing(meaning, stretch)) is not None:
            return [_moved(missing, shown)]
        return _once(place, stretch, shown)
    notes = []
    missing = _first_missing(meaning, stretch)
    if missing is not None and meaning.following(stretch.start + stretch.offset) == shown:
        notes.append(f"{clock(missing)} does not exist on this day")
    if _first_of_two(place, stretch, shown):
        notes.append(f"{clock(shown)} happens twice, fires both times; this is the first")
    elif shown < stretch.start + stretch.before:
        notes.append(f"{clock(shown)} happens twice, fires both times; this is the second")
    return notes


def of_time(local: int, place: Zone) -> list[str]:
    """Return notes on a local time that was asked for once."""
    second, stretch = place.landing(local)
    shown = second + stretch.offset
    if shown != local:
        return [_moved(local, shown)]
    return _once(place, stretch, shown)


def clock(local: int) -> str:
    """Write a local time of day, with seconds where there are any."""
    minutes, second = divmod(local % DAY, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}" + (f":{second:02}" if second else "")


def _once(place: Zone, stretch: Stretch, shown: int) -> list[str]:
    if not _first_of_two(place, stretch, shown):
        return []
    return [f"{clock(shown)} happens twice, fires once, the first time"]


def _moved(missing: int, shown: int) -> str:
    if missing // DAY != shown // DAY:
        return f"the day before does not exist, fires at {clock(shown)}"
    return f"{clock(missing)} does not exist on this day, fires at {clock(shown)}"


def _first_missing(meaning: Expression, stretch: Stretch) -> int | None:
    """Return the first match that the clocks left out at the beginning of a stretch."""
    if stretch.before >= stretch.offset:
        return None
    missing = meaning.following(stretch.start + stretch.before)
    return missing if missing is not None and missing < stretch.start + stretch.offset else None


def _first_of_two(place: Zone, stretch: Stretch, shown: int) -> bool:
    return shown >= stretch.end + place.stretch(stretch.end).offset
