"""What workers report: step records, ends, retries, and that a stale token changes nothing (design rule 6)."""

from __future__ import annotations

from typing import Any

import pytest

from pullcord.store.commands.claim import Claimed
from pullcord.store.commands.journal import FinishRuns, RecordSteps
from pullcord.store.transaction import ignore
from tests.store.harness import SECOND, Server, admit, finished, step


def free(count: int = 1) -> list[Any]:
    """Make admissions without a limit."""
    return [admit("free", limited=False) for _ in range(count)]


def steps(server: Server) -> list[dict[str, Any]]:
    """Return all step records."""
    return server.rows("SELECT * FROM steps ORDER BY run_id, seq")


def taken_over(server: Server, run: Claimed, blame: int = 0) -> Claimed:
    """Let another worker take a run over."""
    server.lose(run, blame=blame)
    (again,) = server.claim({run.lane: 10, run.lane.partition("#")[0] + "#isolated": 10})
    assert again.id == run.id
    assert again.token > run.token
    return again


def test_a_record_keeps_what_the_worker_said(server: Server) -> None:
    (run,) = server.begin(*free())
    result = server.record(step(run, "i", "succeeded", seq=3, attempt=2, result='{"a":"ü"}', name="load"))
    assert result.stale == set()
    (row,) = steps(server)
    assert (row["run_id"], row["identity"], row["seq"], row["name"], row["attempt"]) == (run.id, "i", 3, "load", 2)
    assert (row["state"], row["result"], row["error"]) == ("succeeded", '{"a":"ü"}', None)


@pytest.mark.parametrize("before", ["running", "retrying", "failed"])
def test_a_record_that_is_no_success_is_overwritten(server: Server, before: str) -> None:
    (run,) = server.begin(*free())
    server.record(step(run, state=before, error='{"type":"E"}'))
    server.record(step(run, state="succeeded", attempt=2))
    (row,) = steps(server)
    assert (row["state"], row["attempt"], row["result"], row["error"]) == ("succeeded", 2, '"done"', None)


@pytest.mark.parametrize("after", ["running", "retrying", "failed", "succeeded"])
@pytest.mark.parametrize("together", [True, False])
def test_a_success_is_never_overwritten(server: Server, after: str, together: bool) -> None:
    (run,) = server.begin(*free())
    first, second = step(run), step(run, state=after, attempt=9, result='"other"', error='{"type":"E"}')
    if together:
        result = server.record(first, second)
    else:
        server.record(first)
        result = server.record(second)
    (row,) = steps(server)
    assert (row["state"], row["attempt"], row["result"], row["error"]) == ("succeeded", 1, '"done"', None)
    assert result.stale == set(), "the worker is not to be stopped for saying it twice"


def test_records_of_one_step_in_one_batch_count_in_their_order(server: Server) -> None:
    (run,) = server.begin(*free())
    server.record(*[step(run, state="retrying", attempt=n, error=f'{{"n":{n}}}') for n in range(1, 8)])
    assert [(row["state"], row["attempt"]) for row in steps(server)] == [("retrying", 7)]


def test_a_stale_token_records_nothing_and_its_neighbours_are_unharmed(server: Server) -> None:
    lost, other = server.begin(*free(2))
    again = taken_over(server, lost)
    result = server.record(step(lost, "old"), step(other, "mine"), step(again, "new"))
    assert result.stale == {(lost.id, lost.token)}
    assert [(row["run_id"], row["identity"]) for row in steps(server)] == [(lost.id, "new"), (other.id, "mine")]


def test_a_stale_token_finishes_nothing_and_its_neighbours_are_unharmed(server: Server) -> None:
    lost, other = server.begin(*free(2))
    again = taken_over(server, lost)
    ends = server.finish(finished(lost, "failed", error='{"type":"E"}'), finished(other))
    assert [(end.id, end.state) for end in ends] == [(other.id, "succeeded")]
    assert server.states() == {lost.id: "running", other.id: "succeeded"}
    assert [end.state for end in server.finish(finished(again))] == ["succeeded"]


def test_a_stale_and_a_right_end_of_one_run_in_one_batch(server: Server) -> None:
    (lost,) = server.begin(*free())
    again = taken_over(server, lost)
    results, _ = server.transact(
        FinishRuns([finished(lost, "failed")], ignore), FinishRuns([finished(again, "succeeded")], ignore)
    )
    assert results[0] == []
    assert [(end.id, end.token, end.state) for end in results[1]] == [(again.id, again.token, "succeeded")]


