"""What writers on one database tell each other: where there is work that the one who tells has no room for."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from pydantic_core import from_json, to_json

from pullcord.store.transaction import Hints

LONGEST: Final = 7000
"""Bytes; PostgreSQL takes less than 8000 (manual, NOTIFY)."""


def notification(owner: int, lanes: Set[str], slots: Set[str]) -> str:
    """Return what to tell.

    Args:
        owner: number of this server's incarnation.
        lanes: lanes with work that it has no room for.
        slots: concurrency keys with such work.
    """
    told = to_json({"owner": owner, "lanes": sorted(lanes), "slots": sorted(slots)})
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
        return Hints(set(map(str, told["slots"])), set(map(str, told["lanes"])))
    except (ValueError, TypeError, KeyError):
        return Hints(anything=True)
