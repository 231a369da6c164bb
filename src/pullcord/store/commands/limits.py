"""Limits: declared by code, configured by settings, changed by people while the server runs (design rule 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pydantic_core import from_json

from pullcord.core.concurrency import NO_LIMIT, Concurrency, concurrency_of, group_key
from pullcord.core.errors import NotFoundError, StoreError
from pullcord.core.manifest import REMOVED, FlowSpec
from pullcord.store.commands.deadlocks import fail_deadlocked
from pullcord.store.commands.lifecycle import rebuild_hints
from pullcord.store.statement import dump, rows
from pullcord.store.transaction import Transaction

UNDECLARED: Final = 1
"""The limit of a group that nobody gave one, as that of a flow."""

UNENDED = "state IN ('scheduled', 'queued', 'running', 'waiting', 'cancelling')"

_COLUMNS = "key declared:int shared shared_limit:int rule capacity:int"
_DECLARE = f"""
INSERT INTO slots (key, declared, shared, shared_limit, rule, capacity, changed_at)
SELECT key, declared, shared, shared_limit, rule, capacity, :now FROM {rows(_COLUMNS)} AS s WHERE true
ON CONFLICT (key) DO UPDATE SET declared = excluded.declared, shared = excluded.shared,
    shared_limit = excluded.shared_limit, rule = excluded.rule, capacity = excluded.capacity,
    changed_at = excluded.changed_at"""
_KNOWN = "SELECT EACH[key, declared, configured, override, shared, rule] FROM slots WHERE key IN VALUES[keys]"
_GROUPS = """
SELECT EACH[shared, least] FROM (SELECT shared, min(shared_limit) AS least FROM slots
    WHERE shared IN VALUES[groups] GROUP BY shared) AS found"""
_RELABEL = f"""
UPDATE runs SET slot = s.slot, shared = s.shared FROM {rows("flow slot shared")} AS s WHERE runs.flow = s.flow
    AND (coalesce(runs.slot, '') != coalesce(s.slot, '') OR coalesce(runs.shared, '') != coalesce(s.shared, ''))
    AND runs.{UNENDED} AND runs.lane NOT LIKE '%#{REMOVED}'"""
_OF_A_KEY = f"""
SELECT EACH[id, inputs] FROM runs WHERE flow = :flow AND {UNENDED} AND lane NOT LIKE '%#{REMOVED}'
    AND (:all = 1 OR slot IS NULL OR coalesce(shared, '') != :group)"""
_RELABEL_ONE = f"""
UPDATE runs SET slot = s.slot, shared = s.shared FROM {rows("id:int slot shared")} AS s WHERE runs.id = s.id"""


_LEFT = """
SELECT EACH[key, shared] FROM slots WHERE shared IS NOT NULL
    AND key IN (SELECT name FROM flows WHERE removed_at IS NOT NULL)"""


def declare_limits(tx: Transaction, specs: Sequence[FlowSpec]) -> None:
    """Write what the code of flows says of their limits, and count all their runs that have not ended by it.

    What people have changed stays.
    """
    wanted = {spec.name: spec.concurrency for spec in specs}
    named = {concurrency.shared for concurrency in wanted.values() if concurrency.shared is not None}
    known = _known(tx, [*wanted, *named])
    lines = []
    for name, concurrency in wanted.items():
        row = known.get(name, _NOTHING)
        group = concurrency.group
        capacity = _effective(concurrency.limit, None, row["override"], NO_LIMIT)
        shared_limit = None if group is None else group.limit
        lines.append([name, concurrency.limit, concurrency.shared, shared_limit, concurrency.key, capacity])
    tx.execute(_DECLARE, {"rows": dump(lines), "now": tx.now})
    removed = tx.array(_LEFT, {})
    left = {row["shared"] for row in known.values() if row["shared"] is not None} | {row[1] for row in removed}
    if removed:
        gone = dump([row[0] for row in removed])
        tx.execute("UPDATE slots SET shared = NULL, shared_limit = NULL WHERE key IN VALUES[gone]", {"gone": gone})
    declare_groups(tx, named | left)
    labels = []
    for name, concurrency in wanted.items():
        row = known.get(name, _NOTHING)
        if concurrency.key is None:
            slot = concurrency.slot(name, "{}", row["override"] is not None)
            labels.append([name, slot, concurrency.shared])
        else:
            _relabel(tx, name, concurrency, concurrency.key != row["rule"])
    if labels:
        tx.execute(_RELABEL, {"rows": dump(labels)})


def declare_groups(tx: Transaction, groups: set[str]) -> None:
    """Write the limits of groups: the lowest that a flow of theirs declares, unless settings or people say another."""
    if not groups:
        return
    known = _known(tx, sorted(groups))
    declared: dict[str, int | None] = dict.fromkeys(groups)
    declared |= {row[0]: row[1] for row in tx.array(_GROUPS, {"groups": dump(sorted(groups))})}
    lines = []
    for key in sorted(groups):
        row = known.get(key, _NOTHING)
        capacity = _effective(declared[key], row["configured"], row["override"], UNDECLARED)
        lines.append([key, declared[key], None, None, None, capacity])
    tx.execute(_DECLARE, {"rows": dump(lines), "now": tx.now})


@dataclass(slots=True)
class ConfigureGroups:
    """Write the limits that the settings give to groups, by name; those that are not there any more go.

    Attributes:
        limits: how many runs of each group may be active at once.
    """

    keep_trying: ClassVar[bool] = False

    limits: Mapping[str, int]
    done: Callable[[Any], None]

    def split(self) -> Sequence[ConfigureGroups]:
        """The settings are one."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[ConfigureGroups]) -> list[None]:
        """Write the last of them."""
        limits = {group_key(name): limit for name, limit in commands[-1].limits.items()}
        before = {row[0] for row in tx.array("SELECT EACH[key] FROM slots WHERE configured IS NOT NULL", {})}
        if before or limits:
            tx.execute("UPDATE slots SET configured = NULL WHERE configured IS NOT NULL", {})
            declare_groups(tx, before | limits.keys())
            tx.execute(
                f"UPDATE slots SET configured = s.configured FROM {rows('key configured:int')} AS s "
                "WHERE slots.key = s.key",
                {"rows": dump(sorted(limits.items()))},
            )
            declare_groups(tx, set(limits))
            fail_deadlocked(tx)
            rebuild_hints(tx)
        return [None] * len(commands)


