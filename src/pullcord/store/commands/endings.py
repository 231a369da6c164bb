"""What goes with the end of a run, in the same transaction.

An end that starts others is noted, so that none is ever missed. Nobody is asked for a run that has ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from pullcord.store.commands.happenings import note_run_ends
from pullcord.store.commands.suspending import count_failures
from pullcord.store.statement import dump
from pullcord.store.transaction import Transaction

_NOTE = """
INSERT INTO endings (run_id)
SELECT id FROM runs WHERE id IN VALUES[ids:int] AND state IN ('succeeded', 'failed', 'cancelled') AND test = 0
    AND flow IN (SELECT flow FROM watched_flows)
ON CONFLICT (run_id) DO NOTHING"""

_WITHDRAW = """
UPDATE questions SET state = 'cancelled' WHERE state = 'open' AND run_id IN (
    SELECT id FROM runs WHERE id IN VALUES[ids:int] AND state IN ('succeeded', 'failed', 'cancelled'))"""
_CUT_OFF = """
UPDATE steps SET state = 'interrupted', ended_at = :now WHERE state = 'running' AND EXISTS (
    SELECT 1 FROM questions q JOIN runs r ON r.id = q.run_id
    WHERE q.run_id = steps.run_id AND q.identity = steps.identity AND q.state = 'open'
    AND r.state IN ('succeeded', 'failed', 'cancelled')) AND run_id IN VALUES[ids:int]"""
_FORGET = """
DELETE FROM sleeps WHERE run_id IN (
    SELECT id FROM runs WHERE id IN VALUES[ids:int] AND state IN ('succeeded', 'failed', 'cancelled'))"""


def note_endings(tx: Transaction, ids: Sequence[int]) -> None:
    """Note those of these runs that have ended, for what follows from it. Test runs keep quiet.

    Open questions are withdrawn. Completion triggers start other flows; failures in a row suspend a flow.
    An attempt that failed, of a run that is `scheduled` for another one, can be told too.
    """
    if tx.hints.parked and ids:
        tx.execute(_CUT_OFF, {"ids": dump(list(ids)), "now": tx.now})
        tx.execute(_WITHDRAW, {"ids": dump(list(ids))})
        tx.execute(_FORGET, {"ids": dump(list(ids))})
    if tx.hints.watched and ids:
        tx.execute(_NOTE, {"ids": dump(list(ids))})
        tx.hints.endings = True
    if tx.hints.suspends and ids:
        count_failures(tx, ids)
    if tx.hints.book.anything and ids:
        note_run_ends(tx, ids)
