"""Pruning: what has been kept long enough is deleted, a bounded number of rows in a transaction.

What may go is decided here, in the transaction that deletes it, whatever a reader thought before. The audit stays as
it is. A request that outlives its run keeps the run's id (`pruned_run`); the table `pruned` counts what is gone, and
says below which number it may be gone, so that a check of the store can tell what was pruned from what was lost; the
table `pruned_flows` says the latter of each flow's runs, so that figures know how far back they reach.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from pullcord.core.errors import StoreError
from pullcord.core.states import ENDED
from pullcord.store.commands.keys import RETENTION
from pullcord.store.statement import dump, rows
from pullcord.store.transaction import Transaction

RUNS, REQUESTS, ARTIFACTS, HISTORY = "runs", "requests", "artifacts", "trigger_history"
"""The kinds of what is counted in `pruned`."""

BELONGINGS: Final = (("steps", "run_id"), ("artifacts", "run_id"), ("attempts", "run_id"), ("questions", "run_id"))
"""Tables whose rows go with their run, and the columns that name it; each begins an index."""

_ENDED = ", ".join(f"'{state}'" for state in sorted(ENDED))

MAY_GO: Final = f"""r.state || '' IN ({_ENDED})
    AND NOT EXISTS (SELECT 1 FROM endings e WHERE e.run_id = r.id)
    AND NOT EXISTS (SELECT 1 FROM runs p WHERE p.id = r.parent_id AND p.state || '' NOT IN ({_ENDED}))
    AND NOT EXISTS (SELECT 1 FROM runs c WHERE c.parent_id = r.id AND c.state || '' NOT IN ({_ENDED}))
    AND NOT EXISTS (SELECT 1 FROM runs a WHERE a.rerun_of = r.id AND a.state || '' NOT IN ({_ENDED}))
    AND NOT EXISTS (SELECT 1 FROM runs f WHERE f.resumed_from = r.id AND f.state || '' NOT IN ({_ENDED}))"""
"""Condition on `runs r`: it has ended, what it starts is started, and nothing that has not ended is related to it.
A parent that has not ended may still ask how its child ended."""

REQUEST_MAY_GO: Final = """q.outcome || '' <> 'awaiting_approval' AND coalesce(q.last_at, q.at) < :ledger
    AND q.id < (SELECT max(id) FROM requests)
    AND NOT EXISTS (SELECT 1 FROM keys k WHERE k.request_id = q.id AND k.at >= :expired)"""
"""Condition on `requests q`, whose run is gone or never was: nobody can be told of it again. The newest one stays, so
that no number is given twice."""

_RUNS = f"SELECT EACH[r.id, r.uuid, r.flow] FROM runs r WHERE r.id IN VALUES[ids:int] AND {MAY_GO}"
_CONTENTS = "SELECT EACH[run_id, sha256, size] FROM artifacts WHERE run_id IN VALUES[ids:int]"
WITH_RUNS: Final = f"SELECT EACH[q.id] FROM requests q WHERE q.id IN VALUES[ids:int] AND {REQUEST_MAY_GO}"
_ALONE = f"""
SELECT EACH[q.id] FROM requests q WHERE q.id IN VALUES[ids:int] AND {REQUEST_MAY_GO}
    AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = q.id)"""
_MARK = f"""
UPDATE requests SET pruned_run = s.uuid FROM {rows("id:int uuid")} AS s WHERE requests.id = s.id"""
_LINES = """
SELECT EACH[h.id] FROM trigger_history h WHERE h.id IN VALUES[ids:int] AND h.last_at < :before AND EXISTS (
    SELECT 1 FROM trigger_history n WHERE n.trigger_id = h.trigger_id AND n.id > h.id)"""
_COUNT = """
INSERT INTO pruned (kind, below, rows) VALUES (:kind, :below, :rows)
ON CONFLICT (kind) DO UPDATE SET rows = pruned.rows + excluded.rows,
    below = CASE WHEN excluded.below > pruned.below THEN excluded.below ELSE pruned.below END"""

_BELOW = """
INSERT INTO pruned_flows (flow, below) VALUES (:flow, :below) ON CONFLICT (flow) DO UPDATE SET
    below = CASE WHEN excluded.below > pruned_flows.below THEN excluded.below ELSE pruned_flows.below END"""


@dataclass(slots=True)
class Pruned:
    """What was deleted.

    Attributes:
        runs: ids of the runs.
        requests: how many requests.
        contents: hashes of contents that fewer artifacts have now, one for each artifact that is gone.
        bytes: the size of these artifacts.
        gone: how many rows of the kind that the command is about, by the numbers that it was given.
        seconds: how long the deleting took.
    """

    runs: list[str] = field(default_factory=list)
    requests: int = 0
    contents: list[str] = field(default_factory=list)
    bytes: dict[int, int] = field(default_factory=dict)
    gone: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """How many rows of the kind that the command is about."""
        return sum(self.gone.values())


@dataclass(slots=True)
class PruneRuns:
    """Delete runs with what belongs to them, and those of their requests that are old enough.

    Attributes:
        ids: numbers of the runs; those that may not go stay.
        ledger: requests older than this go with their runs, microseconds.

    The result is a `Pruned`.
    """

    keep_trying: ClassVar[bool] = False

    ids: list[int]
    ledger: int
    done: Callable[[Any], None]

    def split(self) -> Sequence[PruneRuns]:
        """Numbers poison nothing."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[PruneRuns]) -> list[Pruned]:
        """Delete for one command after the other."""
        return [_timed(_prune_runs, tx, command) for command in commands]


