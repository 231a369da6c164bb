"""When a trigger asks, in words."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pullcord.core.durations import span
from pullcord.core.trigger import AT, COMPLETION, CRON, EVENT, INTERVAL, WEBHOOK


def cadence(kind: str, settings: dict[str, Any]) -> str:
    """Return when a trigger asks, such as `at 02:00 every day, Europe/Berlin` or `every 5 s`.

    Args:
        kind: its kind.
        settings: the settings of its kind; those of other packages' kinds are not known here.
    """
    if kind == CRON:
        return f"{_explained(settings['expression'])}, {settings['tz']}"
    if kind == INTERVAL:
        return f"every {span(settings['every'])}"
    if kind == AT:
        return f"once, {settings['when']}" + ("" if _has_zone(settings["when"]) else f" {settings['tz']}")
    if kind == EVENT:
        return f"polled every {span(settings['every'])}"
    if kind == COMPLETION:
        return f"when {' or '.join(settings['of'])} {' or '.join(settings['on'])}"
    if kind == WEBHOOK:
        return f"when a delivery comes, signed the {settings['scheme']} way"
    return ""


def _explained(expression: str) -> str:
    from cronsim import CronSim, CronSimError

    from pullcord.core.timetable.expression import MACROS

    try:
        text: str = CronSim(MACROS.get(expression.lower(), expression), datetime.now()).explain()
    except CronSimError:
        return expression
    return text[:1].lower() + text[1:]


def _has_zone(when: str) -> bool:
    try:
        return datetime.fromisoformat(when).tzinfo is not None
    except ValueError:
        return False
