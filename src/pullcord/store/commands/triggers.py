"""Triggers: what is declared, what people changed, and how far each has come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from pydantic_core import from_json

from pullcord.core.errors import StoreError
from pullcord.core.notify import TRIGGER_DISABLED
from pullcord.core.states import Outcome
from pullcord.store.commands.admit import Admit, Decision, admit_together
from pullcord.store.commands.happenings import note_happening
from pullcord.store.commands.ledger import LedgerEntry, insert_requests
from pullcord.store.statement import dump, names, rows
from pullcord.store.transaction import Transaction

_DECLARED = "id:int uuid name kind location place description flows enabled:int parameters settings"
_DECLARE = f"""
INSERT INTO triggers ({names(_DECLARED)}, registered_at)
SELECT {names(_DECLARED)}, :now FROM {rows(_DECLARED)} AS s WHERE true
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, location = excluded.location, place = excluded.place,
    description = excluded.description, flows = excluded.flows, enabled = excluded.enabled,
    parameters = excluded.parameters, settings = excluded.settings, removed_at = NULL,
    override = CASE WHEN triggers.kind = excluded.kind THEN triggers.override END"""
_START = f"""
INSERT INTO trigger_state (trigger_id, generation, next_due, errors)
SELECT id, generation, next_due, 0 FROM {rows("id:int generation:int next_due:int")} AS s WHERE true
ON CONFLICT (trigger_id) DO UPDATE SET next_due = excluded.next_due, generation = excluded.generation"""
_MOVE = f"""
UPDATE trigger_state SET cursor = s.cursor FROM {rows("id:int cursor")} AS s WHERE trigger_id = s.id"""
_STATE = "id:int cursor next_due:int last_poll_at:int last_fired_at:int errors:int error"
_GO_ON = f"""
UPDATE trigger_state SET cursor = s.cursor, next_due = s.next_due, last_poll_at = s.last_poll_at,
    last_fired_at = s.last_fired_at, errors = s.errors, error = s.error
FROM {rows(_STATE)} AS s WHERE trigger_id = s.id"""
_GENERATIONS = "SELECT EACH[trigger_id, generation] FROM trigger_state WHERE trigger_id IN VALUES[ids:int]"
_CURSORS = "SELECT EACH[trigger_id, cursor] FROM trigger_state WHERE trigger_id IN VALUES[ids:int]"
_HISTORY = "id:int trigger_id:int outcome reason detail at:int last_at:int count:int"
_REMEMBER = f"INSERT INTO trigger_history ({names(_HISTORY)}) SELECT {names(_HISTORY)} FROM {rows(_HISTORY)} AS s"
_REPEAT = f"""
UPDATE trigger_history SET last_at = s.last_at, count = count + s.times
FROM {rows("row:int last_at:int times:int")} AS s WHERE trigger_history.id = s.row"""


DIGEST: Final = "triggers:"
"""What the name of a location's digest begins with."""

HOUR: Final = 3_600_000_000
"""Microseconds."""

SHOWN: Final = 20
"""So many runs are named in a line of a history; the ledger has them all."""


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


FIRED, DEDUPLICATED, REFUSED, DISABLED = "fired", "deduplicated", "refused", "disabled"
"""Outcomes of lines in a trigger's history: it made runs, repeated what runs do already, was refused, or disabled."""

_OUTCOMES: Final = {
    Outcome.ADMITTED: FIRED,
    Outcome.DEDUPLICATED: DEDUPLICATED,
    Outcome.SKIPPED: "skipped",
}

Line = tuple[int, str, str | None]
"""A line of a trigger's history: its number, outcome and reason."""


@dataclass(slots=True)
class HistoryRow:
    """A line in a trigger's history.

    Attributes:
        outcome: `fired`, `deduplicated`, `refused`, `skipped`, `missed`, `failed`, `changed` or `disabled`.
        reason: for people.
        detail: JSON, for programs.
        at: when, microseconds.
        last_at: when the last of equal ones was.
        count: how many equal ones the line stands for.
        previous: number, outcome and reason of the latest line there is: an equal one is added to it.
    """

    outcome: str
    reason: str | None
    at: int
    last_at: int
    count: int = 1
    detail: str | None = None
    previous: Line | None = None

    @property
    def repeats(self) -> bool:
        """Whether it says the same as the line before. What made runs has a line of its own."""
        return self.previous is not None and self.previous[1:] == (self.outcome, self.reason) and self.outcome != FIRED


@dataclass(slots=True)
class Declared:
    """A trigger as it is to be written; `cursor` is a list of one, or None, which leaves it where it is."""

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
    generation: int
    cursor: list[str | None] | None
    next_due: int | None


