"""Time zones as stretches of time with one distance from UTC each, which is what rules about missing hours need.

The standard library's zones tell the offset of a moment, not when it changes. That is found by asking and halving.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pullcord.core.errors import DefinitionError

DAY: Final = 86_400
_BLOCK: Final = 25
"""Stretches are looked up in blocks of 2^25 s, about 388 days."""
_PROBE: Final = 1 << 18
"""How far apart the zone is asked, in seconds (3 days); a test compares this with the whole zone database."""
_LOCAL: Final = {"localtime", "posixrules", "Factory"}
"""Names that mean something else on each machine; `right/` counts leap seconds, `posix/` is the zone itself."""
_EXAMPLES: Final = "write a name of the IANA database, for example 'Europe/Berlin' or 'UTC'"


class Stretch(NamedTuple):
    """A time during which a zone's clocks are not changed. It may end where only a block ends.

    Attributes:
        start: its first second since 1970 UTC.
        end: the second after its last one.
        offset: what local clocks are ahead of UTC, in seconds.
        before: what they were ahead the second before `start`.
    """

    start: int
    end: int
    offset: int
    before: int


class Zone:
    """A time zone; its local times are counted in seconds, as if local clocks had started in 1970 too.

    Attributes:
        name: as the IANA database calls it.
        info: the standard library's zone.
    """

    __slots__ = ("_blocks", "info", "name")

    def __init__(self, name: str, info: ZoneInfo) -> None:
        self.name = name
        self.info = info
        self._blocks: dict[int, tuple[Stretch, ...]] = {}

    def stretch(self, second: int) -> Stretch:
        """Return the stretch that a second since 1970 UTC is in."""
        number = second >> _BLOCK
        block = self._blocks.get(number)
        if block is None:
            block = self._blocks[number] = self._look(number)
        for stretch in block:
            if second < stretch.end:
                break
        return stretch

    def local(self, second: int) -> int:
        """Return what local clocks show at a second since 1970 UTC."""
        return second + self.stretch(second).offset

    def landing(self, local: int) -> tuple[int, Stretch]:
        """Return the moment that a local time means, and the stretch that it is in.

        A local time that exists twice means the first; one that does not exist, the first moment after the gap.
        """
        stretch = self.stretch(local - DAY)  # no clock is more than a day ahead or behind
        while local >= stretch.end + stretch.offset:
            stretch = self.stretch(stretch.end)
        return max(local - stretch.offset, stretch.start), stretch

    def moment(self, at: int) -> datetime:
        """Return microseconds since 1970 UTC as a datetime of this zone."""
        whole, micro = divmod(at, 1_000_000)
        return datetime.fromtimestamp(whole, self.info).replace(microsecond=micro)

    def _offset(self, second: int) -> int:
        delta = datetime.fromtimestamp(second, self.info).utcoffset()
        return 0 if delta is None else delta.days * DAY + delta.seconds

    def _look(self, number: int) -> tuple[Stretch, ...]:
        start, end = number << _BLOCK, (number + 1) << _BLOCK
        before, offset = self._offset(start - 1), self._offset(start)
        found = []
        for probe in range(start + _PROBE, end + _PROBE, _PROBE):
            last = min(probe, end) - 1
            while self._offset(last) != offset:
                change = self._change(max(start, probe - _PROBE), last, offset)
                found.append(Stretch(start, change, offset, before))
                start, before, offset = change, offset, self._offset(change)
        found.append(Stretch(start, end, offset, before))
        return tuple(found)

    def _change(self, low: int, high: int, offset: int) -> int:
        """Return the first second after `low` at which the offset is another one; at `high` it is."""
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(middle) == offset:
                low = middle
            else:
                high = middle
        return high


@cache
def zone(name: str) -> Zone:
    """Return a time zone by its IANA name, such as `"Europe/Berlin"`.

    Raises:
        DefinitionError: there is none of that name; the message names similar ones.
    """
    try:
        if name in _LOCAL or name.startswith(("posix/", "right/")):
            raise ZoneInfoNotFoundError
        return Zone(name, ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError, AttributeError):
        raise DefinitionError(f"{name!r} is no time zone; {_similar(name)}") from None


def _similar(name: object) -> str:
    if not isinstance(name, str):
        return _EXAMPLES
    from difflib import get_close_matches

    known = {each.lower(): each for each in available_timezones() - _LOCAL}
    wanted = name.strip().lower().replace(" ", "_")
    cities: dict[str, list[str]] = {}
    for lower in known:
        cities.setdefault(lower.rpartition("/")[2], []).append(lower)
    close = get_close_matches(wanted, known, 3, 0.8)
    for city in get_close_matches(wanted.rpartition("/")[2], cities, 3, 0.8):
        close += cities[city]
    names = [known[each] for each in dict.fromkeys(close)]
    if names:
        return f"did you mean {' or '.join(repr(each) for each in names[:3])}?"
    return _EXAMPLES


def utc_second(moment: datetime) -> int:
    """Return the second since 1970 UTC that an aware datetime is in."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return delta.days * DAY + delta.seconds
