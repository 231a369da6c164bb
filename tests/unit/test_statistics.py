"""What is counted of runs: first starts, ends and retries, by flow, without test runs."""

from __future__ import annotations

from pullcord.core.states import RunState
from pullcord.engine.statistics import MOST_FLOWS, OTHER, RunStatistics
from pullcord.store.commands.claim import Claimed
from tests.store import harness

SECOND = 1_000_000


def claimed(number: int, flow: str = "flow", *, token: int = 1, test: bool = False, **times: int) -> Claimed:
    """Return a run that was queued at 1 s and started at 3 s."""
    run = harness.claimed(number, token, "", flow)
    return run._replace(**{"test": int(test), "queued_at": SECOND, "started_at": 3 * SECOND} | times)


def test_a_run_is_counted_from_its_first_start_to_its_end() -> None:
    statistics = RunStatistics()
    statistics.claimed([claimed(1)])
    assert statistics.longest(5 * SECOND) == {"flow": 2.0}
    assert statistics.left(1, RunState.SUCCEEDED, 7 * SECOND)
    flow = statistics.flows["flow"]
    assert (flow.waited.count, flow.waited.sum, flow.took.count, flow.took.sum) == (1, 2.0, 1, 4.0)
    assert flow.ended == {"succeeded": 1}
    assert statistics.longest(9 * SECOND) == {}


def test_an_end_is_counted_once() -> None:
    statistics = RunStatistics()
    statistics.claimed([claimed(1)])
    assert statistics.left(1, RunState.FAILED, 7 * SECOND)
    assert not statistics.left(1, RunState.CANCELLED, 8 * SECOND)
    assert statistics.flows["flow"].ended == {"failed": 1}


def test_going_on_elsewhere_and_trying_again_are_no_new_starts() -> None:
    statistics = RunStatistics()
    statistics.claimed([claimed(1)])
    statistics.claimed([claimed(1, token=2)])
    assert statistics.left(1, RunState.SCHEDULED, 5 * SECOND)
    assert statistics.longest(5 * SECOND) == {}
    statistics.claimed([claimed(1, token=3, queued_at=8 * SECOND)])
    assert statistics.left(1, RunState.SUCCEEDED, 13 * SECOND)
    flow = statistics.flows["flow"]
    assert (flow.waited.count, flow.retries, flow.took.sum) == (1, 1, 10.0)


def test_test_runs_are_left_out() -> None:
    statistics = RunStatistics()
    statistics.claimed([claimed(1, test=True)])
    assert not statistics.left(1, RunState.SUCCEEDED, 7 * SECOND)
    statistics.never_started("flow", RunState.CANCELLED, True)
    assert statistics.flows == {}


def test_a_run_that_never_started_is_counted_where_it_is_cancelled() -> None:
    statistics = RunStatistics()
    statistics.never_started("flow", RunState.CANCELLED, False)
    assert statistics.flows["flow"].ended == {"cancelled": 1}
    assert statistics.flows["flow"].took.count == 0


def test_flows_without_end_share_their_figures() -> None:
    statistics = RunStatistics()
    for number in range(MOST_FLOWS + 50):
        statistics.claimed([claimed(number, f"flow-{number}")])
        statistics.left(number, RunState.SUCCEEDED, 4 * SECOND)
    assert len(statistics.flows) == MOST_FLOWS + 1
    assert statistics.flows[OTHER].ended == {"succeeded": 50}
