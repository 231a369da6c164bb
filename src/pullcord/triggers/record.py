"""One trigger as a running server knows it: what the code says, what people changed, and how far it has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import from_json

from pullcord.clock import rfc3339
from pullcord.core.canonical import canonical_json
from pullcord.core.manifest import TriggerSpec
from pullcord.core.trigger import EVENT, SCHEDULES
from pullcord.gate.request import TRIGGER, Invoker, TriggerRef
from pullcord.store.commands.triggers import HistoryRow, Line, TriggerState

HEALTH: Final = ("ok", "failing", "disabled", "unserved", "orphaned")
"""How a trigger can be."""


@dataclass(frozen=True, slots=True)
class Override:
    """What people changed about a trigger at run time; None where the code's value holds.

    Attributes:
        enabled: whether it asks.
        until: end of a pause, microseconds.
        parameters: fixed inputs, or the arguments of an event.
        settings: those settings of its kind that were changed.
        by: id of who changed it last.
        at: when, microseconds.
        reason: why, in that one's words.
        again_until: ticks up to this time, microseconds, all run: a schedule was put back.
    """

    enabled: bool | None = None
    until: int | None = None
    parameters: dict[str, Any] | None = None
    settings: dict[str, Any] | None = None
    by: str = ""
    at: int = 0
    reason: str | None = None
    again_until: int | None = None

    @classmethod
    def read(cls, text: str | None) -> Override | None:
        """Return what a row of the store says."""
        return None if text is None else cls(**from_json(text))

    def write(self) -> str:
        """Return it as the store keeps it."""
        return canonical_json({name: getattr(self, name) for name in self.__slots__})

    def changes(self) -> bool:
        """Say whether anything differs from the code."""
        return any(value is not None for value in (self.enabled, self.parameters, self.settings))

    def as_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {
            "enabled": self.enabled,
            "until": rfc3339(self.until),
            "parameters": self.parameters,
            "settings": self.settings,
            "by": self.by,
            "at": rfc3339(self.at),
            "reason": self.reason,
        }


@dataclass(eq=False, slots=True)
class TriggerRecord:
    """A trigger.

    Attributes:
        id: its number.
        uuid: its id.
        spec: as declared.
        override: what people changed, or None.
        state: how far it has come.
        generation: grows with every change; what was seen under an older one counts no longer.
        registered_at: when it was first declared, microseconds.
        removed_at: when it left the code, microseconds, or None.
        line: the latest line of its history: number, outcome and reason.
        lines: how many lines were added since its history was last trimmed.
        unwritten: what its history does not say yet.
    """

    id: int
    uuid: str
    spec: TriggerSpec
    override: Override | None
    state: TriggerState
    generation: int
    registered_at: int
    removed_at: int | None = None
    line: Line | None = None
    lines: int = 0
    unwritten: HistoryRow | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Its name, unique among all locations."""
        return self.spec.name

    @property
    def kind(self) -> str:
        """What kind of trigger it is."""
        return self.spec.kind

    def enabled(self, now: int) -> bool:
        """Say whether it asks for runs at a time, microseconds."""
        if self.override is None or self.override.enabled is None:
            return self.spec.enabled
        if self.override.until is not None and now >= self.override.until:
            return True
        return self.override.enabled

    @property
    def parameters(self) -> str:
        """Fixed inputs, or the arguments of an event, canonical JSON."""
        if self.override is None or self.override.parameters is None:
            return self.spec.parameters
        return canonical_json(self.override.parameters)

    def settings(self) -> dict[str, Any]:
        """Return the settings of its kind, with what people changed."""
        declared: dict[str, Any] = from_json(self.spec.settings)
        return declared if self.override is None else declared | (self.override.settings or {})

    @property
    def invoker(self) -> Invoker:
        """Return the principal that it asks as."""
        return Invoker(f"trigger:{self.name}", TRIGGER)

    @property
    def ref(self) -> TriggerRef:
        """Return what its requests say they come from."""
        return TriggerRef(self.kind, self.name)

    def why_off(self) -> str:
        """Say in words why it does not ask."""
        if self.override is None or self.override.enabled is None:
            return "it is not enabled in the code"
        reason = f": {self.override.reason}" if self.override.reason else ""
        until = f" until {rfc3339(self.override.until)}" if self.override.until is not None else ""
        return f"{self.override.by} disabled it{until}{reason}"

    def health(self, now: int, served: bool) -> str:
        """Return `orphaned`, `unserved`, `disabled`, `failing` or `ok`.

        Args:
            now: the time, microseconds.
            served: whether the location it comes from is served.
        """
        if self.removed_at is not None:
            return "orphaned"
        if not served:
            return "unserved"
        if not self.enabled(now):
            return "disabled"
        return "failing" if self.state.errors else "ok"

    def as_json(self, now: int, served: bool) -> Mapping[str, Any]:
        """Return the trigger as the API shows it."""
        state, due = self.state, self.enabled(now) and self.removed_at is None and served
        cursor = None if state.cursor is None else from_json(state.cursor)
        return {
            "id": self.uuid,
            "name": self.name,
            "kind": self.kind,
            "flow": self.spec.flows[0] if self.spec.flows else None,
            "flows": list(self.spec.flows),
            "location": self.spec.location,
            "place": self.spec.place,
            "description": self.spec.description,
            "enabled": self.enabled(now),
            "health": self.health(now, served),
            "settings": self.settings(),
            "parameters": from_json(self.parameters),
            "declared": {
                "enabled": self.spec.enabled,
                "settings": from_json(self.spec.settings),
                "parameters": from_json(self.spec.parameters),
            },
            "override": self.override.as_json() if self.override is not None and self.override.changes() else None,
            "next_due": rfc3339(state.next_due) if due else None,
            "last_poll_at": rfc3339(state.last_poll_at),
            "last_fired_at": rfc3339(state.last_fired_at),
            "consecutive_errors": state.errors,
            "error": state.error,
            "cursor": rfc3339(cursor) if self.kind in SCHEDULES else cursor,
            "registered_at": rfc3339(self.registered_at),
            "removed_at": rfc3339(self.removed_at),
        }

    def deduplicates(self) -> bool:
        """Say whether equal fires are one as long as a run of theirs has not ended."""
        return self.kind == EVENT and not self.settings()["allow_concurrent"]
