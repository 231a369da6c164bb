"""Figures about the runs of a flow: how they ended, how long they took and waited, what they processed.

Runs count that have ended and are no test. All is read from the index `runs_ended`, which has every column that is
needed. Counts, sums, means and maxima are exact. Percentiles are of the newest runs of a window, `SAMPLE` of them at
most, and exact as long as there are no more.

Percentiles are computed here and not by the database: SQLite has no function for them, and a window function would
sort a million durations at every look.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pullcord.clock import rfc3339
from pullcord.core.figures import MEDIAN, P95, SECOND, Window, percentile, periods
from pullcord.core.states import ENDED, RunState
from pullcord.store.connection import Connection
from pullcord.store.statement import dump, rows

SAMPLE: Final = 10_000
"""Percentiles of a flow are of so many runs at most."""

SHORT_SAMPLE: Final = 1_000
"""The same where many flows are shown."""

USUAL: Final = 100
"""How long runs of a flow usually take is the median of so many that succeeded last."""

FEWEST: Final = 5
"""Of fewer than so many runs nobody can say what is usual."""

_STATES: Final = tuple(sorted(ENDED))
_FAR: Final = 2**62
_COUNTED: Final = "FROM runs r INDEXED BY runs_ended WHERE r.test = 0 AND r.flow = :flow AND r.state ="
_TOOK: Final = "CASE WHEN r.ended_at > r.started_at THEN r.ended_at - r.started_at ELSE 0 END"
"""A clock that was set back while a server was down makes no run negative."""

_TOTALS: Final = f"""
SELECT count(*), coalesce(sum(r.attempt - 1), 0), coalesce(sum(r.takeovers), 0), sum(r.progress_done),
    avg({_TOOK}), max({_TOOK})
{_COUNTED} :state AND r.ended_at >= :since"""
_SERIES: Final = f"""
SELECT EACH[p.start, p.state, (SELECT count(*) {_COUNTED} p.state AND r.ended_at >= p.since AND r.ended_at < p.stop)]
FROM {rows("start:int since:int stop:int state")} AS p"""
# A run that was queued again, for another attempt, has started before it was queued last.
_NEWEST: Final = f"""
SELECT EACH[ended_at, took, queued] FROM (
    SELECT r.ended_at, CASE WHEN r.started_at IS NOT NULL THEN {_TOOK} END AS took,
        CASE WHEN r.started_at >= r.queued_at THEN r.started_at - r.queued_at END AS queued
    {_COUNTED} :state AND r.ended_at >= :since ORDER BY r.ended_at DESC LIMIT :most) AS found"""
_LAST: Final = f"""
SELECT r.id, r.uuid, r.ended_at {_COUNTED} :state AND r.ended_at IS NOT NULL
ORDER BY r.ended_at DESC, r.id DESC LIMIT 1"""
_FIRST: Final = f"""
SELECT r.ended_at {_COUNTED} :state AND r.ended_at IS NOT NULL AND r.id >= :below ORDER BY r.ended_at LIMIT 1"""
_BELOW: Final = "SELECT coalesce(max(below), 0) FROM pruned_flows WHERE flow = :flow"
_AFTER: Final = f"""
SELECT count(*) {_COUNTED} :state AND r.ended_at >= :at AND (r.ended_at > :at OR r.id > :id)"""


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of a sample; times in microseconds."""

    ended: int
    state: str
    took: int | None
    queued: int | None


def flow_figures(
    connection: Connection, flow: str, windows: Sequence[Window], now: int, sample: int = SAMPLE
) -> dict[str, Any]:
    """Return the figures of a flow; of one that never ended a run too.

    Args:
        flow: the flow's name.
        windows: at least one; each ends now.
        now: microseconds.
        sample: of how many runs percentiles are, at most.
    """
    below = int(connection.execute(_BELOW, {"flow": flow}).fetchone()[0])
    standing, since = _standing(connection, flow, below)
    # Of the time before there are only runs that are never pruned, which say nothing of all the others.
    floor = 0 if since is None or not below else since
    beginning = max(floor, min(now - window.length for window in windows))
    runs = _newest(connection, flow, beginning, sample)
    return {
        "flow": flow,
        **standing,
        "windows": [_window(connection, flow, window, now, floor, runs, sample) for window in windows],
    }


def usual_duration(connection: Connection, flow: str) -> int | None:
    """Return how long a run of a flow usually takes, microseconds: the median of the last `USUAL` that succeeded.

    None where fewer than `FEWEST` did. From start to end, pauses and waits in between included; test runs are left out.
    """
    parameters = {"flow": flow, "state": RunState.SUCCEEDED, "since": 0, "most": USUAL}
    took = sorted(row[1] for row in connection.array(_NEWEST, parameters) if row[1] is not None)
    return percentile(took, MEDIAN) if len(took) >= FEWEST else None


def _newest(connection: Connection, flow: str, since: int, most: int) -> dict[str, list[_Run]]:
    """Return the newest runs of each state, newest first."""
    result: dict[str, list[_Run]] = {}
    for state in _STATES:
        found = connection.array(_NEWEST, {"flow": flow, "state": state, "since": since, "most": most})
        result[state] = [_Run(row[0], state, row[1], row[2]) for row in sorted(found, reverse=True, key=_when)]
    return result


