"""What workers report: step records and ends of runs, refused under a stale token (design rule 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pullcord.core.errors import StoreError
from pullcord.core.states import StepState
from pullcord.store.commands.attempts import follow_up
from pullcord.store.commands.endings import note_endings
from pullcord.store.commands.interruptions import settle_steps
from pullcord.store.commands.progress import save_progress
from pullcord.store.statement import dump, rows
from pullcord.store.transaction import Transaction

IN_WORKER = "runs.state || '' IN ('running', 'waiting', 'cancelling')"
"""Condition on a run that a worker holds. The `|| ''` keeps the planner from walking through the index on states:
such a statement must begin at the rows it was given, and look each run up by its number."""

_HELD = "r.token = s.token AND r.state IN ('running', 'waiting', 'cancelling')"
_STEP_COLUMNS = (
    "kind run:int token:int number:int identity seq:int name attempt:int state started:int ended:int result error"
)
_RECORD = f"""
INSERT INTO steps (run_id, identity, seq, name, attempt, state, started_at, ended_at, result, error)
SELECT s.run, s.identity, s.seq, s.name, s.attempt, s.state, s.started, s.ended, s.result, s.error
FROM {rows(_STEP_COLUMNS)} AS s WHERE EXISTS (SELECT 1 FROM runs r WHERE r.id = s.run AND {_HELD})
ON CONFLICT (run_id, identity) DO UPDATE SET attempt = excluded.attempt, state = excluded.state,
    started_at = excluded.started_at, ended_at = excluded.ended_at, result = excluded.result, error = excluded.error
WHERE steps.state != 'succeeded'"""
_WRITES = f"""
UPDATE steps SET writes = s.writes FROM {rows("run:int identity writes")} AS s
WHERE steps.run_id = s.run AND steps.identity = s.identity"""
_STALE = f"""
SELECT EACH[s.run, s.token]
FROM {rows("run:int token:int")} AS s LEFT JOIN runs r ON r.id = s.run AND {_HELD} WHERE r.id IS NULL"""
_FORGIVE = "UPDATE runs SET losses = 0 WHERE losses > 0 AND id IN VALUES[ids:int]"

_ENDLESS = frozenset({StepState.RUNNING, StepState.INTERRUPTED})

_END_COLUMNS = "kind run:int token:int state result error retry_at:int why anew:int"
_FINISH = f"""
UPDATE runs SET
    state = CASE WHEN runs.state = 'cancelling' THEN 'cancelled'
                 WHEN s.retry_at IS NOT NULL THEN 'scheduled' ELSE s.state END,
    attempt = attempt + CASE WHEN runs.state != 'cancelling' AND s.retry_at IS NOT NULL THEN 1 ELSE 0 END,
    ended_at = CASE WHEN runs.state != 'cancelling' AND s.retry_at IS NOT NULL THEN NULL ELSE :now END,
    not_before = CASE WHEN runs.state = 'cancelling' THEN runs.not_before
                      ELSE coalesce(s.retry_at, runs.not_before) END,
    result = CASE WHEN runs.state = 'cancelling' THEN NULL ELSE s.result END,
    error = CASE WHEN runs.state = 'cancelling' THEN NULL ELSE s.error END,
    waiting_for = CASE WHEN runs.state != 'cancelling' THEN s.why END,
    epoch = CASE WHEN runs.state != 'cancelling' AND s.anew = 1 THEN coalesce(epoch, 1) + 1 ELSE epoch END
