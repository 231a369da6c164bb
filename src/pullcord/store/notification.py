"""What writers on one database tell each other: where there is work that the one who tells has no room for."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final

from pydantic_core import from_json, to_json

from pullcord.store.hints import Hints

LONGEST: Final = 7000
"""Bytes; PostgreSQL takes less than 8000 (manual, NOTIFY)."""


def notification(owner: int, lanes: Set[str], slots: Sequence[tuple[str, str]], groups: Set[str]) -> str:
    """Return what to tell.

    Args:
        owner: number of this server's incarnation.
        lanes: lanes with work that it has no room for.
        slots: `(lane, slot)` with such work.
        groups: groups that a run has left.
    """
    told = to_json({"owner": owner, "lanes": sorted(lanes), "slots": slots, "groups": sorted(groups)})
    if len(told) > LONGEST:
        told = to_json({"owner": owner})
    return told.decode()


def hints_of(payload: str, owner: int) -> Hints | None:
    """Return what a notification says, or None when this server sent it itself.

    What cannot be read says that all queues must be looked at; so does "".
    """
    try:
        told = from_json(payload)
        if told["owner"] == owner:
            return None
        return Hints(
            lanes=set(map(str, told["lanes"])),
            fresh={str(slot): str(lane) for lane, slot in told["slots"]},
            released=set(map(str, told["groups"])),
        )
    except (ValueError, TypeError, KeyError):
        return Hints(anything=True)
