"""What has been kept long enough, a page at a time: numbers for the commands of `store/commands/prune.py`.

Each page is walked along an index and ends after so many rows looked at, so that no query holds a reader for long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pullcord.core.states import ENDED
from pullcord.store.commands.prune import MAY_GO, REQUEST_MAY_GO, WITH_RUNS
from pullcord.store.connection import Connection
from pullcord.store.queries.numbering import first_since
from pullcord.store.statement import dump

PAGE: Final = 2000
"""Rows that are looked at for a page."""

NEVER: Final = 0
"""A time before which nothing was: what is kept for ever."""

_ENDED = ", ".join(f"'{state}'" for state in sorted(ENDED))
_OF_FLOW = "SELECT id FROM runs {indexed} WHERE flow = :flow {more} ORDER BY id DESC LIMIT 1"
_RUNS = f"""
SELECT r.id, CASE WHEN (r.id <= :beyond OR r.ended_at < :before) AND {MAY_GO} THEN 1 ELSE 0 END
FROM runs r INDEXED BY runs_flow WHERE r.flow = :flow AND r.id > :after AND r.id < :bound ORDER BY r.id LIMIT :page"""
_REQUESTS = f"""
SELECT q.id, coalesce(q.flow, ''), CASE WHEN {REQUEST_MAY_GO}
    AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.id = q.id) THEN 1 ELSE 0 END
FROM requests q WHERE q.id > :after AND q.id < :bound ORDER BY q.id LIMIT :page"""
_HISTORY = """
SELECT h.id, t.name, CASE WHEN h.last_at < :before AND EXISTS (
    SELECT 1 FROM trigger_history n WHERE n.trigger_id = h.trigger_id AND n.id > h.id) THEN 1 ELSE 0 END
FROM trigger_history h LEFT JOIN triggers t ON t.id = h.trigger_id
WHERE h.id > :after AND h.at < :before ORDER BY h.id LIMIT :page"""
_ARTIFACTS = f"""
SELECT a.run_id, r.flow, r.ended_at, a.size, CASE WHEN r.ended_at < :before AND {MAY_GO} THEN 1 ELSE 0 END
FROM artifacts a JOIN runs r ON r.id = a.run_id
WHERE a.run_id > :after AND a.run_id <= :last ORDER BY a.run_id"""
_OF_LOGS = f"""
SELECT EACH[r.uuid, r.id, r.flow, CASE WHEN r.ended_at < :before AND {MAY_GO} THEN r.ended_at END]
FROM runs r WHERE r.uuid IN VALUES[uuids]"""
_LAST_OF_PAGE = """
SELECT max(run_id) FROM (SELECT run_id FROM artifacts WHERE run_id > :after ORDER BY run_id LIMIT :page) AS page"""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a flow, as moments.

    Attributes:
        runs: runs that ended before this go, microseconds.
        logs: likewise their log lines.
        artifacts: likewise their artifacts.
        beyond: runs that have ended and have this number or a lower one go, because there are enough newer ones.
        spared: numbers of the last run and the last success; they stay with all that they have.
    """

    runs: int
    logs: int
    artifacts: int
    beyond: int
    spared: frozenset[int]


@dataclass(frozen=True, slots=True)
class Part:
    """A page.

    Attributes:
        ids: numbers of what may go.
        after: where the next page begins, or None at the end.
        about: for each of them what it belongs to: a flow, or a trigger.
    """

    ids: list[int]
    after: int | None
    about: list[str]


def flows_with_runs(connection: Connection) -> list[str]:
    """Return the names of all flows that have runs."""
    names: list[str] = []
    last: str | None = ""
    while True:
        last = connection.execute("SELECT min(flow) FROM runs WHERE flow > :last", {"last": last}).fetchone()[0]
        if last is None:
            return names
        names.append(last)


def kept_settings(connection: Connection) -> list[tuple[str, str]]:
    """Return name and spec, JSON, of all flows that were ever registered."""
    return [(row[0], row[1]) for row in connection.execute("SELECT name, spec FROM flows").fetchall()]


def spared_runs(connection: Connection, flow: str) -> frozenset[int]:
    """Return the numbers of the last run of a flow and of its last success."""
    found = [
        connection.execute(_OF_FLOW.format(indexed="INDEXED BY runs_flow", more=more), {"flow": flow}).fetchone()
        for more in ("", "AND state = 'succeeded'")
    ]
    return frozenset(row[0] for row in found if row is not None)


def beyond(connection: Connection, flow: str, count: int | None) -> int:
    """Return the highest number of an ended run of a flow that has so many newer ended ones; 0 when none has."""
    if count is None:
        return 0
    row = connection.execute(
        f"SELECT id FROM runs INDEXED BY runs_flow WHERE flow = :flow AND state || '' IN ({_ENDED}) "
        "ORDER BY id DESC LIMIT 1 OFFSET :count",
        {"flow": flow, "count": count},
    ).fetchone()
    return 0 if row is None else int(row[0])