@dataclass(slots=True)
class RegisterTriggers:
    """Write triggers that are new or were changed in the code, and mark those that left it.

    Attributes:
        location: name of the location that they come from.
        digest: what stands for all triggers of the location when this is written; None where that is not known.
        declared: new and changed ones.
        removed: numbers of those that are gone.
        restarted: numbers of those that are of another kind now, so that what they had come to means nothing.
        watched: all flows whose end starts others, from now on.

    The result is where the declared ones go on from: what they saw last may have been written just before.
    """

    keep_trying: ClassVar[bool] = True

    location: str
    digest: str | None
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
    def apply(cls, tx: Transaction, commands: Sequence[RegisterTriggers]) -> list[dict[int, str | None]]:
        """Write one registration after the other."""
        results: list[dict[int, str | None]] = []
        for command in commands:
            declared = [
                [d.id, d.uuid, d.name, d.kind, d.location, d.place, d.description, d.flows, int(d.enabled),
                 d.parameters, d.settings]
                for d in command.declared
            ]  # fmt: skip
            tx.execute(_DECLARE, {"rows": dump(declared), "now": tx.now})
            if command.restarted:
                tx.execute(
                    "DELETE FROM trigger_state WHERE trigger_id IN VALUES[ids:int]", {"ids": dump(command.restarted)}
                )
            states = [[d.id, d.generation, d.next_due] for d in command.declared]
            tx.execute(_START, {"rows": dump(states)})
            moved = [[d.id, d.cursor[0]] for d in command.declared if d.cursor is not None]
            if moved:
                tx.execute(_MOVE, {"rows": dump(moved)})
            if command.removed:
                tx.execute(
                    "UPDATE triggers SET removed_at = :now WHERE id IN VALUES[ids:int]",
                    {"ids": dump(command.removed), "now": tx.now},
                )
            tx.execute("DELETE FROM meta WHERE name = :name", {"name": f"{DIGEST}{command.location}"})
            if command.digest is not None:
                tx.execute(
                    "INSERT INTO meta (name, value) VALUES (:name, :value)",
                    {"name": f"{DIGEST}{command.location}", "value": command.digest},
                )
            tx.execute("DELETE FROM watched_flows", {})
            watched = dump([[flow] for flow in command.watched])
            tx.execute(f"INSERT INTO watched_flows (flow) SELECT flow FROM {rows('flow')} AS s", {"rows": watched})
            tx.hints.watched = bool(command.watched)
            results.append(dict(tx.array(_CURSORS, {"ids": dump([d.id for d in command.declared])})))
        return results


