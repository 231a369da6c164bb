"""Taking back rules of notifications that people gave: all about an event, or for some channels only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pullcord.core.errors import UsageError
from pullcord.core.notify import EVENTS, Rule


@dataclass(frozen=True, slots=True)
class Removal:
    """What is no longer told.

    Attributes:
        event: one of `EVENTS`.
        channels: who is no longer told of it; empty is everybody.
    """

    event: str
    channels: tuple[str, ...] = ()

    def left_of(self, rule: Rule) -> Rule | None:
        """Return what is left of a rule, or None."""
        if rule.event != self.event:
            return rule
        channels = tuple(name for name in rule.channels if name not in self.channels) if self.channels else ()
        return replace(rule, channels=channels) if channels else None


def removal_of(data: Any) -> Removal:
    """Read a removal: the name of an event, or an object with `event` and `channels`.

    Raises:
        UsageError: it is none.
    """
    if isinstance(data, str):
        event, channels = data, []
    elif isinstance(data, Mapping) and set(data) == {"event", "channels"}:
        event, channels = data["event"], data["channels"]
        names = isinstance(channels, list | tuple) and all(isinstance(name, str) for name in channels)
        if not names or not channels:
            raise UsageError("channels of what is removed is a list of names; send the event alone to remove all")
    else:
        raise UsageError(f"what is removed is an event, or an object with `event` and `channels`, not {data!r}")
    if not isinstance(event, str) or event not in EVENTS:
        raise UsageError(f"{event!r} is nothing that can be told; there is {', '.join(EVENTS)}")
    return Removal(event, tuple(channels))


def without(rules: Iterable[Rule], removals: Sequence[Removal]) -> tuple[Rule, ...]:
    """Return what is left of rules."""
    left: list[Rule | None] = list(rules)
    for removal in removals:
        left = [None if rule is None else removal.left_of(rule) for rule in left]
    return tuple(rule for rule in left if rule is not None)
