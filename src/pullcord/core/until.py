"""How far a run is: what `wait` can wait for."""

from __future__ import annotations

from typing import Any, Final

from pullcord.core.errors import UsageError
from pullcord.core.states import ENDED, RunState, StepState

STARTED: Final = frozenset({RunState.RUNNING, RunState.WAITING, RunState.CANCELLING, *ENDED})
"""States of a run that has begun."""


def check_until(what: str) -> str:
    """Return what to wait for: `ended`, `started` or `step:NAME`.

    Raises:
        UsageError: it is none of them.
    """
    if what in ("ended", "started") or (what.startswith("step:") and len(what) > len("step:")):
        return what
    raise UsageError(f"{what[:60]!r} is nothing to wait for; use ended, started or step:NAME")


def reached(item: dict[str, Any], what: str) -> bool:
    """Say whether a run item is as far; one that has ended will get no further."""
    if item["state"] in ENDED:
        return True
    if what == "started":
        return item["state"] in STARTED
    return any(passed(step, what) for step in item.get("steps", []))


def passed(step: dict[str, Any], what: str) -> bool:
    """Say whether a step item is the one that `step:NAME` waits for, and has succeeded."""
    return what == f"step:{step['name']}" and bool(step["state"] == StepState.SUCCEEDED)
