"""Triggers: what is declared, what people changed, and how far each has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pullcord.core.errors import StoreError
from pullcord.store.commands.admit import Admit, Decision
from pullcord.store.commands.ledger import LedgerEntry, insert_requests
from pullcord.store.statement import dump, names, rows
from pullcord.store.transaction import Transaction

_DECLARED = "id:int uuid name kind location place description flows enabled:int parameters settings"
_DECLARE = f"""
INSERT INTO triggers ({names(_DECLARED)}, registered_at)
SELECT {names(_DECLARED)}, :now FROM {rows(_DECLARED)} AS s WHERE true
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, location = excluded.location, place = excluded.place,
    description = excluded.description, flows = excluded.flows, enabled = excluded.enabled,
    parameters = excluded.parameters, settings = excluded.settings, removed_at = NULL"""
_START = f"""
INSERT INTO trigger_state (trigger_id, generation, cursor, next_due, errors)
SELECT id, 0, cursor, next_due, 0 FROM {rows("id:int cursor next_due:int")} AS s WHERE true
ON CONFLICT (trigger_id) DO UPDATE SET next_due = excluded.next_due, generation = trigger_state.generation + 1"""
_STATE = "id:int cursor next_due:int last_poll_at:int last_fired_at:int errors:int error"
_GO_ON = f"""
UPDATE trigger_state SET cursor = s.cursor, next_due = s.next_due, last_poll_at = s.last_poll_at,
    last_fired_at = s.last_fired_at, errors = s.errors, error = s.error
FROM {rows(_STATE)} AS s WHERE trigger_id = s.id"""
_GENERATIONS = "SELECT EACH[trigger_id, generation] FROM trigger_state WHERE trigger_id IN VALUES[ids:int]"
_HISTORY = "id:int trigger_id:int outcome reason detail at:int last_at:int count:int"
_REMEMBER = f"INSERT INTO trigger_history ({names(_HISTORY)}) SELECT {names(_HISTORY)} FROM {rows(_HISTORY)} AS s"
_REPEAT = f"""
UPDATE trigger_history SET last_at = s.last_at, count = count + s.times
FROM {rows("row:int last_at:int times:int")} AS s WHERE trigger_history.id = s.row"""


@dataclass(slots=True)
class TriggerState:
    """How far a trigger has come.

    Attributes:
        cursor: JSON; of a schedule the last tick that was dealt with, microseconds.
        next_due: when it is to be looked at next, microseconds; None for never.
        last_poll_at: when an event was polled last, microseconds.
        last_fired_at: when it last asked for a run, microseconds.
        errors: how many polls have failed in a row.
        error: what was wrong with the last of them.
    """

    cursor: str | None = None
    next_due: int | None = None
    last_poll_at: int | None = None
    last_fired_at: int | None = None
    errors: int = 0
    error: str | None = None


@dataclass(slots=True)
class HistoryRow:
    """A line in a trigger's history.

    Attributes:
        outcome: `fired`, `skipped`, `failed`, `missed`, `changed`, `disabled` or `orphaned`.
        reason: for people.
        detail: JSON, for programs.
        at: when, microseconds.
        last_at: when the last of equal ones was.
        count: how many equal ones the line stands for.
        repeats: number of the line that this one repeats, which it is added to.
    """

    outcome: str
    reason: str | None
    at: int
    last_at: int
    count: int = 1
    detail: str | None = None
    repeats: int | None = None


@dataclass(slots=True)
class Declared:
    """A trigger as it is to be written; `state` is None where what is known goes on."""

    id: int
    uuid: str
    name: str
    kind: str
    location: str
    place: str
    description: str
    flows: str
    enabled: bool
    parameters: str
    settings: str
    cursor: str | None = None
    next_due: int | None = None


@dataclass(slots=True)
class RegisterTriggers:
    """Write triggers that are new or were changed in the code, and mark those that left it.

    Attributes:
        declared: new and changed ones.
        removed: numbers of those that are gone.
        restarted: numbers of those that are of another kind now, so that what they had come to means nothing.
        watched: all flows whose end starts others, from now on.
    """

    keep_trying: ClassVar[bool] = True

    declared: list[Declared]
    removed: list[int]
    restarted: list[int]
    watched: list[str]
    done: Callable[[Any], None]

    def split(self) -> Sequence[RegisterTriggers]:
        """A location's triggers belong together."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[RegisterTriggers]) -> list[None]:
        """Write one registration after the other."""
        for command in commands:
            declared = [
                [d.id, d.uuid, d.name, d.kind, d.location, d.place, d.description, d.flows, int(d.enabled),
                 d.parameters, d.settings]
                for d in command.declared
            ]  # fmt: skip
            tx.execute(_DECLARE, {"rows": dump(declared), "now": tx.now})
            tx.execute(_START, {"rows": dump([[d.id, d.cursor, d.next_due] for d in command.declared])})
            if command.restarted:
                tx.execute(
                    "UPDATE trigger_state SET cursor = NULL, errors = 0, error = NULL "
                    "WHERE trigger_id IN VALUES[ids:int]",
                    {"ids": dump(command.restarted)},
                )
            if command.removed:
                tx.execute(
                    "UPDATE triggers SET removed_at = :now WHERE id IN VALUES[ids:int]",
                    {"ids": dump(command.removed), "now": tx.now},
                )
            tx.execute("DELETE FROM watched_flows", {})
            watched = dump([[flow] for flow in command.watched])
            tx.execute(f"INSERT INTO watched_flows (flow) SELECT flow FROM {rows('flow')} AS s", {"rows": watched})
            tx.hints.watched = bool(command.watched)
        return [None] * len(commands)


