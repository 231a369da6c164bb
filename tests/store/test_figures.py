"""Figures of flows, against what Python counts in the rows: over every kind of store."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pullcord.clock import microseconds
from pullcord.core.figures import DAY, HOUR, Window, windows_of
from pullcord.store.commands.journal import FinishRuns
from pullcord.store.commands.progress import SaveProgress
from pullcord.store.commands.prune import PruneRuns
from pullcord.store.queries.figures import FEWEST, USUAL, flow_figures, usual_duration
from pullcord.store.queries.runs import load_runs
from pullcord.store.transaction import ignore
from tests.store.harness import DAY as NIGHT
from tests.store.harness import LANE, NOON, SECOND, Server, admit, finished

NOW = NOON + 40 * NIGHT
WINDOWS = windows_of("1h,2d,30d")
EDGES = [0, 1, HOUR, HOUR - 1, HOUR + 1, 2 * DAY, 2 * DAY + 1, 29 * DAY, 30 * DAY, 30 * DAY + 1, -HOUR]
"""How long ago a run ended; the last one is what a clock that was set back leaves behind."""

RUN = st.fixed_dictionaries(
    {
        "flow": st.sampled_from(["f", "f", "f", "g"]),
        "state": st.sampled_from(["succeeded", "succeeded", "failed", "cancelled", "running"]),
        "ago": st.one_of(st.sampled_from(EDGES), st.integers(0, 31 * DAY)),
        "took": st.one_of(st.none(), st.integers(-5, 1000), st.just(7)),
        "queued": st.integers(-5, 100),
        "attempt": st.integers(1, 3),
        "takeovers": st.integers(0, 2),
        "test": st.sampled_from([0, 0, 0, 1]),
        "records": st.one_of(st.none(), st.integers(0, 1000).map(float)),
    }
)


def insert(server: Server, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put runs into an empty table; return their rows."""
    server.connection.execute("DELETE FROM runs")
    rows = []
    for number, run in enumerate(runs, 1):
        ended = NOW - run["ago"]
        active = run["state"] == "running"
        started = None if run["took"] is None and not active else ended - (run["took"] or 0)
        row = {
            "id": number, "uuid": f"uuid{number}", "flow": run["flow"], "state": run["state"], "test": run["test"],
            "attempt": run["attempt"], "takeovers": run["takeovers"], "started_at": started,
            "queued_at": (started or ended) - run["queued"], "ended_at": None if active else ended,
            "progress_done": run["records"],
        }  # fmt: skip
        server.connection.execute(
            "INSERT INTO runs (id, uuid, flow, flow_version, state, inputs, trigger_kind, invoker, lane, priority, "
            "token, attempt, takeovers, losses, test, queued_at, started_at, ended_at, progress_done) VALUES "
            "(:id, :uuid, :flow, 'v', :state, '{}', 'manual', 'owner', 'l', 0, 1, :attempt, :takeovers, 0, :test, "
            ":queued_at, :started_at, :ended_at, :progress_done)",
            row,
        )
        rows.append(row)
    return rows


def rank(values: list[int], share: Fraction) -> float | None:
    """Return a percentile by its definition, in seconds."""
    enough = [value for value in values if sum(other <= value for other in values) >= share * len(values)]
    return min(enough) / SECOND if enough else None


def counted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the runs of `f` that figures are about."""
    return [row for row in rows if row["flow"] == "f" and row["test"] == 0 and row["ended_at"] is not None]


def took(rows: list[dict[str, Any]]) -> list[int]:
    """Return how long those took that succeeded."""
    return [
        max(0, row["ended_at"] - row["started_at"])
        for row in rows
        if row["state"] == "succeeded" and row["started_at"] is not None
    ]


def oracle(rows: list[dict[str, Any]], window: Window) -> dict[str, Any]:
    """Return the figures of a window, but for the series."""
    since = NOW - window.length
    found = [row for row in counted(rows) if row["ended_at"] >= since]
    states = {state: sum(row["state"] == state for row in found) for state in ("cancelled", "failed", "succeeded")}
    judged = states["succeeded"] + states["failed"]
    lengths = took(found)
    succeeded = [row for row in found if row["state"] == "succeeded"]
    # A run that succeeded without having started does not exist; it would count as one that took no time.
    all_lengths = lengths + [0] * (len(succeeded) - len(lengths))
    waits = [
        row["started_at"] - row["queued_at"]
        for row in found
        if row["started_at"] is not None and row["started_at"] >= row["queued_at"]
    ]
    records = [row["progress_done"] for row in found if row["progress_done"] is not None]
    return {
        "window": window.name,
        "runs": len(found),
        "states": states,
        "success_rate": states["succeeded"] / judged if judged else None,
        "duration": {
            "median": rank(lengths, Fraction(1, 2)),
            "p95": rank(lengths, Fraction(95, 100)),
            "mean": pytest.approx(sum(all_lengths) / len(all_lengths) / SECOND, abs=1e-6) if all_lengths else None,
            "longest": max(all_lengths) / SECOND if all_lengths else None,
            "sample": len(lengths),
        },
        "queue_time": {
            "median": rank(waits, Fraction(1, 2)),
            "p95": rank(waits, Fraction(95, 100)),
            "sample": len(waits),
        },
        "records": sum(records) if records else None,
        "retries": sum(row["attempt"] - 1 for row in found),
        "takeovers": sum(row["takeovers"] for row in found),
        "period": window.period // SECOND,
    }


def streak(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return how many ended like the last one."""
    ends = sorted((row["ended_at"], row["id"], row["state"]) for row in counted(rows) if row["state"] != "cancelled")
    if not ends:
        return None
    state = ends[-1][2]
    others = [place for place, end in enumerate(ends) if end[2] != state]
    return {"state": state, "count": len(ends) - 1 - max(others, default=-1), "at_least": False}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(runs=st.lists(RUN, max_size=40))