@pytest.mark.parametrize("token", [0, 2, 99])
def test_a_token_that_was_never_given_is_stale(server: Server, token: int) -> None:
    (run,) = server.begin(*free())
    assert server.record(step(run, token=token)).stale == {(run.id, token)}
    assert server.finish(finished(run, token=token)) == []
    assert server.states() == {run.id: "running"}


def test_a_run_that_does_not_exist_is_stale(server: Server) -> None:
    (run,) = server.begin(*free())
    ghost = run._replace(id=10_000)
    assert server.record(step(ghost), step(run)).stale == {(10_000, ghost.token)}
    assert [end.id for end in server.finish(finished(ghost), finished(run))] == [run.id]


def test_nothing_is_recorded_after_the_end(server: Server) -> None:
    (run,) = server.begin(*free())
    server.finish(finished(run))
    assert server.record(step(run)).stale == {(run.id, run.token)}
    assert server.finish(finished(run, "failed", error='{"type":"E"}')) == []
    assert server.run(run.id)["state"] == "succeeded"
    assert steps(server) == []


def test_a_record_and_the_end_in_one_batch_are_both_kept(server: Server) -> None:
    (run,) = server.begin(*free())
    results, _ = server.transact(FinishRuns([finished(run)], ignore), RecordSteps([step(run)], ignore))
    assert results[0][0].state == "succeeded"
    assert results[1].stale == set()
    assert len(steps(server)) == 1


def test_an_end_keeps_result_error_and_time(server: Server) -> None:
    good, bad = server.begin(*free(2))
    server.finish(finished(good, result="[1,2]"), finished(bad, "failed", error='{"type":"E","message":"no"}'))
    assert [(server.run(run.id)["result"], server.run(run.id)["error"]) for run in (good, bad)] == [
        ("[1,2]", None), (None, '{"type":"E","message":"no"}'),
    ]  # fmt: skip
    assert server.run(good.id)["ended_at"] == server.clock.now()


def test_an_end_frees_the_slot(server: Server) -> None:
    (first,) = server.begin(admit(), admit())
    assert server.claim() == []
    server.finish(finished(first))
    assert [run.id for run in server.claim()] == [first.id + 1]


# --- retries -------------------------------------------------------------------------------------------------------


def test_a_retry_is_scheduled_and_is_a_new_attempt(server: Server) -> None:
    (run,) = server.begin(admit())
    at = server.clock.now() + 60 * SECOND
    (end,) = server.finish(finished(run, "failed", error='{"type":"E"}', retry_at=at))
    assert end.state == "scheduled"
    row = server.run(run.id)
    assert (row["state"], row["attempt"], row["not_before"], row["ended_at"]) == ("scheduled", 2, at, None)
    assert server.claim() == []
    assert server.queue_due() == at
    server.clock.at = at
    assert server.queue_due() is None
    (again,) = server.claim()
    assert (again.id, again.attempt) == (run.id, 2)
    assert again.token > run.token
    server.finish(finished(again))
    row = server.run(run.id)
    assert (row["state"], row["error"], row["attempt"]) == ("succeeded", None, 2)


def test_a_retry_waits_without_its_slot_and_takes_it_again(server: Server) -> None:
    (first,) = server.begin(admit(), admit())
    server.finish(finished(first, "failed", retry_at=server.clock.now() + SECOND))
    (second,) = server.claim()
    server.clock.advance(2 * SECOND)
    server.queue_due()
    assert server.claim() == [], "the slot is taken meanwhile"
    server.finish(finished(second))
    assert [run.id for run in server.claim()] == [first.id]


def test_a_retry_keeps_what_was_recorded_and_opens_what_failed(server: Server) -> None:
    (run,) = server.begin(*free())
    server.record(step(run, "a", seq=1), step(run, "b", "failed", seq=2, error='{"type":"E"}'))
    server.finish(finished(run, "failed", retry_at=server.clock.now()))
    server.queue_due()
    (again,) = server.claim()
    assert [(row[0], row[4]) for row in again.steps] == [("a", "succeeded"), ("b", "retrying")]


def test_an_end_without_a_retry_leaves_failed_steps_alone(server: Server) -> None:
    done, retried = server.begin(*free(2))
    server.record(step(done, "a", "failed", error='{"type":"E"}'), step(retried, "b", "failed", error='{"type":"E"}'))
    server.finish(finished(done, "failed"), finished(retried, "failed", retry_at=server.clock.now()))
    assert [(row["identity"], row["state"]) for row in steps(server)] == [("a", "failed"), ("b", "retrying")]


# --- going on elsewhere --------------------------------------------------------------------------------------------


