"""Runs that would wait for ever: for a slot that their own ancestors hold (design rule 8).

None is admitted. It comes to that when a limit is lowered, or a flow gets another key or group, while a run waits for
its turn or its next attempt: then it fails, as it would have been refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from pullcord.core.states import RunState
from pullcord.store.commands.endings import note_endings
from pullcord.store.commands.interruptions import settle_steps
from pullcord.store.commands.journal import Ended
from pullcord.store.commands.limited import ACTIVE
from pullcord.store.commands.overlap import DEADLOCK, capacity_of
from pullcord.store.statement import dump
from pullcord.store.transaction import Transaction

_OF_THESE: Final = "id IN VALUES[ids:int]"
_OF_ALL: Final = "state IN ('scheduled', 'queued')"
_HELD_BY_ANCESTORS = f"""
WITH RECURSIVE chain(run, up, slot, shared) AS (
    SELECT id, parent_id, slot, shared FROM runs {{index}}
    WHERE {{which}} AND parent_id IS NOT NULL AND slot IS NOT NULL
    UNION ALL
    SELECT c.run, r.parent_id, c.slot, c.shared FROM chain c JOIN runs r ON r.id = c.up
) SELECT EACH[run, key, holder] FROM (
    SELECT c.run, c.slot AS key, r.id AS holder FROM chain c JOIN runs r ON r.id = c.up
    WHERE r.slot = c.slot AND r.{ACTIVE}
    UNION ALL SELECT c.run, c.shared AS key, r.id AS holder FROM chain c JOIN runs r ON r.id = c.up
    WHERE r.shared = c.shared AND r.{ACTIVE}) AS found"""
_AMONG_THESE = _HELD_BY_ANCESTORS.format(index="", which=_OF_THESE)
_AMONG_ALL = _HELD_BY_ANCESTORS.format(index="INDEXED BY runs_state", which=_OF_ALL)
_QUEUED = """
SELECT EACH[id, uuid, token, lane, slot, shared] FROM runs WHERE id IN VALUES[ids:int] AND state || '' = 'queued'"""
_FAIL = """
UPDATE runs SET state = 'failed', ended_at = :now, waiting_for = NULL, error = :error WHERE id IN VALUES[ids:int]"""


def fail_deadlocked_of(tx: Transaction, children: Iterable[int]) -> None:
    """Do it where these runs have just been queued; it costs little where no ancestor holds what they wait for."""
    ids = list(children)
    if ids and tx.array(_AMONG_THESE, {"ids": dump(ids)}):
        fail_deadlocked(tx)


def fail_deadlocked(tx: Transaction) -> None:
    """Fail queued runs where all slots of a limit are held by runs that cannot end before one of them has started.

    Those are the ancestors of the runs that wait for the same limit, be it for their next attempt. Each run that fails
    is noted in the hints, to be told when it is on disk.
    """
    waiting: defaultdict[str, set[int]] = defaultdict(set)
    holders: defaultdict[str, set[int]] = defaultdict(set)
    for run, key, holder in tx.array(_AMONG_ALL, {}):
        waiting[key].add(run)
        holders[key].add(holder)
    stuck = {run for key in holders if len(holders[key]) >= capacity_of(tx, key) for run in waiting[key]}
    found: list[Any] = tx.array(_QUEUED, {"ids": dump(sorted(stuck))}) if stuck else []
    if not found:
        return
    error = {"type": DEADLOCK.code, "message": DEADLOCK.reason, "traceback": None}
    ids = sorted(row[0] for row in found)
    tx.execute(_FAIL, {"ids": dump(ids), "now": tx.now, "error": dump(error)})
    failed = [(row[1], Ended(row[0], row[2], RunState.FAILED)) for row in found]
    for _, _, _, lane, slot, group in found:
        tx.hints.freed(lane, slot, group)
    settle_steps(tx, [ended for _, ended in failed])
    note_endings(tx, ids)
    tx.hints.failed += failed
