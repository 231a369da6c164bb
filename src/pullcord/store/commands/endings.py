"""Runs that have ended and whose end starts others or is told: noted with the end, so that no end is ever missed."""

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


def note_endings(tx: Transaction, ids: Sequence[int]) -> None:
    """Note those of these runs that have ended, for what follows from it. Test runs keep quiet.

    Completion triggers start other flows; failures in a row suspend a flow.
    An attempt that failed, of a run that is `scheduled` for another one, can be told too.
    """
    if tx.hints.watched and ids:
        tx.execute(_NOTE, {"ids": dump(list(ids))})
        tx.hints.endings = True
    if tx.hints.suspends and ids:
        count_failures(tx, ids)
    if tx.hints.book.anything and ids:
        note_run_ends(tx, ids)
