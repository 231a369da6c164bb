"""Flows that fail again and again are paused, in the transaction in which the run ends that was one too many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic_core import from_json

from pullcord.core.manifest import FlowSpec
from pullcord.core.notify import SUSPENDED
from pullcord.core.states import RunState
from pullcord.store.commands.happenings import note_happening
from pullcord.store.commands.pauses import SYSTEM, Pause, begin_pause, pauses
from pullcord.store.statement import dump, rows
from pullcord.store.transaction import Transaction

SHOWN: Final = 200
"""So many characters of the last error are told."""

# What ended before, and is reported again under a stale token, has another time.
_ENDED = """
SELECT EACH[id, flow, state, error] FROM runs WHERE id IN VALUES[ids:int] AND state IN ('succeeded', 'failed')
    AND test = 0 AND ended_at = :now AND flow IN (SELECT flow FROM failures)"""
_COUNTED = "SELECT EACH[flow, in_a_row, suspend_after] FROM failures WHERE flow IN VALUES[flows]"
_COUNT = f"""
UPDATE failures SET in_a_row = s.in_a_row FROM {rows("flow in_a_row:int")} AS s WHERE failures.flow = s.flow"""
_WATCH = f"""
INSERT INTO failures (flow, suspend_after, in_a_row)
SELECT flow, suspend_after, 0 FROM {rows("flow suspend_after:int")} AS s WHERE true
ON CONFLICT (flow) DO UPDATE SET suspend_after = excluded.suspend_after"""


def count_failures(tx: Transaction, ids: Sequence[int]) -> None:
    """Count failures in a row of the flows that are suspended for them; a success begins anew.

    Test runs do not count. A cancelled run neither counts nor begins anew.
    """
    fresh = [number for number in dict.fromkeys(ids) if number not in tx.hints.counted]
    ended = {row[0]: row for row in tx.array(_ENDED, {"ids": dump(fresh), "now": tx.now})}
    tx.hints.counted |= ended.keys()
    if not ended:
        return
    found = tx.array(_COUNTED, {"flows": dump(sorted({row[1] for row in ended.values()}))})
    in_a_row = {row[0]: row[1] for row in found}
    most = {row[0]: row[2] for row in found}
    last: dict[str, str | None] = {}
    for number in fresh:
        if number in ended:
            _, flow, state, error = ended[number]
            in_a_row[flow] = in_a_row[flow] + 1 if state == RunState.FAILED else 0
            if state == RunState.FAILED and in_a_row[flow] >= most[flow]:
                last[flow] = error
    tx.execute(_COUNT, {"rows": dump([list(pair) for pair in in_a_row.items()])})
    known = pauses(tx) if last else {}
    for flow, error in last.items():
        # Somebody's pause without an end says at least as much; one with an end would let the flow go on by itself.
        if in_a_row[flow] >= most[flow] and (flow not in known or known[flow].until is not None):
            _suspend(tx, flow, in_a_row[flow], error)


def _suspend(tx: Transaction, flow: str, failures: int, error: str | None) -> None:
    """Pause a flow for its failures. The one place where that happens: whoever is to be told of it is told here."""
    what = "no recorded error" if error is None else _told(from_json(error))
    runs = "its last run failed with" if failures == 1 else f"its last {failures} runs failed, the last one with"
    reason = f"{runs} {what}. Mend it, then `pullcord flows resume {flow}`"
    begin_pause(tx, Pause(flow, tx.now, None, SYSTEM, reason), "flow.suspend")
    note_happening(tx, SUSPENDED, flow, detail={"text": reason})


def _told(error: dict[str, Any]) -> str:
    text = " ".join(f"{error.get('type')}: {error.get('message')}".split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def watch_failures(tx: Transaction, specs: Sequence[FlowSpec]) -> None:
    """Take over from flows that are registered after how many failures in a row they are suspended."""
    wanted = [[spec.name, most] for spec in specs if (most := spec.quotas.suspend_after) is not None]
    if not wanted and not tx.hints.suspends:
        return
    others = [spec.name for spec in specs if spec.quotas.suspend_after is None]
    tx.execute("DELETE FROM failures WHERE flow IN VALUES[flows]", {"flows": dump(others)})
    tx.execute(_WATCH, {"rows": dump(wanted)})
    tx.hints.suspends = bool(tx.value("SELECT count(*) FROM failures", {}))
