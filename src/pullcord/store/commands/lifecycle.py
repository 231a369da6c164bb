"""The other changes of a run: lost workers, waiting, due times, cancelling, and the start of a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pullcord.core.errors import NotCancellableError, NotFoundError, StoreError
from pullcord.core.manifest import ISOLATED
from pullcord.core.states import ACTIVE, ENDED, RunState
from pullcord.store.commands.endings import note_endings
from pullcord.store.commands.journal import IN_WORKER, Ended
from pullcord.store.commands.rules import load_rules
from pullcord.store.statement import dump, rows
from pullcord.store.transaction import Transaction

MAX_LOSSES: Final = 3
"""After so many losses without a new record a run fails with `worker_lost` (design rule 6)."""

_LOSE = f"""
UPDATE runs SET
    state = CASE WHEN runs.state = 'cancelling' THEN 'cancelled'
                 WHEN losses + s.blame >= {MAX_LOSSES} THEN 'failed' ELSE 'running' END,
    ended_at = CASE WHEN runs.state = 'cancelling' OR losses + s.blame >= {MAX_LOSSES} THEN :now END,
    error = CASE WHEN runs.state != 'cancelling' AND losses + s.blame >= {MAX_LOSSES} THEN s.error END,
    owner = NULL, takeovers = takeovers + 1, losses = losses + s.blame, waiting_for = NULL,
    lane = CASE WHEN s.blame > 0 THEN rtrim(lane, replace(lane, '#', '')) || '{ISOLATED}' ELSE lane END
FROM {rows("run:int token:int blame:int error")} AS s
WHERE runs.id = s.run AND runs.token = s.token AND {IN_WORKER}"""
_STATES = "SELECT EACH[id, token, state, lane, slot, shared] FROM runs WHERE id IN VALUES[ids:int]"
_WAIT = f"""
UPDATE runs SET state = CASE WHEN s.text IS NULL THEN 'running' ELSE 'waiting' END, waiting_for = s.text
FROM {rows("run:int token:int text")} AS s
WHERE runs.id = s.run AND runs.token = s.token AND {IN_WORKER} AND runs.state != 'cancelling'"""
_DUE = """
SELECT EACH[id, lane, slot, priority] FROM (
    SELECT id, lane, slot, priority FROM runs INDEXED BY runs_due
    WHERE state = 'scheduled' AND not_before <= :at ORDER BY not_before LIMIT 1000) AS found"""
_BACK = "UPDATE runs SET not_before = not_before - :back WHERE state = 'scheduled' AND attempt > 1"
_NEXT_DUE = "SELECT min(not_before) FROM runs INDEXED BY runs_due WHERE state = 'scheduled'"
_FAMILY = """
WITH RECURSIVE family(id) AS (
    SELECT id FROM runs WHERE uuid = :uuid
    UNION ALL SELECT r.id FROM runs r JOIN family f ON r.parent_id = f.id
) SELECT EACH[r.id, r.token, r.state, r.lane, r.slot, r.shared, r.owner IS NULL, r.uuid]
FROM runs r JOIN family f ON r.id = f.id"""


@dataclass(slots=True)
class LoseRuns:
    """Take runs from a worker that is gone; they go on elsewhere from their last record.

    Attributes:
        runs: `[run, token, blame, error_json]`; blame is 1 when the run may be why the worker died.

    The result is one `Ended` for each, `running` when it goes on.
    """

    keep_trying: ClassVar[bool] = True

    runs: list[list[Any]]
    done: Callable[[Any], None]

    def split(self) -> Sequence[LoseRuns]:
        """One command a run."""
        return [LoseRuns([run], self.done) for run in self.runs]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[LoseRuns]) -> list[list[Ended]]:
        """Free the runs of their worker."""
        lost = [run for command in commands for run in command.runs]
        tx.execute(_LOSE, {"rows": dump(lost), "now": tx.now})
        tx.hints.orphans = True
        note_endings(tx, [run[0] for run in lost])
        found = states_of(tx, [run[0] for run in lost])
        return [[found[run[0]] for run in command.runs if run[0] in found] for command in commands]


@dataclass(slots=True)
class SetWaiting:
    """Say what a run waits for, or that it goes on.

    Attributes:
        run: number of the run.
        token: its token.
        text: JSON `{"kind", "text"}`, or None when it goes on.
    """

    keep_trying: ClassVar[bool] = True

    run: int
    token: int
    text: str | None
    done: Callable[[Any], None]

    def split(self) -> Sequence[SetWaiting]:
        """One change is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[SetWaiting]) -> list[None]:
        """Write the last word for each run."""
        last = {(command.run, command.token): command.text for command in commands}
        tx.execute(_WAIT, {"rows": dump([[run, token, text] for (run, token), text in last.items()])})
        return [None] * len(commands)