FROM {rows(_END_COLUMNS)} AS s
WHERE runs.id = s.run AND runs.token = s.token AND {IN_WORKER}"""
_ENDS = "SELECT EACH[id, token, state, lane, slot, shared] FROM runs WHERE id IN VALUES[ids:int]"


@dataclass(slots=True)
class Recorded:
    """What became of step records.

    Attributes:
        messages: the `step` messages.
        stale: the `(run, token)` among them whose token is stale.
        error: why none of them could be written.
    """

    messages: list[list[Any]]
    stale: set[tuple[int, int]]
    error: StoreError | None = None


@dataclass(slots=True)
class RecordSteps:
    """Write step records.

    Attributes:
        messages: `step` messages as `wire.messages` describes them.

    The result is a `Recorded`.
    """

    keep_trying: ClassVar[bool] = True

    messages: list[list[Any]]
    done: Callable[[Any], None]

    def split(self) -> Sequence[RecordSteps]:
        """One command a record."""
        return [RecordSteps([message], self.done) for message in self.messages]

    def failure(self, error: StoreError) -> Recorded:
        """Return the result when nothing could be written."""
        return Recorded(self.messages, set(), error)

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[RecordSteps]) -> list[Recorded]:
        """Insert or update the records of all runs that still hold their token."""
        messages = [message for command in commands for message in command.messages]
        latest = _latest(messages)
        written = tx.execute(_RECORD, {"rows": dump(latest)})
        stale: set[tuple[int, int]] = set()
        if written != len(latest):
            pairs = dump([[message[1], message[2]] for message in messages])
            stale = {(run, token) for run, token in tx.array(_STALE, {"rows": pairs})}
        writes = [[m[1], m[4], m[13]] for m in latest if m[13] is not None and (m[1], m[2]) not in stale]
        if writes:
            tx.execute(_WRITES, {"rows": dump(writes)})
        # That a step was seen running is no progress: the next crash may be its third.
        progress = [m[1] for m in messages if m[2] > 1 and m[8] not in _ENDLESS and (m[1], m[2]) not in stale]
        if progress:
            tx.execute(_FORGIVE, {"ids": dump(progress)})
        return [Recorded(command.messages, stale) for command in commands]


def _latest(messages: list[list[Any]]) -> list[list[Any]]:
    """Return the last record of each step, or the one that succeeded: a statement must not meet a row twice."""
    kept: dict[tuple[int, int, str], list[Any]] = {}
    for message in messages:
        key = (message[1], message[2], message[4])
        if key not in kept or kept[key][8] != StepState.SUCCEEDED:
            kept[key] = message
    return list(kept.values())


@dataclass(slots=True)
class Ended:
    """How a run ended, or that it will be tried again.

    Attributes:
        id: number of the run.
        token: the token it holds.
        state: an ended state, or `scheduled` before another attempt.
    """

    id: int
    token: int
    state: str


@dataclass(slots=True)
class FinishRuns:
    """End runs, or schedule their next attempts.

    Attributes:
        messages: `finished` messages with the time of the next attempt, or None, appended; beside a time, what the
            run says that it waits for, JSON, and 1 where that attempt begins anew.
        unsettled: numbers of the runs that may have steps without an end; they cost a look at the steps.
        progress: how far these runs were, as `SaveProgress` has it; only of those that said so.

    The result is one `Ended` for each message that was not stale.
    """

    keep_trying: ClassVar[bool] = True

    messages: list[list[Any]]
    done: Callable[[Any], None]
    unsettled: frozenset[int] = frozenset()
    progress: list[list[Any]] = field(default_factory=list)

    def split(self) -> Sequence[FinishRuns]:
        """One command a run."""
        own = {row[0]: row for row in self.progress}
        return [
            FinishRuns([message], self.done, self.unsettled, [own[message[1]]] if message[1] in own else [])
            for message in self.messages
        ]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[FinishRuns]) -> list[list[Ended]]:
        """End all runs that still hold their token; free their slots."""
        messages = [message for command in commands for message in command.messages]
        ids = dump([message[1] for message in messages])
        save_progress(tx, [row for command in commands for row in command.progress])
        written = tx.execute(_FINISH, {"rows": dump(messages), "now": tx.now})
        stale: set[tuple[int, int]] = set()
        if written != len(messages):
            stale = _stale_ends(tx, messages)
        follow_up(tx, messages)
        ends: dict[int, Ended] = {}
        for run_id, token, state, lane, slot, group in tx.array(_ENDS, {"ids": ids}):
            ends[run_id] = Ended(run_id, token, state)
            tx.hints.freed(lane, slot, group)
        unsettled = {run for command in commands for run in command.unsettled}
        if unsettled:
            settle_steps(tx, [ended for run, ended in ends.items() if run in unsettled])
        note_endings(tx, [message[1] for message in messages if (message[1], message[2]) not in stale])
        return [
            [ends[m[1]] for m in command.messages if (m[1], m[2]) not in stale and ends[m[1]].token == m[2]]
            for command in commands
        ]


def _stale_ends(tx: Transaction, messages: list[list[Any]]) -> set[tuple[int, int]]:
    """Return the messages whose run is on another token; those that were just ended are not among them."""
    found = tx.array(
        f"SELECT EACH[s.run, s.token] FROM {rows('run:int token:int')} AS s "
        "LEFT JOIN runs r ON r.id = s.run AND r.token = s.token AND coalesce(r.ended_at, :now) = :now "
        "WHERE r.id IS NULL",
        {"rows": dump([[message[1], message[2]] for message in messages]), "now": tx.now},
    )
    return {(run, token) for run, token in found}
