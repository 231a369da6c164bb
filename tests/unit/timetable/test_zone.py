"""Zones: the stretches that are found by asking agree with the zone database at every change of a clock."""

from __future__ import annotations

import struct
from datetime import datetime
from importlib import resources
from zoneinfo import ZoneInfo

import pytest

from pullcord.core.errors import DefinitionError
from pullcord.core.timetable.zone import zone


def changes(name: str) -> list[int]:
    """Read the moments since 1970 at which a zone's file says that something changes (RFC 9636)."""
    data = resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()
    position, width = 0, 4
    for _ in range(2):
        utc, wall, leap, times, types, letters = struct.unpack(">6l", data[position + 20 : position + 44])
        position += 44
        found = struct.unpack(f">{times}{'l' if width == 4 else 'q'}", data[position : position + times * width])
        position += times * (width + 1) + types * 6 + letters + leap * (width + 4) + wall + utc
        width = 8
    return [each for each in found if each > 0]


def test_every_change_of_every_zone_is_found() -> None:
    names = resources.files("tzdata").joinpath("zones").read_text().split()
    assert len(names) > 500
    for name in set(names) - {"Factory"}:
        place, info = zone.__wrapped__(name), ZoneInfo(name)
        for change in changes(name):
            for second in (change - 1, change, change + 1800):
                truth = datetime.fromtimestamp(second, info).utcoffset()
                assert truth is not None
                assert place.local(second) - second == truth.total_seconds(), (name, second)


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("Europe/Berlim", "'Europe/Berlin'"),
        ("berlin", "'Europe/Berlin'"),
        ("europe/berlin", "'Europe/Berlin'"),
        ("America/New York", "'America/New_York'"),
        ("us/eastern", "'US/Eastern'"),
        ("Mars/Phobos", "write a name of the IANA database"),
        ("", "write a name of the IANA database"),
        ("../etc/passwd", "write a name of the IANA database"),
        ("localtime", "write a name of the IANA database"),
        ("right/Europe/Berlin", "'Europe/Berlin'"),
        (None, "write a name of the IANA database"),
    ],
)
def test_an_unknown_zone_is_refused_with_similar_names(name: str, similar: str) -> None:
    with pytest.raises(DefinitionError, match="is no time zone") as caught:
        zone(name)
    assert similar in str(caught.value)


def test_a_folder_of_zones_is_no_zone() -> None:
    with pytest.raises(DefinitionError, match="is no time zone"):
        zone("America")
