"""The other changes of a run: lost workers, waiting, due times, and the start of a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pullcord.core.errors import StoreError
from pullcord.core.manifest import ISOLATED
from pullcord.core.states import RunState
from pullcord.store.commands.attempts import RETRY_TEXT
from pullcord.store.commands.deadlocks import fail_deadlocked_of
from pullcord.store.commands.endings import note_endings
from pullcord.store.commands.interruptions import settle_steps
from pullcord.store.commands.journal import IN_WORKER, Ended
from pullcord.store.commands.pauses import pauses, set_aside
from pullcord.store.commands.rates import forget_rates
from pullcord.store.commands.rules import load_rules
from pullcord.store.commands.waits import any_parked
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
WHERE runs.id = s.run AND runs.token = s.token AND {IN_WORKER} AND runs.state != 'cancelling' AND owner IS NOT NULL"""
_DUE = """
SELECT EACH[id, lane, slot, priority, parent_id] FROM (
    SELECT id, lane, slot, priority, parent_id FROM runs INDEXED BY runs_due
    WHERE state = 'scheduled' AND not_before <= :at ORDER BY not_before LIMIT 1000) AS found"""
_BACK = "UPDATE runs SET not_before = not_before - :back WHERE state = 'scheduled' AND attempt > 1"
_NEXT_DUE = "SELECT min(not_before) FROM runs INDEXED BY runs_due WHERE state = 'scheduled'"
_EXPIRES = """
SELECT count(*) FROM (SELECT 1 FROM runs INDEXED BY runs_expiry
    WHERE started_at IS NULL AND state IN ('scheduled', 'queued') AND expires_at IS NOT NULL LIMIT 1) AS found"""


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
        found = states_of(tx, [run[0] for run in lost])
        settle_steps(tx, found.values())
        note_endings(tx, list(found))
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
                "UPDATE runs SET state = 'queued', queued_at = :now, "
                f"waiting_for = CASE WHEN waiting_for NOT LIKE '{RETRY_TEXT}%' THEN waiting_for END "
                "WHERE id IN VALUES[ids:int]",
                {"ids": dump([row[0] for row in due]), "now": tx.now},
            )
            for _, lane, slot, priority, _ in due:
                tx.hints.queued(lane, slot, priority)
            fail_deadlocked_of(tx, [run for run, _, _, _, parent in due if parent is not None])
            if tx.hints.paused:
                set_aside(tx, list(pauses(tx).values()))
        following = tx.value(_NEXT_DUE, {})
        return [following] * len(commands)


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
        tx.hints.suspends = bool(tx.value("SELECT count(*) FROM failures", {}))
        tx.hints.paused = bool(tx.value("SELECT count(*) FROM pauses", {}))
        tx.hints.expires = bool(tx.value(_EXPIRES, {}))
        forget_rates(tx)
        load_rules(tx)
        stopping = tx.array("SELECT EACH[id, token] FROM runs WHERE state = 'cancelling'", {})
        tx.hints.parked = any_parked(tx)
        tx.execute(
            "UPDATE runs SET state = 'cancelled', ended_at = :now, owner = NULL WHERE state = 'cancelling'",
            {"now": tx.now},
        )
        settle_steps(tx, [Ended(run, token, RunState.CANCELLED) for run, token in stopping])
        note_endings(tx, [run for run, _ in stopping])
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
