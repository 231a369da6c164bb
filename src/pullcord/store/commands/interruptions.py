"""Steps that have no end when their run has one: interrupted, and told as what the run may have left half done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic_core import from_json, to_json

from pullcord.core.interruption import partial_of
from pullcord.core.states import ACTIVE, ENDED, RunState
from pullcord.store.statement import dump, rows
from pullcord.store.transaction import Transaction

if TYPE_CHECKING:
    from pullcord.store.commands.journal import Ended

# Who asks a person does nothing that could be left half done; the question stays, or is withdrawn by `note_endings`.
_INTERRUPT = """
UPDATE steps SET state = 'interrupted', ended_at = :now
WHERE run_id IN VALUES[ids:int] AND state = 'running' AND NOT EXISTS (
    SELECT 1 FROM questions q WHERE q.run_id = steps.run_id AND q.identity = steps.identity AND q.state = 'open')"""
_GIVE_UP = "UPDATE steps SET state = 'failed' WHERE run_id IN VALUES[ids:int] AND state = 'retrying'"
_INTERRUPTED = """
SELECT EACH[run_id, seq, name, writes] FROM steps WHERE run_id IN VALUES[ids:int] AND state = 'interrupted'"""
_PARTIAL = f"UPDATE runs SET partial = s.partial FROM {rows('run:int partial')} AS s WHERE runs.id = s.run"


def settle_steps(tx: Transaction, ended: Iterable[Ended]) -> None:
    """End the steps that were seen running in runs that are executed no longer.

    Of a run that is tried again they are interrupted. In a run that has ended no failed try is followed by another one,
    and one that has failed or was cancelled says in `partial` which steps were interrupted. Call it before
    `note_endings`, for the runs that may have such steps alone.
    """
    left = [run for run in ended if run.state not in ACTIVE]
    if not left:
        return
    tx.execute(_INTERRUPT, {"ids": dump([run.id for run in left]), "now": tx.now})
    over = [run.id for run in left if run.state in ENDED]
    if over:
        tx.execute(_GIVE_UP, {"ids": dump(over)})
    short = [run.id for run in left if run.state in (RunState.FAILED, RunState.CANCELLED)]
    if not short:
        return
    found: dict[int, list[tuple[str, list[str]]]] = {}
    for run, _, name, writes in sorted(tx.array(_INTERRUPTED, {"ids": dump(short)}), key=lambda row: row[:2]):
        found.setdefault(run, []).append((name, [] if writes is None else from_json(writes)))
    if found:
        partials = [[run, to_json(partial_of(steps)).decode()] for run, steps in found.items()]
        tx.execute(_PARTIAL, {"rows": dump(partials)})