def test_a_run_goes_on_with_its_finished_records_in_order(server: Server) -> None:
    (run,) = server.begin(*free())
    server.record(
        step(run, "b", seq=2),
        step(run, "a", seq=1),
        step(run, "c", "retrying", seq=3, attempt=2, error='{"type":"E"}'),
        step(run, "d", "running", seq=4),
    )
    again = taken_over(server, run)
    assert [row[0] for row in again.steps] == ["a", "b", "c", "d"]
    assert again.steps[3][4] == "running", "it is begun anew, under its number"
    assert again.steps[2] == ["c", "step", 3, 2, "retrying", None, '{"type":"E"}']
    assert again.attempt == run.attempt, "a take-over is not an attempt"


def test_a_fresh_run_has_no_records(server: Server) -> None:
    old, other = server.begin(*free(2))
    server.record(step(old), step(other))
    taken_over(server, old)
    (fresh,) = server.begin(*free())
    assert not fresh.steps


# --- losses --------------------------------------------------------------------------------------------------------


def lose_times(server: Server, run: Claimed, times: int) -> Claimed:
    """Lose a run's worker several times, blaming the run."""
    for _ in range(times):
        run = taken_over(server, run, blame=1)
    return run


def test_the_third_loss_without_a_record_is_the_end(server: Server) -> None:
    (run,) = server.begin(*free())
    run = lose_times(server, run, 2)
    assert server.run(run.id)["losses"] == 2
    (end,) = server.lose(run)
    assert end.state == "failed"
    row = server.run(run.id)
    assert (row["state"], row["ended_at"], row["takeovers"]) == ("failed", server.clock.now(), 3)
    assert "worker_lost" in row["error"]
    assert server.claim() == []


def test_a_record_in_a_new_worker_forgives_the_losses(server: Server) -> None:
    (run,) = server.begin(*free())
    run = lose_times(server, run, 2)
    server.record(step(run, "progress"))
    run = lose_times(server, run, 2)
    assert server.lose(run)[0].state == "failed"


def test_saying_that_a_step_runs_is_no_progress(server: Server) -> None:
    """A step that kills its worker after a while would otherwise do so for ever."""
    (run,) = server.begin(*free())
    for _ in range(2):
        server.record(step(run, "deadly", "running"))
        run = taken_over(server, run, blame=1)
    server.record(step(run, "deadly", "running"))
    assert server.lose(run)[0].state == "failed"


def test_a_stale_record_forgives_nothing(server: Server) -> None:
    (first,) = server.begin(*free())
    second = taken_over(server, first, blame=1)
    third = taken_over(server, second, blame=1)
    assert server.record(step(second, "late")).stale == {(second.id, second.token)}
    assert server.lose(third)[0].state == "failed"


def test_a_loss_that_is_nobodys_fault_does_not_count(server: Server) -> None:
    (run,) = server.begin(*free())
    for _ in range(5):
        run = taken_over(server, run, blame=0)
    row = server.run(run.id)
    assert (row["state"], row["losses"], row["takeovers"]) == ("running", 0, 5)
    assert row["lane"] == run.lane == "etl#sync"


def test_a_suspect_goes_on_in_a_process_of_its_own(server: Server) -> None:
    (run,) = server.begin(*free())
    server.lose(run, blame=1)
    assert server.claim() == [], "not among its neighbours again"
    (again,) = server.claim({"etl#isolated": 1})
    assert (again.id, again.lane) == (run.id, "etl#isolated")


@pytest.mark.parametrize("location", ["a#b", "#", "a##b#"])
def test_a_suspect_stays_at_its_location_whatever_that_is_called(server: Server, location: str) -> None:
    (run,) = server.transact(admit("free", limited=False, lane=f"{location}#sync"), room={f"{location}#sync": 1})[1]
    server.lose(run, blame=1)
    assert server.run(run.id)["lane"] == f"{location}#isolated"


def test_a_loss_with_a_stale_token_changes_nothing(server: Server) -> None:
    (run,) = server.begin(*free())
    again = taken_over(server, run)
    server.lose(run, blame=1)
    row = server.run(run.id)
    assert (row["losses"], row["owner"], row["token"]) == (0, server.owner, again.token)
    assert server.claim() == []


def test_a_cancelled_run_that_loses_its_worker_is_cancelled(server: Server) -> None:
    (run,) = server.begin(*free())
    server.cancel(run.uuid)
    assert server.lose(run)[0].state == "cancelled"
    row = server.run(run.id)
    assert (row["state"], row["error"], row["ended_at"]) == ("cancelled", None, server.clock.now())