def prunable_runs(connection: Connection, flow: str, kept: Kept, after: int) -> Part:
    """Return runs of a flow that may go.

    Args:
        connection: a reader.
        flow: the flow.
        kept: what is kept of it.
        after: only runs with higher numbers.
    """
    # What was asked for since then cannot have ended before.
    bound = max(first_since(connection, kept.runs) if kept.runs > NEVER else 0, kept.beyond + 1)
    rows = connection.execute(
        _RUNS,
        {"flow": flow, "after": after, "bound": bound, "before": kept.runs, "beyond": kept.beyond, "page": PAGE},
    ).fetchall()
    ids = [row[0] for row in rows if row[1] and row[0] not in kept.spared]
    return Part(ids, _next(rows), [flow] * len(ids))


@dataclass(frozen=True, slots=True)
class Going:
    """What goes with runs.

    Attributes:
        uuids: ids of the runs, whose logs go too.
        requests: how many of their requests go; the others are kept longer.
        artifacts: how many artifacts they have.
        bytes: the size of these.
    """

    uuids: list[str]
    requests: int
    artifacts: int
    bytes: int


def going_with(connection: Connection, ids: list[int], before: int, expired: int) -> Going:
    """Return what goes with runs; see `prunable_requests`."""
    numbers = {"ids": dump(ids)}
    uuids = connection.array("SELECT EACH[uuid] FROM runs WHERE id IN VALUES[ids:int]", numbers)
    requests = connection.array(WITH_RUNS, {**numbers, "ledger": before, "expired": expired})
    artifacts = connection.array("SELECT EACH[size] FROM artifacts WHERE run_id IN VALUES[ids:int]", numbers)
    return Going([row[0] for row in uuids], len(requests), len(artifacts), sum(row[0] for row in artifacts))


def prunable_requests(connection: Connection, before: int, expired: int, after: int) -> Part:
    """Return requests without a run that may go.

    Args:
        connection: a reader.
        before: those older than this, microseconds.
        expired: keys older than this hold nothing, microseconds.
        after: only those with higher numbers.
    """
    rows = connection.execute(
        _REQUESTS,
        {"ledger": before, "expired": expired, "after": after, "bound": first_since(connection, before), "page": PAGE},
    ).fetchall()
    return _part(rows)


def prunable_history(connection: Connection, before: int, after: int) -> Part:
    """Return lines of the histories of triggers that may go; see `prunable_requests`."""
    return _part(connection.execute(_HISTORY, {"before": before, "after": after, "page": PAGE}).fetchall())


def prunable_artifacts(connection: Connection, kept: dict[str, Kept], after: int) -> tuple[Part, list[list[int]]]:
    """Return runs whose artifacts may go, and how large each of these is, bytes.

    Args:
        connection: a reader.
        kept: what is kept, by flow.
        after: only runs with higher numbers.
    """
    last = connection.execute(_LAST_OF_PAGE, {"after": after, "page": PAGE}).fetchone()[0]
    if last is None:
        return Part([], None, []), []
    sizes: dict[int, list[int]] = {}
    flows: dict[int, str] = {}
    # No flow lets go of what is younger, so that the relations of most runs are not looked up.
    before = max((rule.artifacts for rule in kept.values()), default=NEVER)
    rows = connection.execute(_ARTIFACTS, {"after": after, "last": last, "before": before}).fetchall()
    for run, flow, ended_at, size, may_go in rows:
        rule = kept.get(flow)
        if may_go and rule is not None and ended_at < rule.artifacts and run not in rule.spared:
            sizes.setdefault(run, []).append(size)
            flows[run] = flow
    return Part(list(sizes), last, [flows[run] for run in sizes]), list(sizes.values())


def runs_of_logs(connection: Connection, uuids: list[str], before: int) -> dict[str, tuple[int, str, int | None]]:
    """Return what is known of runs that have a log, by their ids: number, flow, and the end of those that may go.

    Args:
        connection: a reader.
        uuids: ids of the runs; those of runs that are gone are left out.
        before: no flow lets go of the logs of runs that ended later, microseconds.
    """
    found = connection.array(_OF_LOGS, {"uuids": dump(uuids), "before": before})
    return {row[0]: (row[1], row[2], row[3]) for row in found}


def known_contents(connection: Connection, contents: list[str]) -> set[str]:
    """Return those of these hashes that an artifact has."""
    found = connection.array(
        "SELECT EACH[sha256] FROM artifacts WHERE sha256 IN VALUES[contents]", {"contents": dump(contents)}
    )
    return {row[0] for row in found}


def _part(rows: list[Any]) -> Part:
    chosen = [(row[0], row[1] or "") for row in rows if row[2]]
    return Part([number for number, _ in chosen], _next(rows), [about for _, about in chosen])


def _next(rows: list[Any]) -> int | None:
    return rows[-1][0] if len(rows) == PAGE else None
