"""Cancelling: a run with all that it started, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from pydantic_core import from_json

from pullcord.core.errors import NotCancellableError, NotFoundError, StoreError
from pullcord.core.states import ACTIVE, ENDED, RunState
from pullcord.store.commands.endings import note_endings
from pullcord.store.commands.interruptions import settle_steps
from pullcord.store.commands.journal import Ended
from pullcord.store.statement import dump, rows
from pullcord.store.transaction import Transaction

_FAMILY = """
WITH RECURSIVE family(id) AS (
    SELECT id FROM runs WHERE uuid = :uuid
    UNION ALL SELECT r.id FROM runs r JOIN family f ON r.parent_id = f.id
) SELECT EACH[r.id, r.token, r.state, r.lane, r.slot, r.shared, r.owner IS NULL, r.uuid, r.cancel]
FROM runs r JOIN family f ON r.id = f.id"""
_CANCEL = f"""
UPDATE runs SET state = s.state, cancel = s.note, waiting_for = NULL,
    ended_at = CASE WHEN s.state = 'cancelled' THEN :now END
FROM {rows("run:int state note")} AS s WHERE runs.id = s.run"""
_AUDIT = """
INSERT INTO audit (id, at, invoker, action, subject_id, detail)
VALUES (:id, :now, :invoker, 'run.cancel', :run, :detail)"""


@dataclass(frozen=True, slots=True)
class CancelNote:
    """Who cancels, when and why; kept with each run that is cancelled by it.

    Attributes:
        by: the invoker's id.
        at: RFC 3339.
        reason: in the invoker's words.
        force: whether worker processes may be killed for it.
    """

    by: str
    at: str
    reason: str | None
    force: bool


@dataclass(slots=True)
class CancelRun:
    """Cancel a run and its children.

    Attributes:
        uuid: the run's id.
        invoker: who asks.
        reason: why, in the invoker's words.
        force: whether its worker may be killed for it.
        at_text: when, RFC 3339.

    The result is `(uuid, Ended)` for each run that changed. Cancelling a run that is already `cancelling` is no error.
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
        return [_answer(tx, command) for command in commands]


def _answer(tx: Transaction, command: CancelRun) -> list[tuple[str, Ended]] | NotFoundError | NotCancellableError:
    state = tx.value("SELECT state FROM runs WHERE uuid = :uuid", {"uuid": command.uuid})
    if state is None:
        return NotFoundError(f"no run has the id {command.uuid}; `pullcord runs list` shows the latest")
    if state in ENDED:
        return NotCancellableError(f"the run has ended already: {state}", state)
    return cancel_family(tx, command.uuid, CancelNote(command.invoker, command.at_text, command.reason, command.force))


def cancel_family(tx: Transaction, uuid: str, note: CancelNote) -> list[tuple[str, Ended]]:
    """Cancel a run and all that it started, in every generation, and note it in the audit.

    The first note stays: a run that is `cancelling` already keeps it, and changes only when this one has force and that
    one had not. Who calls this tells the engine of the runs that it returns (`Engine.cancel`) when they are on disk.

    Args:
        tx: the transaction.
        uuid: the run's id.
        note: who, when, why and how.

    Returns:
        `(uuid, Ended)` for each run that changed, the run itself first where it did; those that are `cancelling` have a
        worker to be told, even of force that was asked for before. Nothing changes when the run itself has ended.
    """
    family = sorted(tx.array(_FAMILY, {"uuid": uuid}))
    if not family or family[0][2] in ENDED:
        return []
    changed: list[tuple[str, Ended]] = []
    written: list[list[Any]] = []
    for run, token, before, lane, slot, group, orphan, member, earlier in family:
        if before in ENDED or (before == RunState.CANCELLING and not note.force):
            continue
        after = RunState.CANCELLING if before in ACTIVE and not orphan else RunState.CANCELLED
        kept = note if earlier is None else replace(CancelNote(**from_json(earlier)), force=True)
        written.append([run, after, json.dumps(asdict(kept))])
        changed.append((member, Ended(run, token, after)))
        tx.hints.freed(lane, slot, group)
    if written:
        tx.execute(_CANCEL, {"rows": dump(written), "now": tx.now})
        settle_steps(tx, [ended for _, ended in changed if ended.token])
        note_endings(tx, [ended.id for _, ended in changed])
    detail = json.dumps({"reason": note.reason, "force": note.force})
    tx.execute(
        _AUDIT, {"id": tx.next_id("audit"), "now": tx.now, "invoker": note.by, "run": family[0][0], "detail": detail}
    )
    return changed
