"""What `pullcord triggers set` is to change, read from the command line."""

from __future__ import annotations

import json
from typing import Any

from pullcord.cli.moments import moment
from pullcord.core.errors import UsageError
from pullcord.core.trigger import SCHEDULES

RESET = {"enabled": None, "settings": None, "parameters": None}
"""Everything as in the code."""


def changes(
    trigger: dict[str, Any],
    schedule: str | None,
    parameters: list[str] | None,
    settings: list[str] | None,
    cursor: str | None,
) -> dict[str, Any]:
    """Return what is to be changed.

    Args:
        trigger: the trigger as it is.
        schedule: expression, interval or time.
        parameters: `NAME=VALUE`; the others stay as they are.
        settings: likewise.
        cursor: where it goes on from: of a schedule `now`, a time or a duration ago, of an event JSON or a text.

    Raises:
        UsageError: something cannot be read.
    """
    found: dict[str, Any] = {}
    if schedule is not None:
        found["schedule"] = schedule
    if parameters:
        found["parameters"] = trigger["parameters"] | _pairs("--parameter", parameters)
    if settings:
        overridden = (trigger["override"] or {}).get("settings") or {}
        found["settings"] = overridden | _pairs("--setting", settings)
    if cursor is not None:
        scheduled = trigger["kind"] in SCHEDULES and cursor != "now"
        found["cursor"] = moment(cursor) if scheduled else cursor if cursor == "now" else value_of(cursor)
    return found


def _pairs(option: str, pairs: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{option} {pair[:60]!r} is not NAME=VALUE; write it like {option} region=DE")
        found[name] = value_of(text)
    return found


def value_of(text: str) -> Any:
    """Read JSON where it parses, text otherwise."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
