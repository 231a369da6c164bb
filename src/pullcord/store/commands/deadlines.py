"""Deadlines: runs that waited too long to start end by themselves, and so do pauses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from pullcord.clock import rfc3339
from pullcord.core.errors import StoreError
from pullcord.core.states import Outcome
from pullcord.store.commands.endings import note_endings
from pullcord.store.commands.pauses import SYSTEM, end_due_pauses
from pullcord.store.statement import dump, rows
from pullcord.store.transaction import Transaction

AT_A_TIME: Final = 1000
"""So many runs expire in one transaction."""

_WAITING = "started_at IS NULL AND state IN ('scheduled', 'queued') AND expires_at IS NOT NULL"
_OVER = f"""
SELECT EACH[id, uuid, flow, test, expires_at] FROM (
    SELECT id, uuid, flow, test, expires_at FROM runs INDEXED BY runs_expiry
    WHERE {_WAITING} AND expires_at <= :at AND id > :floor ORDER BY expires_at LIMIT {AT_A_TIME}) AS found"""
_NEXT = f"""
SELECT min(expires_at) FROM (
    SELECT expires_at FROM runs INDEXED BY runs_expiry
    WHERE {_WAITING} AND id > :floor ORDER BY expires_at LIMIT 1) AS found"""
_END = f"""
UPDATE runs SET state = 'cancelled', ended_at = :now, waiting_for = NULL, cancel = s.cancel, error = s.error
FROM {rows("id:int cancel error")} AS s WHERE runs.id = s.id"""
_TELL = f"""
UPDATE requests SET outcome = '{Outcome.EXPIRED}', reason = s.reason
FROM {rows("id:int reason")} AS s WHERE requests.id = s.id"""
_AUDIT = f"""
INSERT INTO audit (id, at, invoker, action, subject_id)
SELECT :base + rank, :now, '{SYSTEM}', 'run.expire', subject_id FROM {rows("rank:int subject_id:int")} AS s"""


@dataclass(frozen=True, slots=True)
class Expired:
    """A run that has ended because it waited too long to start.

    Attributes:
        uuid: its id.
        flow: its flow's name.
        test: whether it was a test.
    """

    uuid: str
    flow: str
    test: bool


@dataclass(slots=True)
class Met:
    """What became of deadlines.

    Attributes:
        expired: runs that have ended.
        following: when the next deadline is, microseconds; in the past when there are more; None for never.
    """

    expired: list[Expired] = field(default_factory=list)
    following: int | None = None


@dataclass(slots=True)
class MeetDeadlines:
    """End what is over: runs that have not started in time, and pauses.

    Attributes:
        at: the time, microseconds; unlike a transaction's it follows the clock when that goes back.
        floor: only runs with a higher number are looked at.

    The result is a `Met`.
    """

    keep_trying: ClassVar[bool] = True

    at: int
    floor: int
    done: Callable[[Any], None]

    def split(self) -> Sequence[MeetDeadlines]:
        """It takes no values."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[MeetDeadlines]) -> list[Met]:
        """End one after the other; a run that was claimed before is no business of this any more."""
        results = []
        for command in commands:
            expired = expire_runs(tx, command.at, command.floor)
            ends = [end_due_pauses(tx, command.at), tx.value(_NEXT, {"floor": command.floor})]
            results.append(Met(expired, min((end for end in ends if end is not None), default=None)))
        return results


def expire_runs(tx: Transaction, at: int, floor: int = 0) -> list[Expired]:
    """End the runs that have not started by a time, and say so in their requests' rows; a thousand at most."""
    found = tx.array(_OVER, {"at": at, "floor": floor})
    if not found:
        return []
    ends: list[list[Any]] = []
    told: list[list[Any]] = []
    moment = rfc3339(tx.now)
    for number, _, _, _, expires_at in found:
        reason = f"it had not started by {rfc3339(expires_at)}"
        cancel = {"by": SYSTEM, "at": moment, "reason": f"it expired: {reason}", "force": False}
        error = {"type": "expired", "message": reason, "traceback": None}
        ends.append([number, dump(cancel), dump(error)])
        told.append([number, reason])
    tx.execute(_END, {"rows": dump(ends), "now": tx.now})
    tx.execute(_TELL, {"rows": dump(told)})
    ids = [row[0] for row in found]
    audit = dump([[rank, number] for rank, number in enumerate(ids)])
    tx.execute(_AUDIT, {"rows": audit, "now": tx.now, "base": tx.next_id("audit")})
    note_endings(tx, ids)
    return [Expired(uuid, flow, bool(test)) for _, uuid, flow, test, _ in found]