@dataclass(slots=True)
class ChangeTrigger:
    """Write what somebody changed about a trigger at run time. What it was doing meanwhile counts no longer.

    Attributes:
        id: its number.
        override: JSON, or None where the code's values hold.
        state: how far it has come, from now on.
        history: what the history says of it.
        invoker: who changed it.
        action: the same for the audit.
    """

    keep_trying: ClassVar[bool] = False

    id: int
    override: str | None
    state: TriggerState
    history: HistoryRow
    invoker: str
    action: str
    done: Callable[[Any], None]

    def split(self) -> Sequence[ChangeTrigger]:
        """One change is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[ChangeTrigger]) -> list[int]:
        """Write one change after the other; the results are the new generations."""
        generations = []
        for command in commands:
            tx.execute(
                "UPDATE triggers SET override = :override WHERE id = :id",
                {"override": command.override, "id": command.id},
            )
            tx.execute(
                "UPDATE trigger_state SET generation = generation + 1 WHERE trigger_id = :id", {"id": command.id}
            )
            _write_states(tx, [(command.id, command.state)])
            _write_history(tx, [(command.id, command.history)])
            tx.execute(
                "INSERT INTO audit (id, at, invoker, action, detail) VALUES (:id, :now, :invoker, :action, :detail)",
                {
                    "id": tx.next_id("audit"),
                    "now": tx.now,
                    "invoker": command.invoker,
                    "action": command.action,
                    "detail": command.history.detail,
                },
            )
            found = tx.array(_GENERATIONS, {"ids": dump([command.id])})
            generations.append(int(found[0][1]))
        return generations


@dataclass(slots=True)
class Fired:
    """What became of a `FireTrigger`.

    Attributes:
        admitted: each request that was to be admitted, and what was decided.
        row: number of the line in the history, or None where none was asked for.
    """

    admitted: list[tuple[Admit, Decision]]
    row: int | None


@dataclass(slots=True)
class FireTrigger:
    """Write what a trigger has seen: its requests, and how far it has come, in one transaction or not at all.

    Attributes:
        id: the trigger's number.
        generation: of the trigger when it looked; when it was changed meanwhile, nothing is written.
        state: how far it has come.
        admits: requests to be admitted.
        notes: requests that become no run: refused, missed, skipped.
        history: a line for its history.
        endings: numbers of ended runs that this deals with.

    The result is a `Fired`, or None when the trigger was changed meanwhile.
    """

    keep_trying: ClassVar[bool] = False

    id: int
    generation: int
    state: TriggerState
    done: Callable[[Any], None]
    admits: list[Admit] = field(default_factory=list)
    notes: list[LedgerEntry] = field(default_factory=list)
    history: HistoryRow | None = None
    endings: list[int] = field(default_factory=list)

    def split(self) -> Sequence[FireTrigger]:
        """What a trigger has seen belongs together."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[FireTrigger]) -> list[Fired | None]:
        """Admit, note and go on; vectorised over all triggers of the batch."""
        found = dict(tx.array(_GENERATIONS, {"ids": dump([command.id for command in commands])}))
        good = [command for command in commands if found.get(command.id) == command.generation]
        decisions = iter(Admit.apply(tx, [admit for command in good for admit in command.admits]))
        base = tx.next_id("requests")
        notes = [note for command in good for note in command.notes]
        if notes:
            insert_requests(tx, [(base + offset, note) for offset, note in enumerate(notes)])
        _write_states(tx, [(command.id, command.state) for command in good])
        lines = iter(_write_history(tx, [(c.id, c.history) for c in good if c.history is not None]))
        endings = [run for command in good for run in command.endings]
        if endings:
            tx.execute("DELETE FROM endings WHERE run_id IN VALUES[ids:int]", {"ids": dump(endings)})
        fired = {
            id(command): Fired(
                [(admit, next(decisions)) for admit in command.admits], None if command.history is None else next(lines)
            )
            for command in good
        }
        return [fired.get(id(command)) for command in commands]