@dataclass(slots=True)
class ChangeTrigger:
    """Write what somebody changed about a trigger at run time. What it was doing meanwhile counts no longer.

    Attributes:
        id: its number.
        override: JSON, or None where the code's values hold.
        cursor: where it goes on from, JSON, as a list of one; None leaves it where it is.
        next_due: when it is to be looked at next, microseconds.
        errors: how many polls have failed in a row, from now on.
        history: what the history says of it.
        invoker: who changed it.

    The result is its new generation and its cursor.
    """

    keep_trying: ClassVar[bool] = False

    id: int
    override: str | None
    cursor: list[str | None] | None
    next_due: int | None
    errors: int
    history: HistoryRow
    invoker: str
    done: Callable[[Any], None]

    def split(self) -> Sequence[ChangeTrigger]:
        """One change is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[ChangeTrigger]) -> list[tuple[int, str | None]]:
        """Write one change after the other."""
        return [_change(tx, command) for command in commands]


def _change(tx: Transaction, command: ChangeTrigger) -> tuple[int, str | None]:
    tx.execute(
        "UPDATE triggers SET override = :override WHERE id = :id", {"override": command.override, "id": command.id}
    )
    tx.execute(
        "UPDATE trigger_state SET generation = generation + 1, next_due = :due, errors = :errors, "
        "error = CASE WHEN :errors > 0 THEN error END WHERE trigger_id = :id",
        {"due": command.next_due, "errors": command.errors, "id": command.id},
    )
    if command.cursor is not None:
        tx.execute(_MOVE, {"rows": dump([[command.id, command.cursor[0]]])})
    _write_history(tx, [(command.id, command.history)])
    tx.execute(
        "INSERT INTO audit (id, at, invoker, action, subject_id, detail) "
        "VALUES (:id, :now, :invoker, 'trigger.change', :subject, :detail)",
        {
            "id": tx.next_id("audit"),
            "now": tx.now,
            "invoker": command.invoker,
            "subject": command.id,
            "detail": command.history.detail,
        },
    )
    if command.history.outcome == DISABLED:
        name, flows = tx.array("SELECT EACH[name, flows] FROM triggers WHERE id = :id", {"id": command.id})[0]
        flow, *also = from_json(flows)
        note_happening(tx, TRIGGER_DISABLED, flow, detail={"trigger": name, "text": command.history.reason}, also=also)
    generation, cursor = tx.array(
        "SELECT EACH[generation, cursor] FROM trigger_state WHERE trigger_id = :id", {"id": command.id}
    )[0]
    return generation, cursor


@dataclass(slots=True)
class Fired:
    """What became of a `FireTrigger`.

    Attributes:
        admitted: each request that was to be admitted, and what was decided.
        line: the line in the history, or None where none was asked for.
        held: why nothing was written but a row in the ledger: a request was refused for what passes.
    """

    admitted: list[tuple[Admit, Decision]]
    line: Line | None
    held: Decision | None = None


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
        fired: dict[int, Fired] = {}
        held: list[LedgerEntry] = []
        for command, decided in zip(good, admit_together(tx, [command.admits for command in good]), strict=True):
            if isinstance(decided, Decision):
                fired[id(command)] = Fired([], None, decided)
                held += _held(tx, command, decided)
            else:
                fired[id(command)] = Fired(list(zip(command.admits, decided, strict=True)), None)
        good = [command for command in good if fired[id(command)].held is None]
        base = tx.next_id("requests")
        notes = [*(note for command in good for note in command.notes), *held]
        if notes:
            insert_requests(tx, [(base + offset, note) for offset, note in enumerate(notes)])
        _write_states(tx, [(command.id, command.state) for command in good])
        written: list[tuple[int, HistoryRow]] = []
        for command in good:
            if command.history is not None:
                _tell(command.history, fired[id(command)].admitted)
                written.append((command.id, command.history))
        lines = iter(_write_history(tx, written))
        for command in good:
            fired[id(command)].line = None if command.history is None else next(lines)
        _forget(tx, [run for command in good for run in command.endings])
        return [fired.get(id(command)) for command in commands]


def _held(tx: Transaction, command: FireTrigger, decision: Decision) -> list[LedgerEntry]:
    """Return what the ledger says of requests that will be made again: those of an hour share a row."""
    flows = {admit.entry.flow: admit.entry for admit in reversed(command.admits)}
    return [
        entry.become(
            Outcome.REJECTED,
            code=decision.code,
            reason=decision.reason,
            repeat_key=f"held:{command.id}:{flow}:{decision.code}:{tx.now // HOUR}",
        )
        for flow, entry in flows.items()
    ]


def _write_states(tx: Transaction, states: list[tuple[int, TriggerState]]) -> None:
    """Write how far triggers have come; of one trigger the last word counts."""
    last = {
        number: [number, s.cursor, s.next_due, s.last_poll_at, s.last_fired_at, s.errors, s.error]
        for number, s in states
    }
    if last:
        tx.execute(_GO_ON, {"rows": dump(list(last.values()))})


def _tell(history: HistoryRow, admitted: list[tuple[Admit, Decision]]) -> None:
    """Say in the history what became of the requests; the reason that it has is about those that became none."""
    if not admitted:
        return
    counts = Counter(decision.outcome for _, decision in admitted)
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    refused = (Outcome.SKIPPED, Outcome.REJECTED)
    why = next((decision.reason for _, decision in admitted if decision.outcome in refused), None)
    if why is not None:
        words = f"{words}: {why}"
    history.reason = words if history.reason is None else f"{words}; {history.reason}"
    history.outcome = next((name for outcome, name in _OUTCOMES.items() if counts[outcome]), REFUSED)
    runs = [decision.run_uuid for _, decision in admitted if decision.outcome is Outcome.ADMITTED]
    history.detail = dump({"runs": runs[:SHOWN], **from_json(history.detail or "{}")})


def _write_history(tx: Transaction, lines: list[tuple[int, HistoryRow]]) -> list[Line]:
    """Write lines of histories and return them."""
    if not lines:
        return []
    base = tx.next_id("trigger_history")
    written: list[Line] = []
    fresh: list[list[Any]] = []
    repeats: dict[int, list[int]] = {}
    for trigger, line in lines:
        if line.repeats and line.previous is not None:
            number = line.previous[0]
            before = repeats.setdefault(number, [number, 0, 0])
            before[1:] = [line.last_at, before[2] + line.count]
        else:
            number = base + len(fresh)
            fresh.append([number, trigger, line.outcome, line.reason, line.detail, line.at, line.last_at, line.count])
        written.append((number, line.outcome, line.reason))
    if fresh:
        tx.execute(_REMEMBER, {"rows": dump(fresh)})
    if repeats:
        tx.execute(_REPEAT, {"rows": dump(list(repeats.values()))})
    return written


@dataclass(slots=True)
class DropEndings:
    """Forget ends of runs that start nothing.

    Attributes:
        runs: numbers of the runs.
    """

    keep_trying: ClassVar[bool] = False

    runs: list[int]
    done: Callable[[Any], None]

    def split(self) -> Sequence[DropEndings]:
        """Numbers poison nothing."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[DropEndings]) -> list[None]:
        """Delete the notes."""
        _forget(tx, [run for command in commands for run in command.runs])
        return [None] * len(commands)


def _forget(tx: Transaction, endings: list[int]) -> None:
    if endings:
        tx.execute("DELETE FROM endings WHERE run_id IN VALUES[ids:int]", {"ids": dump(endings)})


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