def test_figures_are_what_python_counts(server: Server, runs: list[dict[str, Any]]) -> None:
    rows = insert(server, runs)
    figures = flow_figures(server.connection, "f", WINDOWS, NOW)
    assert figures["flow"] == "f"
    for window, found in zip(WINDOWS, figures["windows"], strict=True):
        wanted = oracle(rows, window)
        assert {name: found[name] for name in wanted} == wanted
        assert microseconds(datetime.fromisoformat(found["from"])) == NOW - window.length
        assert microseconds(datetime.fromisoformat(found["to"])) == NOW
        check_series(rows, window, found)
    assert figures["streak"] == streak(rows)
    ends = [row["ended_at"] for row in counted(rows)]
    since = figures["since"]
    assert (None if since is None else microseconds(datetime.fromisoformat(since))) == min(ends, default=None)
    for state, name in (("succeeded", "last_success"), ("failed", "last_failure")):
        last = max(((row["ended_at"], row["id"]) for row in counted(rows) if row["state"] == state), default=None)
        assert (None if last is None else f"uuid{last[1]}") == (figures[name] or {"id": None})["id"]


def check_series(rows: list[dict[str, Any]], window: Window, found: dict[str, Any]) -> None:
    """Compare a chart with the runs that ended between its periods."""
    starts = [microseconds(datetime.fromisoformat(period["at"])) for period in found["series"]]
    assert starts[0] == NOW - window.length
    for start, stop, period in zip(starts, [*starts[1:], 2**62], found["series"], strict=True):
        inside = [row for row in counted(rows) if start <= row["ended_at"] < stop]
        for state in ("cancelled", "failed", "succeeded"):
            assert period[state] == sum(row["state"] == state for row in inside)
        assert period["median"] == rank(took(inside), Fraction(1, 2))
    assert sum(period["failed"] for period in found["series"]) == found["states"]["failed"]


def test_figures_reach_back_to_what_was_pruned_and_no_further(server: Server) -> None:
    def ended(state: str, ago: int, flow: str = "f") -> dict[str, Any]:
        return {
            "flow": flow, "state": state, "ago": ago, "took": 7, "queued": 0, "attempt": 1, "takeovers": 0, "test": 0,
            "records": None,
        }  # fmt: skip

    days = [("succeeded", 29), *(("failed", days) for days in range(28, 0, -1))]
    insert(server, [*(ended(state, ago * DAY) for state, ago in days), ended("failed", 5 * DAY, "g")])

    def figures(flow: str = "f") -> tuple[Any, Any, dict[str, Any]]:
        found = flow_figures(server.connection, flow, WINDOWS, NOW)
        check_sums(found["windows"])
        return found["since"], found["streak"], found["windows"][-1]["states"]

    assert figures()[1] == {"state": "failed", "count": 28, "at_least": False}
    pruned = server.write(PruneRuns(list(range(2, 20)), 0, ignore))
    assert pruned.rows == 18
    since, streak, states = figures()
    assert microseconds(datetime.fromisoformat(since)) == NOW - 10 * DAY
    assert streak == {"state": "failed", "count": 10, "at_least": True}
    assert states == {"cancelled": 0, "failed": 10, "succeeded": 0}, "of the last success nobody knows what followed"
    assert figures("g")[1] == {"state": "failed", "count": 1, "at_least": False}
    server.write(PruneRuns(list(range(20, 29)), 0, ignore))
    assert figures()[2] == {"cancelled": 0, "failed": 1, "succeeded": 0}