@dataclass(slots=True)
class QueueDue:
    """Queue the scheduled runs whose time has come.

    Attributes:
        at: the time, microseconds; unlike a transaction's it follows the clock when that goes back.
        back: by how much the clock went back since the last time; attempts that wait for their turn go back with it.

    The result is the next time one is due, microseconds, or None.
    """

    keep_trying: ClassVar[bool] = True

    at: int
    back: int
    done: Callable[[Any], None]

    def split(self) -> Sequence[QueueDue]:
        """It takes no values."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[QueueDue]) -> list[int | None]:
        """Move due runs to their queues, a thousand at a time."""
        back = sum(command.back for command in commands)
        if back:
            tx.execute(_BACK, {"back": back})
        due = tx.array(_DUE, {"at": max(command.at for command in commands)})
        if due:
            tx.execute(
                "UPDATE runs SET state = 'queued', queued_at = :now WHERE id IN VALUES[ids:int]",
                {"ids": dump([row[0] for row in due]), "now": tx.now},
            )
            for _, lane, slot, priority in due:
                tx.hints.queued(lane, slot, priority)
        following = tx.value(_NEXT_DUE, {})
        return [following] * len(commands)


@dataclass(slots=True)
class CancelRun:
    """Cancel a run and its children.

    Attributes:
        uuid: the run's id.
        invoker: who asks.
        reason: why, in the invoker's words.
        force: whether its worker may be killed for it.
        at_text: when, RFC 3339.

    The result is `(uuid, Ended)` for each run that changed, the run itself first. Cancelling a run that is already
    `cancelling` is no error.
    """

    keep_trying: ClassVar[bool] = False

    uuid: str
    invoker: str
    reason: str | None
    force: bool
    at_text: str
    done: Callable[[Any], None]

    def split(self) -> Sequence[CancelRun]:
        """One run is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[CancelRun]) -> list[Any]:
        """Cancel one after the other."""
        return [_cancel(tx, command) for command in commands]


def _cancel(tx: Transaction, command: CancelRun) -> list[tuple[str, Ended]] | NotFoundError | NotCancellableError:
    found = tx.array("SELECT EACH[id, state] FROM runs WHERE uuid = :uuid", {"uuid": command.uuid})
    if not found:
        return NotFoundError(f"no run has the id {command.uuid}; `pullcord runs list` shows the latest")
    run_id, state = found[0]
    if state in ENDED:
        return NotCancellableError(f"the run has ended already: {state}", state)
    note = {"by": command.invoker, "at": command.at_text, "reason": command.reason, "force": command.force}
    changed = cancel_family(tx, command.uuid, json.dumps(note))
    tx.execute(
        "INSERT INTO audit (id, at, invoker, action, subject_id, detail) "
        "VALUES (:id, :now, :invoker, 'run.cancel', :run, :detail)",
        {
            "id": tx.next_id("audit"),
            "now": tx.now,
            "invoker": command.invoker,
            "run": run_id,
            "detail": json.dumps({"reason": command.reason, "force": command.force}),
        },
    )
    return changed


def cancel_family(tx: Transaction, uuid: str, note: str) -> list[tuple[str, Ended]]:
    """Cancel a run and all its children that have not ended.

    Args:
        tx: the transaction.
        uuid: the run's id.
        note: who, when and why, JSON.

    Returns:
        `(id, Ended)` for each run that changed, the run itself first.
    """
    changed: list[tuple[str, Ended]] = []
    for run_id, token, before, lane, slot, group, orphan, member in sorted(tx.array(_FAMILY, {"uuid": uuid})):
        if before in ENDED:
            continue
        after = RunState.CANCELLING if before in ACTIVE and not orphan else RunState.CANCELLED
        ended = tx.now if after is RunState.CANCELLED else None
        tx.execute(
            "UPDATE runs SET state = :after, cancel = :cancel, ended_at = :ended, waiting_for = NULL WHERE id = :id",
            {"after": after, "cancel": note, "ended": ended, "id": run_id},
        )
        changed.append((member, Ended(run_id, token, after)))
        tx.hints.freed(lane, slot, group)
    note_endings(tx, [ended.id for _, ended in changed])
    return changed


@dataclass(slots=True)
class Start:
    """The first command of a server: whatever an earlier one was executing has lost its worker.

    That is nobody's fault, so it does not count towards `MAX_LOSSES`. The result is the next due time.
    """

    keep_trying: ClassVar[bool] = False

    done: Callable[[Any], None]

    def split(self) -> Sequence[Start]:
        """It takes no values."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[Start]) -> list[int | None]:
        """Orphan active runs and rebuild the hints from the rows."""
        tx.hints.watched = bool(tx.value("SELECT count(*) FROM watched_flows", {}))
        load_rules(tx)
        stopped = [row[0] for row in tx.array("SELECT EACH[id] FROM runs WHERE state = 'cancelling'", {})]
        tx.execute(
            "UPDATE runs SET state = 'cancelled', ended_at = :now, owner = NULL WHERE state = 'cancelling'",
            {"now": tx.now},
        )
        note_endings(tx, stopped)
        tx.execute(
            "UPDATE runs SET state = 'running', owner = NULL, takeovers = takeovers + 1, waiting_for = NULL "
            "WHERE state IN ('running', 'waiting') AND owner IS NOT NULL",
            {},
        )
        tx.hints.orphans = True
        rebuild_hints(tx)
        following = tx.value(_NEXT_DUE, {})
        return [following] * len(commands)


def rebuild_hints(tx: Transaction) -> None:
    """Find every lane and slot that has queued runs."""
    lanes = "SELECT DISTINCT lane FROM runs WHERE state = 'queued' AND slot IS NULL"
    slots = (
        "SELECT lane, slot, max(priority) AS priority FROM runs WHERE state = 'queued' AND slot IS NOT NULL "
        "GROUP BY lane, slot ORDER BY min(id)"
    )
    tx.hints.lanes |= {row[0] for row in tx.array(f"SELECT EACH[lane] FROM ({lanes}) AS found", {})}
    tx.hints.queues, tx.hints.blocked = {}, {}
    for lane, slot, priority in tx.array(f"SELECT EACH[lane, slot, priority] FROM ({slots}) AS found", {}):
        tx.hints.queued(lane, slot, priority)


def states_of(tx: Transaction, ids: list[int]) -> dict[int, Ended]:
    """Return where runs are now, and note their slots as possibly free."""
    result: dict[int, Ended] = {}
    for run_id, token, state, lane, slot, group in tx.array(_STATES, {"ids": dump(ids)}):
        result[run_id] = Ended(run_id, token, state)
        tx.hints.freed(lane, slot, group)
    return result
