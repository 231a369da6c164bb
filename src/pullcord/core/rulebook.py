"""All rules of all flows, and which of them hold: from the code, from the settings, and from people at run time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Final

from pullcord.core.errors import DefinitionError, UsageError
from pullcord.core.manifest import FlowSpec
from pullcord.core.notify import FAILED, FAILING, Rule, make_rule, rule_of

CODE, SETTINGS, PEOPLE = "code", "settings", "people"
"""Where a rule can come from."""

WINDOW: Final = 300_000_000
"""Microseconds after a message within which further happenings of its kind are gathered, unless the channel differs."""


@dataclass(frozen=True, slots=True)
class DefaultRule:
    """A rule of the settings.

    Attributes:
        rule: what is told to whom.
        flows: pattern of flow names, as in a shell.
        tags: flows with any of these tags; empty is all flows.
    """

    rule: Rule
    flows: str = "*"
    tags: frozenset[str] = frozenset()

    def covers(self, flow: str, tags: Iterable[str]) -> bool:
        """Say whether the rule is about a flow."""
        return fnmatchcase(flow, self.flows) and (not self.tags or not self.tags.isdisjoint(tags))


def read_defaults(value: Any) -> tuple[DefaultRule, ...]:
    """Read the `notify` tables of the settings.

    Raises:
        UsageError: one cannot be.
    """
    if not isinstance(value, list | tuple):
        raise UsageError("notify is a list of tables, [[tool.pullcord.notify]], each with events and channels")
    return tuple(rule for table in value for rule in _defaults(table))


def _defaults(table: Any) -> list[DefaultRule]:
    known = {"events", "channels", "flows", "tags", "count", "factor", "after"}
    if isinstance(table, DefaultRule):
        return [table]
    if not isinstance(table, Mapping) or set(table) - known:
        raise UsageError(f"a table of notify has {', '.join(sorted(known))}, and nothing else; not {table!r}")
    events, flows, tags = table.get("events"), table.get("flows", "*"), table.get("tags", [])
    if not isinstance(events, list) or not events or not all(isinstance(event, str) for event in events):
        raise UsageError("events of notify is a list, for example ['run.failed', 'run.recovered']")
    if not isinstance(flows, str) or not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise UsageError("flows of notify is a pattern of flow names, for example 'etl-*', and tags a list of words")
    options = {name: table[name] for name in ("count", "factor", "after") if name in table}
    found = []
    for event in events:
        takes = {"count"} if event == FAILING else {"factor", "after"} if event == "run.long" else set()
        try:
            more = {name: value for name, value in options.items() if name in takes or len(events) == 1}
            found.append(DefaultRule(make_rule(event, table.get("channels", ()), **more), flows, frozenset(tags)))
        except DefinitionError as error:
            raise UsageError(f"notify: {error.message}") from None
    return found


@dataclass(frozen=True, slots=True)
class Change:
    """What people changed for a flow at run time.

    Attributes:
        rules: rules that hold in addition.
        muted: whether nothing is told of the flow.
        until: when it is told of again, microseconds; None for when somebody says so.
        by: who changed it last.
        at: when, microseconds.
        reason: why.
    """

    rules: tuple[Rule, ...] = ()
    muted: bool = False
    until: int | None = None
    by: str = ""
    at: int = 0
    reason: str | None = None

    def mutes(self, now: int) -> bool:
        """Say whether nothing is told at a time, microseconds."""
        return self.muted and (self.until is None or now < self.until)

    def as_json(self) -> dict[str, Any]:
        """Return the change as it is stored."""
        rules = [rule.as_json() for rule in self.rules]
        more = {"muted": self.muted, "until": self.until, "by": self.by, "at": self.at, "reason": self.reason}
        return {"rules": rules} | more


def change_of(data: Mapping[str, Any]) -> Change:
    """Read a change as it was stored."""
    return Change(**{**data, "rules": tuple(map(rule_of, data["rules"]))})


@dataclass(frozen=True, slots=True)
class Book:
    """All rules. Never changed: a change is a new book.

    Attributes:
        defaults: the rules of the settings.
        windows: for channels that differ from `WINDOW`, microseconds.
        flows: the rules in the code of flows, and their tags.
        changes: what people changed, by flow.
    """

    defaults: tuple[DefaultRule, ...] = ()
    windows: Mapping[str, int] = field(default_factory=dict)
    flows: Mapping[str, tuple[tuple[Rule, ...], tuple[str, ...]]] = field(default_factory=dict)
    changes: Mapping[str, Change] = field(default_factory=dict)
    anything: bool = False
    _found: dict[str, dict[str, list[Rule]]] = field(default_factory=dict, compare=False, repr=False)

    def with_flows(self, specs: Sequence[FlowSpec]) -> Book:
        """Return a book with these flows as they are declared now."""
        flows = {spec.name: entry for spec in specs if (entry := self._entry(spec)) is not None}
        gone = [spec.name for spec in specs if spec.name not in flows and spec.name in self.flows]
        if not flows and not gone:
            return self
        kept = {name: entry for name, entry in self.flows.items() if name not in gone}
        return replace(self, flows=kept | flows).ready()

    def with_change(self, flow: str, change: Change | None) -> Book:
        """Return a book with what people changed for a flow; None is nothing."""
        others = {name: each for name, each in self.changes.items() if name != flow}
        return replace(self, changes=others if change is None else others | {flow: change}).ready()

    def ready(self) -> Book:
        """Return the book as it is used."""
        told = any(rules for rules, _ in self.flows.values()) or any(change.rules for change in self.changes.values())
        return replace(self, anything=bool(self.defaults) or told, _found={})

    def _entry(self, spec: FlowSpec) -> tuple[tuple[Rule, ...], tuple[str, ...]] | None:
        tags = tuple(spec.tags)
        rules = code_rules(spec)
        return (rules, tags) if rules or (tags and self.defaults) else None

    def rules(self, flow: str) -> dict[str, list[Rule]]:
        """Return the rules that hold for a flow, by event; whether it is muted is another question."""
        found = self._found.get(flow)
        if found is None:
            found = {}
            for _, rule in self.sourced(flow):
                found.setdefault(rule.event, []).append(rule)
            self._found[flow] = found
        return found

    def sourced(self, flow: str) -> list[tuple[str, Rule]]:
        """Return the rules that hold for a flow with where each comes from."""
        rules, tags = self.flows.get(flow, ((), ()))
        change = self.changes.get(flow)
        return [
            *((CODE, rule) for rule in rules),
            *((SETTINGS, default.rule) for default in self.defaults if default.covers(flow, tags)),
            *((PEOPLE, rule) for rule in (() if change is None else change.rules)),
        ]

    def mentions(self, event: str) -> bool:
        """Say whether any rule is about an event."""
        every = [
            *(default.rule for default in self.defaults),
            *(rule for rules, _ in self.flows.values() for rule in rules),
            *(rule for change in self.changes.values() for rule in change.rules),
        ]
        return any(rule.event == event for rule in every)

    def muted(self, flow: str, now: int) -> bool:
        """Say whether nothing is told of a flow at a time, microseconds."""
        change = self.changes.get(flow)
        return change is not None and change.mutes(now)

    def channels(self, flow: str, event: str, now: int) -> list[str]:
        """Return the channels that are told of an event of a flow at a time, microseconds."""
        if self.muted(flow, now):
            return []
        return list(dict.fromkeys(name for rule in self.rules(flow).get(event, ()) for name in rule.channels))

    def window(self, channel: str) -> int:
        """Return for how long happenings of one kind are gathered after a message, microseconds."""
        return self.windows.get(channel, WINDOW)

    def named(self) -> dict[str, str]:
        """Return every channel that a rule names, with the name of a flow or the place where it does."""
        found: dict[str, str] = {}
        for default in self.defaults:
            found |= dict.fromkeys(default.rule.channels, "the settings")
        for flow, (rules, _) in self.flows.items():
            found |= dict.fromkeys((name for rule in rules for name in rule.channels), f"flow {flow}")
        for flow, change in self.changes.items():
            found |= dict.fromkeys((name for rule in change.rules for name in rule.channels), f"flow {flow}")
        return found


def code_rules(spec: FlowSpec) -> tuple[Rule, ...]:
    """Return the rules of a flow's code; of a manifest that an older version wrote, what can be read."""
    return tuple(rule_of(data) for data in spec.settings.get("notify", ()))


def tells_failures(rules: Mapping[str, list[Rule]]) -> bool:
    """Say whether a flow's rules tell of failures, so that a recovery is one from a failure that was told."""
    return FAILED in rules or FAILING in rules
