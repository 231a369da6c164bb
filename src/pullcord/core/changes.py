"""What differs between two manifests: flows that came, went, or changed in version, inputs or settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pullcord.core.manifest import FlowSpec

ADDED, REMOVED, CHANGED = "added", "removed", "changed"
"""What can happen to a flow or to an input."""


@dataclass(frozen=True, slots=True)
class FlowChange:
    """What happened to one flow.

    Attributes:
        flow: its name.
        change: `added`, `removed` or `changed`.
        version: before and after; None where there is none.
        inputs: by name, `added`, `removed` or `changed`.
        settings: by name, the values before and after.
    """

    flow: str
    change: str
    version: tuple[str | None, str | None]
    inputs: dict[str, str] = field(default_factory=dict)
    settings: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the change as a JSON object."""
        return {
            "flow": self.flow,
            "change": self.change,
            "version": {"before": self.version[0], "after": self.version[1]},
            "inputs": self.inputs,
            "settings": {name: {"before": pair[0], "after": pair[1]} for name, pair in self.settings.items()},
        }

    def sentence(self) -> str:
        """Return the change in words, such as `report changed (version 1 to 2, input day added)`."""
        if self.change != CHANGED:
            return f"{self.flow} {self.change}"
        parts = [f"input {name} {change}" for name, change in self.inputs.items()]
        parts += [f"{name} {_word(before)} to {_word(after)}" for name, (before, after) in self.settings.items()]
        if self.version[0] != self.version[1]:
            parts.insert(0, f"version {self.version[0]} to {self.version[1]}")
        return f"{self.flow} changed ({', '.join(parts)})"


def compare(before: Mapping[str, FlowSpec], after: Mapping[str, FlowSpec]) -> list[FlowChange]:
    """Return what differs, by the flows' names. Place and description make no difference to runs, nor here."""
    changes: list[FlowChange] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old is None and new is not None:
            changes.append(FlowChange(name, ADDED, (None, new.version)))
        elif new is None and old is not None:
            changes.append(FlowChange(name, REMOVED, (old.version, None)))
        elif old is not None and new is not None:
            inputs = _inputs(old.input_schema, new.input_schema)
            settings = _settings(old, new)
            if inputs or settings or old.version != new.version:
                changes.append(FlowChange(name, CHANGED, (old.version, new.version), inputs, settings))
    return changes


def _inputs(old: dict[str, Any], new: dict[str, Any]) -> dict[str, str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    found: dict[str, str] = {}
    for name in sorted({*before, *after}):
        if name not in before:
            found[name] = ADDED
        elif name not in after:
            found[name] = REMOVED
        elif _shape(old, name) != _shape(new, name):
            found[name] = CHANGED
    return found


def _shape(schema: dict[str, Any], name: str) -> Any:
    """Return all that the schema says about an input; a type that it refers to may have changed anywhere."""
    part = schema["properties"][name]
    types = schema.get("$defs") if "$ref" in str(part) else None
    return part, name in schema.get("required", []), types


def _settings(old: FlowSpec, new: FlowSpec) -> dict[str, tuple[Any, Any]]:
    before = _parts({**old.settings, "async": old.is_async})
    after = _parts({**new.settings, "async": new.is_async})
    return {
        name: (before.get(name), after.get(name))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }


def _parts(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of how runs are limited as settings of their own, for they change one by one."""
    rule = settings.get("concurrency")
    if not isinstance(rule, dict):
        return settings
    named = {"concurrency" if name == "limit" else f"concurrency {name}": value for name, value in rule.items()}
    return {name: value for name, value in settings.items() if name != "concurrency"} | named


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_word(each)}" for name, each in value.items()) + ")"
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None or value == [] else ", ".join(value) if isinstance(value, list) else str(value)