def _when(row: Sequence[Any]) -> int:
    return int(row[0])


def _standing(connection: Connection, flow: str, below: int) -> tuple[dict[str, Any], int | None]:
    """Return what does not depend on a window; and since when all runs that have ended are known."""
    first = [
        row[0]
        for state in _STATES
        if (row := connection.execute(_FIRST, {"flow": flow, "state": state, "below": below}).fetchone()) is not None
    ]
    last = {state: connection.execute(_LAST, {"flow": flow, "state": state}).fetchone() for state in _STATES}
    ends = [row[2] for row in last.values() if row is not None]
    since = min(first) if first else max(ends) if ends else None
    succeeded, failed = last[RunState.SUCCEEDED], last[RunState.FAILED]
    usual = usual_duration(connection, flow)
    standing = {
        "since": rfc3339(since),
        "last_success": _ended(succeeded),
        "last_failure": _ended(failed),
        "streak": _streak(connection, flow, below, succeeded, failed),
        "usual_duration": None if usual is None else usual / SECOND,
    }
    return standing, since


def _ended(row: Any) -> dict[str, Any] | None:
    return None if row is None else {"id": row[1], "ended_at": rfc3339(row[2])}


def _streak(connection: Connection, flow: str, below: int, succeeded: Any, failed: Any) -> dict[str, Any] | None:
    """Return how many runs in a row ended like the last one; cancelled ones neither break nor lengthen it.

    It is `at_least` so many where runs are gone that may have been among them.
    """
    places = {
        state: (row[2], row[0])
        for state, row in ((RunState.SUCCEEDED, succeeded), (RunState.FAILED, failed))
        if row is not None
    }
    if not places:
        return None
    state = max(places, key=places.__getitem__)
    at, number = min(places.values()) if len(places) > 1 else (0, 0)
    count = connection.execute(_AFTER, {"flow": flow, "state": state, "at": at, "id": number}).fetchone()[0]
    return {"state": state, "count": count, "at_least": number < below}


def _window(
    connection: Connection, flow: str, window: Window, now: int, floor: int, newest: dict[str, list[_Run]], most: int
) -> dict[str, Any]:
    begin = now - window.length
    since = max(begin, floor)
    totals = {
        state: connection.execute(_TOTALS, {"flow": flow, "state": state, "since": since}).fetchone()
        for state in _STATES
    }
    counts = {state: int(row[0]) for state, row in totals.items()}
    succeeded, failed = counts[RunState.SUCCEEDED], counts[RunState.FAILED]
    good = [run for run in newest[RunState.SUCCEEDED] if run.ended >= since]
    took = sorted(run.took for run in good if run.took is not None)
    started = sorted(
        (run for runs in newest.values() for run in runs if run.ended >= since and run.queued is not None),
        key=lambda run: run.ended,
        reverse=True,
    )[:most]
    queued = sorted(run.queued for run in started if run.queued is not None)
    records = [row[3] for row in totals.values() if row[3] is not None]
    _, _, _, _, mean, longest = totals[RunState.SUCCEEDED]
    return {
        "window": window.name,
        "from": rfc3339(begin),
        "to": rfc3339(now),
        "runs": sum(counts.values()),
        "states": counts,
        "success_rate": succeeded / (succeeded + failed) if succeeded + failed else None,
        "duration": {
            "median": _seconds(percentile(took, MEDIAN)),
            "p95": _seconds(percentile(took, P95)),
            "mean": _seconds(mean if succeeded else None),
            "longest": _seconds(longest if succeeded else None),
            "sample": len(took),
        },
        "queue_time": {
            "median": _seconds(percentile(queued, MEDIAN)),
            "p95": _seconds(percentile(queued, P95)),
            "sample": len(queued),
        },
        "records": sum(map(float, records)) if records else None,
        "retries": sum(int(row[1]) for row in totals.values()),
        "takeovers": sum(int(row[2]) for row in totals.values()),
        "period": window.period // SECOND,
        "series": _series(connection, flow, periods(begin, now, window.period), floor, good),
    }


def _series(
    connection: Connection, flow: str, starts: list[int], floor: int, good: Iterable[_Run]
) -> list[dict[str, Any]]:
    """Return what a chart shows: each period with how many runs ended in it and how, and their median duration."""
    # A clock that was set back leaves ends in the future behind: they belong to the last period.
    stops = [*starts[1:], _FAR]
    wanted = [
        [start, max(start, floor), stop, state] for start, stop in zip(starts, stops, strict=True) for state in _STATES
    ]
    series: dict[int, dict[str, Any]] = {start: {"at": rfc3339(start)} for start in starts}
    for start, state, count in connection.array(_SERIES, {"flow": flow, "rows": dump(wanted)}):
        series[start][state] = count
    took: dict[int, list[int]] = {start: [] for start in starts}
    left = len(starts) - 1
    for run in good:  # newest first
        while run.ended < starts[left]:
            left -= 1
        if run.took is not None:
            took[starts[left]].append(run.took)
    for start, period in series.items():
        period["median"] = _seconds(percentile(sorted(took[start]), MEDIAN))
    return list(series.values())


def _seconds(value: Any) -> float | None:
    return None if value is None else round(float(value)) / SECOND