def _prune_runs(tx: Transaction, command: PruneRuns) -> Pruned:
    found = tx.array(_RUNS, {"ids": dump(command.ids)})
    uuids = {row[0]: row[1] for row in found}
    if not uuids:
        return Pruned()
    ids = dump(list(uuids))
    artifacts = tx.array(_CONTENTS, {"ids": ids})
    for table, column in BELONGINGS:
        tx.execute(f"DELETE FROM {table} WHERE {column} IN VALUES[ids:int]", {"ids": ids})
    gone = [row[0] for row in tx.array(WITH_RUNS, {"ids": ids, **_times(tx, command.ledger)})]
    kept = [[number, uuid] for number, uuid in uuids.items() if number not in set(gone)]
    if kept:
        tx.execute(_MARK, {"rows": dump(kept)})
    _delete_requests(tx, gone)
    tx.execute("DELETE FROM runs WHERE id IN VALUES[ids:int]", {"ids": ids})
    _count(tx, RUNS, max(uuids), len(uuids))
    for flow, below in {row[2]: row[0] + 1 for row in sorted(found)}.items():
        tx.execute(_BELOW, {"flow": flow, "below": below})
    return Pruned(list(uuids.values()), len(gone), [row[1] for row in artifacts], _sizes(artifacts), _ones(uuids))


@dataclass(slots=True)
class PruneRequests:
    """Delete requests that have no run.

    Attributes:
        ids: their numbers; those that may not go stay.
        ledger: only those older than this go, microseconds.

    The result is a `Pruned`.
    """

    keep_trying: ClassVar[bool] = False

    ids: list[int]
    ledger: int
    done: Callable[[Any], None]

    def split(self) -> Sequence[PruneRequests]:
        """Numbers poison nothing."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[PruneRequests]) -> list[Pruned]:
        """Delete for one command after the other."""
        return [_timed(_prune_requests, tx, command) for command in commands]


def _prune_requests(tx: Transaction, command: PruneRequests) -> Pruned:
    gone = [row[0] for row in tx.array(_ALONE, {"ids": dump(command.ids), **_times(tx, command.ledger)})]
    _delete_requests(tx, gone)
    return Pruned(requests=len(gone), gone=_ones(gone))


@dataclass(slots=True)
class PruneArtifacts:
    """Delete the artifacts of ended runs; the runs stay.

    Attributes:
        ids: numbers of the runs; those that may not go keep theirs.

    The result is a `Pruned`.
    """

    keep_trying: ClassVar[bool] = False

    ids: list[int]
    done: Callable[[Any], None]

    def split(self) -> Sequence[PruneArtifacts]:
        """Numbers poison nothing."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[PruneArtifacts]) -> list[Pruned]:
        """Delete for one command after the other."""
        return [_timed(_prune_artifacts, tx, command) for command in commands]


def _prune_artifacts(tx: Transaction, command: PruneArtifacts) -> Pruned:
    ids = [row[0] for row in tx.array(_RUNS, {"ids": dump(command.ids)})]
    artifacts = tx.array(_CONTENTS, {"ids": dump(ids)})
    if artifacts:
        tx.execute("DELETE FROM artifacts WHERE run_id IN VALUES[ids:int]", {"ids": dump(ids)})
        _count(tx, ARTIFACTS, max(ids), len(artifacts))
    gone = Counter(row[0] for row in artifacts)
    return Pruned(contents=[row[1] for row in artifacts], bytes=_sizes(artifacts), gone=gone)


@dataclass(slots=True)
class PruneHistory:
    """Delete lines of the histories of triggers; the newest line of each stays, for an equal one is added to it.

    Attributes:
        ids: numbers of the lines.
        before: only lines whose last repeat is older than this go, microseconds.

    The result is a `Pruned`.
    """

    keep_trying: ClassVar[bool] = False

    ids: list[int]
    before: int
    done: Callable[[Any], None]

    def split(self) -> Sequence[PruneHistory]:
        """Numbers poison nothing."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[PruneHistory]) -> list[Pruned]:
        """Delete for one command after the other."""
        return [_timed(_prune_history, tx, command) for command in commands]


def _prune_history(tx: Transaction, command: PruneHistory) -> Pruned:
    gone = [row[0] for row in tx.array(_LINES, {"ids": dump(command.ids), "before": command.before})]
    if gone:
        tx.execute("DELETE FROM trigger_history WHERE id IN VALUES[ids:int]", {"ids": dump(gone)})
        _count(tx, HISTORY, max(gone), len(gone))
    return Pruned(gone=_ones(gone))


def _ones(numbers: Iterable[int]) -> dict[int, int]:
    return dict.fromkeys(numbers, 1)


def _sizes(artifacts: list[Any]) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for number, _, size in artifacts:
        sizes[number] = sizes.get(number, 0) + size
    return sizes


def _timed(prune: Callable[[Transaction, Any], Pruned], tx: Transaction, command: Any) -> Pruned:
    began = time.perf_counter()
    pruned = prune(tx, command)
    pruned.seconds = time.perf_counter() - began
    return pruned


def _delete_requests(tx: Transaction, ids: list[int]) -> None:
    """Delete requests with their keys, which nobody can use any more."""
    if ids:
        numbers = {"ids": dump(ids)}
        tx.execute("DELETE FROM keys WHERE request_id IN VALUES[ids:int]", numbers)
        tx.execute("DELETE FROM requests WHERE id IN VALUES[ids:int]", numbers)
        _count(tx, REQUESTS, max(ids), len(ids))


def _times(tx: Transaction, ledger: int) -> dict[str, int]:
    return {"ledger": ledger, "expired": tx.now - RETENTION}


def _count(tx: Transaction, kind: str, highest: int, count: int) -> None:
    tx.execute(_COUNT, {"kind": kind, "below": highest + 1, "rows": count})