@dataclass(slots=True)
class ChangeLimit:
    """Change a limit while the server runs, or give it back to code and settings.

    Attributes:
        key: a flow's name, or a group's as `group:NAME`.
        override: `{"limit", "by", "at", "reason"}`, a limit of None being no limit; None gives it back.
        invoker: who asks.
        reason: why.

    The result is None, or a `NotFoundError`.
    """

    keep_trying: ClassVar[bool] = False

    key: str
    override: dict[str, Any] | None
    invoker: str
    reason: str | None
    done: Callable[[Any], None]

    def split(self) -> Sequence[ChangeLimit]:
        """One limit is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[ChangeLimit]) -> list[Any]:
        """Change one after the other."""
        results = [_change(tx, command) for command in commands]
        fail_deadlocked(tx)
        rebuild_hints(tx)
        return results


def _change(tx: Transaction, command: ChangeLimit) -> NotFoundError | None:
    row = _known(tx, [command.key]).get(command.key)
    if row is None:
        return NotFoundError(f"there is no limit called {command.key!r}; `pullcord limits list` shows all")
    text = None if command.override is None else dump(command.override)
    fallback = UNDECLARED if command.key.startswith(group_key("")) else NO_LIMIT
    tx.execute(
        "UPDATE slots SET override = :override, capacity = :capacity, changed_at = :now WHERE key = :key",
        {
            "override": text,
            "capacity": _effective(row["declared"], row["configured"], text, fallback),
            "key": command.key,
            "now": tx.now,
        },
    )
    # A flow without a limit of its own is counted only while it has one.
    found = tx.value("SELECT spec FROM flows WHERE name = :name", {"name": command.key})
    if found is not None and not concurrency_of(from_json(found)["settings"].get("concurrency")).counted:
        label = [command.key, command.key if text is not None else None, None]
        tx.execute(_RELABEL, {"rows": dump([label])})
    tx.execute(
        "INSERT INTO audit (id, at, invoker, action, detail) VALUES (:id, :now, :invoker, 'limit.change', :detail)",
        {
            "id": tx.next_id("audit"),
            "now": tx.now,
            "invoker": command.invoker,
            "detail": dump({"limit": command.key, "reason": command.reason, "override": command.override}),
        },
    )
    return None


_NOTHING: Final[dict[str, Any]] = {"declared": None, "configured": None, "override": None, "shared": None, "rule": None}


def _known(tx: Transaction, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    found = tx.array(_KNOWN, {"keys": dump(list(keys))})
    return {row[0]: dict(zip(_NOTHING, row[1:], strict=True)) for row in found}


def _effective(declared: int | None, configured: int | None, override: str | None, otherwise: int) -> int:
    """Return the limit that holds: what people say, else the settings, else the code."""
    if override is not None:
        limit: int | None = from_json(override)["limit"]
        return NO_LIMIT if limit is None else limit
    if configured is not None:
        return configured
    return otherwise if declared is None else declared


def _relabel(tx: Transaction, flow: str, concurrency: Concurrency, everything: bool) -> None:
    """Count the runs of a flow by the present value of its key: another key, or runs that were not counted."""
    wanted = {"flow": flow, "all": int(everything), "group": concurrency.shared or ""}
    found = tx.array(_OF_A_KEY, wanted)
    labels = [[run_id, concurrency.slot(flow, inputs), concurrency.shared] for run_id, inputs in found]
    if labels:
        tx.execute(_RELABEL_ONE, {"rows": dump(labels)})