def _write_states(tx: Transaction, states: list[tuple[int, TriggerState]]) -> None:
    """Write how far triggers have come; of one trigger the last word counts."""
    last = {
        number: [number, s.cursor, s.next_due, s.last_poll_at, s.last_fired_at, s.errors, s.error]
        for number, s in states
    }
    if last:
        tx.execute(_GO_ON, {"rows": dump(list(last.values()))})


def _write_history(tx: Transaction, lines: list[tuple[int, HistoryRow]]) -> list[int]:
    """Write lines of histories and return their numbers."""
    if not lines:
        return []
    base = tx.next_id("trigger_history")
    numbers: list[int] = []
    fresh: list[list[Any]] = []
    repeats: list[list[int]] = []
    for trigger, line in lines:
        if line.repeats is not None:
            numbers.append(line.repeats)
            repeats.append([line.repeats, line.last_at, line.count])
            continue
        number = base + len(fresh)
        numbers.append(number)
        fresh.append([number, trigger, line.outcome, line.reason, line.detail, line.at, line.last_at, line.count])
    if fresh:
        tx.execute(_REMEMBER, {"rows": dump(fresh)})
    if repeats:
        tx.execute(_REPEAT, {"rows": dump(repeats)})
    return numbers


@dataclass(slots=True)
class TrimHistory:
    """Keep only the newest lines of a trigger's history.

    Attributes:
        id: the trigger's number.
        keep: how many lines.
    """

    keep_trying: ClassVar[bool] = False

    id: int
    keep: int
    done: Callable[[Any], None]

    def split(self) -> Sequence[TrimHistory]:
        """One trigger is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[TrimHistory]) -> list[None]:
        """Delete what is older, one trigger after the other."""
        for command in commands:
            oldest = tx.value(
                "SELECT id FROM trigger_history WHERE trigger_id = :id ORDER BY id DESC LIMIT 1 OFFSET :keep",
                {"id": command.id, "keep": command.keep},
            )
            if oldest is not None:
                tx.execute(
                    "DELETE FROM trigger_history WHERE trigger_id = :id AND id <= :oldest",
                    {"id": command.id, "oldest": oldest},
                )
        return [None] * len(commands)