def check_sums(windows: list[dict[str, Any]]) -> None:
    """Compare a window with its chart."""
    for window in windows:
        for state, count in window["states"].items():
            assert sum(period[state] for period in window["series"]) == count


def test_a_flow_without_history(server: Server) -> None:
    figures = flow_figures(server.connection, "f", WINDOWS, NOW)
    nothing = ("since", "last_success", "last_failure", "streak", "usual_duration")
    assert all(figures[name] is None for name in nothing)
    for found in figures["windows"]:
        assert (found["runs"], found["success_rate"], found["records"]) == (0, None, None)
        assert found["duration"] == {"median": None, "p95": None, "mean": None, "longest": None, "sample": 0}
    assert usual_duration(server.connection, "f") is None


def success(number: int, ago: int, **more: Any) -> dict[str, Any]:
    """Return a run that succeeded after so many microseconds."""
    facts = {"flow": "f", "state": "succeeded", "queued": 0, "attempt": 1, "takeovers": 0, "test": 0, "records": None}
    return facts | {"took": number, "ago": ago} | more


def test_percentiles_are_of_the_newest_runs_where_there_are_many(server: Server) -> None:
    insert(server, [success(100, 50)] * 30 + [success(7, 10)] * 20 + [success(9, 5, state="failed")] * 30)
    (found,) = flow_figures(server.connection, "f", windows_of("1h"), NOW, sample=20)["windows"]
    assert found["duration"] | {"mean": None} == {
        "median": 7 / SECOND, "p95": 7 / SECOND, "mean": None, "longest": 100 / SECOND, "sample": 20,
    }  # fmt: skip
    assert found["states"]["succeeded"] == 50
    assert found["queue_time"]["sample"] == 20


def test_what_is_usual_follows_the_newest_runs_that_succeeded(server: Server) -> None:
    few = [success(3, 10)] * (FEWEST - 1)
    insert(server, [*few, success(3, 10, test=1), success(3, 10, state="failed"), success(3, 10, flow="g")])
    assert usual_duration(server.connection, "f") is None
    insert(server, [success(1000, 10)] * USUAL + [success(3, 5)] * (USUAL // 2) + [success(1, 4, state="failed")] * 200)
    assert usual_duration(server.connection, "f") == 3
    insert(server, [success(1000, 10)] * USUAL + [success(3, 5)] * (USUAL // 2 - 1))
    assert usual_duration(server.connection, "f") == 1000
    insert(server, [success(-9, 10)] * FEWEST)
    assert usual_duration(server.connection, "f") == 0, "a clock that was set back makes no run negative"


def progress_of(server: Server, uuid: str) -> Any:
    """Return what the item of a run shows."""
    return load_runs(server.connection, [uuid])[uuid]["progress"]


def test_the_last_progress_is_kept_with_the_end(server: Server) -> None:
    one, other = server.begin(admit("free", limited=False), admit("free", limited=False))
    ends = [finished(one), finished(other)]
    server.write(FinishRuns(ends, ignore, progress=[[one.id, one.token, 40.5, None, "half \N{SNOWMAN}"]]))
    assert progress_of(server, one.uuid) == {"done": 40.5, "total": None, "text": "half \N{SNOWMAN}"}
    assert progress_of(server, other.uuid) is None
    (found,) = flow_figures(server.connection, "free", windows_of("1h"), server.clock.now())["windows"]
    assert (found["runs"], found["records"]) == (2, 40.5)


def test_progress_survives_what_a_run_survives_and_ends_with_it(server: Server) -> None:
    (run,) = server.begin(admit())

    def save(*rows: list[Any]) -> Any:
        server.write(SaveProgress(list(rows), ignore))
        return progress_of(server, run.uuid)

    assert save([run.id, run.token, 1, 10, None]) == {"done": 1.0, "total": 10.0, "text": None}
    server.lose(run, blame=0)
    (again,) = server.claim()
    assert save([run.id, run.token, 9, 10, "late"])["done"] == 1.0, "a stale token writes nothing"
    assert save([run.id, run.token, 9, 10, "late"], [run.id, again.token, 2, 10, None])["done"] == 2.0
    assert save([run.id, again.token, 3, 10, None], [run.id, run.token, 9, 10, "late"])["done"] == 3.0
    server.finish(finished(again, "failed", retry_at=server.clock.now() + 5))
    assert progress_of(server, run.uuid)["done"] == 3.0
    server.clock.advance(10)
    server.queue_due()
    (third,) = server.claim({LANE: 1})
    server.finish(finished(third))
    assert save([run.id, third.token, 5, 10, "after the end"])["done"] == 3.0
