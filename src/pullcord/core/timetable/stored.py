"""Schedules from what manifests and overrides say of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pullcord.core.errors import UsageError
from pullcord.core.timetable.kinds import at, cron, interval
from pullcord.core.timetable.schedule import Schedule
from pullcord.core.trigger import AT, CRON, INTERVAL

_KINDS: Final[dict[str, tuple[str, Callable[..., Schedule]]]] = {
    CRON: ("expression", cron),
    INTERVAL: ("every", interval),
    AT: ("when", at),
}
_OPTIONS: Final = frozenset({"tz", "catch_up", "max_catch_up", "misfire_grace", "jitter", "blackout", "start", "end"})


def schedule_of(kind: str, settings: Mapping[str, Any]) -> Schedule:
    """Return the schedule that has given settings; it has no name and no parameters.

    Args:
        kind: `"cron"`, `"interval"` or `"at"`.
        settings: what `settings()` of such a schedule returned, or that with changes; what is left out has its default.

    Raises:
        UsageError: there is no such kind or setting, or the one without which the kind is nothing is left out.
        DefinitionError: a setting cannot be.
    """
    if kind not in _KINDS:
        raise UsageError(f"{kind!r} is no kind of schedule: {', '.join(_KINDS)}")
    essential, make = _KINDS[kind]
    if not isinstance(settings, Mapping) or essential not in settings:
        raise UsageError(f"the settings of {kind} are an object with at least {essential!r}")
    unknown = settings.keys() - _OPTIONS - {essential}
    if unknown:
        raise UsageError(
            f"{kind} has no setting {', '.join(sorted(map(repr, unknown)))}; it has {essential}, "
            f"{', '.join(sorted(_OPTIONS))}"
        )
    return make(settings[essential], **{key: value for key, value in settings.items() if key != essential})
