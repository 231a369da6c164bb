"""Attempts that failed and are followed by another one: what is kept of them, and of their steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pullcord.store.statement import dump, rows
from pullcord.store.transaction import Transaction

RETRY_TEXT: Final = '{"kind":"retry"'
"""What `waiting_for` begins with while a run waits for its next attempt."""

_KEEP = f"""
INSERT INTO attempts (run_id, attempt, started_at, ended_at, error, next_at)
SELECT r.id, r.attempt - 1, coalesce(r.attempt_started_at, r.started_at), :now, r.error, r.not_before
FROM {rows("run:int token:int")} AS s JOIN runs r ON r.id = s.run AND r.token = s.token
WHERE r.state || '' = 'scheduled' AND r.ended_at IS NULL
ON CONFLICT (run_id, attempt) DO NOTHING"""
_SET_ASIDE = """
UPDATE steps SET set_aside = r.attempt - 1 FROM runs r
WHERE r.id = steps.run_id AND steps.run_id IN VALUES[ids:int] AND steps.set_aside IS NULL
AND r.state || '' = 'scheduled'"""
# Nobody reads what is answered to a beginning that does not count any longer: it is asked anew.
_BEGUN_ANEW = "run_id IN (SELECT id FROM runs WHERE state || '' = 'scheduled' AND id IN VALUES[ids:int])"
_CUT_OFF = f"""
UPDATE steps SET state = 'interrupted', ended_at = :now WHERE state = 'running' AND {_BEGUN_ANEW} AND EXISTS (
    SELECT 1 FROM questions q WHERE q.run_id = steps.run_id AND q.identity = steps.identity AND q.state = 'open')"""
_WITHDRAW = f"UPDATE questions SET state = 'cancelled' WHERE state = 'open' AND {_BEGUN_ANEW}"
_REOPEN = """
UPDATE steps SET state = 'retrying' WHERE state = 'failed' AND set_aside IS NULL
AND run_id IN (SELECT id FROM runs WHERE state || '' = 'scheduled' AND id IN VALUES[ids:int])"""
_COPY = f"""
INSERT INTO steps (run_id, identity, seq, name, attempt, state, started_at, ended_at, result, kept)
SELECT w.run, s.identity, s.seq, s.name, s.attempt, s.state, s.started_at, s.ended_at, s.result, 1
FROM {rows("run:int origin:int")} AS w JOIN steps s ON s.run_id = w.origin
WHERE s.state = 'succeeded' AND s.set_aside IS NULL"""


def follow_up(tx: Transaction, messages: Sequence[list[Any]]) -> None:
    """Keep what is known of attempts that another one follows, in the transaction that schedules it.

    Steps that failed are tried again. Where the next attempt begins anew, no record counts any longer: they stay for
    history, and open questions are withdrawn.

    Args:
        tx: the transaction.
        messages: `finished` messages with what `FinishRuns` appends, of runs that it has just scheduled.
    """
    retried = [message for message in messages if message[6] is not None]
    if not retried:
        return
    tx.execute(_KEEP, {"rows": dump([[message[1], message[2]] for message in retried]), "now": tx.now})
    anew = [message[1] for message in retried if len(message) > 8 and message[8]]
    if anew:
        tx.execute(_SET_ASIDE, {"ids": dump(anew)})
        if tx.hints.parked:
            tx.execute(_CUT_OFF, {"ids": dump(anew), "now": tx.now})
            tx.execute(_WITHDRAW, {"ids": dump(anew)})
    tx.execute(_REOPEN, {"ids": dump([message[1] for message in retried])})


def keep_records(tx: Transaction, pairs: Sequence[tuple[int, int]]) -> None:
    """Give resumed runs the results that their origins recorded, in the transaction that admits them.

    They are copies: an origin that is pruned later takes nothing from the run.

    Args:
        tx: the transaction.
        pairs: numbers of the run and of its origin.
    """
    if pairs:
        tx.execute(_COPY, {"rows": dump([list(pair) for pair in pairs])})
