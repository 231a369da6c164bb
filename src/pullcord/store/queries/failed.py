"""Runs that failed and may be wanted again, and those among them that need not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from pullcord.core.failures import original
from pullcord.store.connection import Connection
from pullcord.store.queries.runs import parsed
from pullcord.store.statement import dump

MOST: Final = 10_000
"""No more runs are found at once; the oldest come first."""

RETRIED, CHILD, TEST, SUCCEEDED = "already_retried", "child", "test", "succeeded_since"
"""Why a failed run need not be asked for again: it was already, its parent is, it was a test, or a later run with the
same inputs has succeeded."""

# A new run that was cancelled did not do the work: another one took its place, or it expired.
_FAILED: Final = """
SELECT r.uuid, r.id, r.flow, r.flow_version, r.inputs, r.error, CASE
    WHEN EXISTS (SELECT 1 FROM runs n WHERE n.resumed_from = r.id AND n.state <> 'cancelled')
      OR EXISTS (SELECT 1 FROM runs n WHERE n.rerun_of = r.id AND n.state <> 'cancelled') THEN 'already_retried'
    WHEN r.parent_id IS NOT NULL THEN 'child' WHEN r.test = 1 THEN 'test' END,
    (SELECT uuid FROM runs WHERE id = (SELECT max(n.id) FROM (
        SELECT id FROM runs WHERE resumed_from = r.id UNION ALL SELECT id FROM runs WHERE rerun_of = r.id) AS n))
FROM runs r INDEXED BY runs_state WHERE r.state = 'failed' AND r.ended_at >= :since AND r.ended_at < :until"""
_LATER: Final = """
SELECT id, flow, inputs FROM runs INDEXED BY runs_flow
WHERE flow IN VALUES[flows] AND id > :first AND state = 'succeeded' AND test = 0"""


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that may be asked for again.

    Attributes:
        id: its id.
        number: its number.
        flow: its flow.
        flow_version: version of the code that it ran with.
        error: type of its error.
        inputs: digest of its inputs.
        after: id of the last run that was asked for in its place, where there is one; it was cancelled.
    """

    id: str
    number: int
    flow: str
    flow_version: str
    error: str
    inputs: bytes
    after: str | None = None


@dataclass(slots=True)
class Failures:
    """What was found.

    Attributes:
        runs: those that may be asked for again, oldest first.
        skipped: how many need not be, by flow, type of error and why.
        more: whether there are more than `MOST`.
    """

    runs: list[FailedRun] = field(default_factory=list)
    skipped: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    more: bool = False


def find_failed(connection: Connection, since: int, until: int, flow: str | None, error: str | None) -> Failures:
    """Return the runs that failed within a time.

    Args:
        connection: a reader.
        since: they ended at or after, microseconds.
        until: and before.
        flow: of one flow.
        error: with this type of error, with or without its module.
    """
    found = Failures()
    one = "" if flow is None else " AND r.flow = :flow"
    parameters = {"since": since, "until": until} | ({} if flow is None else {"flow": flow})
    for row in connection.execute(f"{_FAILED}{one} ORDER BY r.id", parameters):
        kind, _ = original(parsed(row[5]))
        if error is not None and error not in (kind, kind.rpartition(".")[2]):
            continue
        if row[6] is not None:
            found.skipped[row[2], kind, row[6]] += 1
        elif len(found.runs) == MOST:
            found.more = True
        else:
            found.runs.append(FailedRun(row[0], row[1], row[2], row[3], kind, _digest(row[4]), row[7]))
    latest = _successes(connection, found.runs)
    for run in [run for run in found.runs if latest.get((run.flow, run.inputs), 0) > run.number]:
        found.skipped[run.flow, run.error, SUCCEEDED] += 1
    found.runs = [run for run in found.runs if latest.get((run.flow, run.inputs), 0) < run.number]
    return found


def _successes(connection: Connection, runs: Iterable[FailedRun]) -> dict[tuple[str, bytes], int]:
    """Return the number of the last run that succeeded with the same inputs, by flow and digest."""
    wanted = {(run.flow, run.inputs): 0 for run in runs}
    if not wanted:
        return {}
    flows = dump(sorted({flow for flow, _ in wanted}))
    first = min(run.number for run in runs)
    for number, flow, inputs in connection.execute(_LATER, {"flows": flows, "first": first}):
        key = flow, _digest(inputs)
        if key in wanted:
            wanted[key] = max(wanted[key], number)
    return wanted


def _digest(inputs: str) -> bytes:
    return blake2b(inputs.encode(), digest_size=16).digest()
