"""Cancelling, waiting, due times, and what a starting server finds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pullcord.core.errors import NotCancellableError, NotFoundError
from pullcord.core.states import TRANSITIONS, RunState
from pullcord.store.commands.cancelling import CancelRun
from pullcord.store.commands.journal import FinishRuns
from pullcord.store.commands.lifecycle import LoseRuns, SetWaiting
from pullcord.store.transaction import ignore
from tests.store.harness import LANE, NOON, SECOND, Server, admit, finished, spec, step

FREE: dict[str, Any] = {"limited": False}


def ids(changed: Any) -> list[tuple[int, str]]:
    """Return what a cancel changed."""
    return [(end.id, end.state) for _, end in changed]


# --- cancelling ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("not_before", [None, NOON * 2])
def test_a_run_that_has_not_begun_is_cancelled_at_once(server: Server, not_before: int | None) -> None:
    (decision,) = server.admit(admit(not_before=not_before))
    changed = server.cancel(decision.run_uuid or "", invoker="ada", reason="not needed")
    assert ids(changed) == [(decision.id, "cancelled")]
    assert [uuid for uuid, _ in changed] == [decision.run_uuid]
    row = server.run(decision.id)
    assert (row["state"], row["ended_at"]) == ("cancelled", server.clock.now())
    assert json.loads(row["cancel"]) == {
        "by": "ada", "at": "2026-01-01T00:00:00Z", "reason": "not needed", "force": False,
    }  # fmt: skip
    assert server.claim() == []
    assert server.queue_due() is None


@pytest.mark.parametrize("waiting", [False, True])
def test_a_run_in_a_worker_is_cancelling_until_the_worker_says_so(server: Server, waiting: bool) -> None:
    (run,) = server.begin(admit(), admit())
    if waiting:
        server.wait(run, '{"kind":"time","text":"sleeps"}')
    assert ids(server.cancel(run.uuid)) == [(run.id, "cancelling")]
    assert server.claim() == [], "it holds its slot until it has stopped"
    row = server.run(run.id)
    assert (row["state"], row["ended_at"], row["waiting_for"]) == ("cancelling", None, None)
    server.finish(finished(run, "cancelled"))
    assert server.run(run.id)["state"] == "cancelled"
    assert len(server.claim()) == 1


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_however_a_cancelled_run_ends_it_is_cancelled(server: Server, state: str) -> None:
    (run,) = server.begin(admit())
    server.cancel(run.uuid)
    at = server.clock.now() + SECOND
    server.finish(finished(run, state, error='{"type":"E"}', retry_at=at if state == "failed" else None))
    row = server.run(run.id)
    assert (row["state"], row["result"], row["error"], row["attempt"]) == ("cancelled", None, None, 1)
    assert row["ended_at"] == server.clock.now()


def test_a_cancelling_run_may_still_record_what_it_did(server: Server) -> None:
    (run,) = server.begin(admit())
    server.cancel(run.uuid)
    assert server.record(step(run)).stale == set()


def test_cancelling_twice_changes_nothing_and_the_first_note_stays(server: Server) -> None:
    (run,) = server.begin(admit())
    server.cancel(run.uuid, invoker="ada", reason="first")
    assert ids(server.cancel(run.uuid, invoker="bob", reason="second")) == []
    note = {"by": "ada", "at": "2026-01-01T00:00:00Z", "reason": "first", "force": False}
    assert json.loads(server.run(run.id)["cancel"]) == note
    for _ in range(2):
        assert ids(server.cancel(run.uuid, invoker="bob", force=True)) == [(run.id, "cancelling")]
        assert json.loads(server.run(run.id)["cancel"]) == note | {"force": True}
    assert ids(server.cancel(run.uuid, invoker="bob")) == []
    assert json.loads(server.run(run.id)["cancel"])["force"], "force stays asked for"
    asked = server.rows("SELECT invoker FROM audit WHERE action = 'run.cancel' ORDER BY id")
    assert [row["invoker"] for row in asked] == ["ada", "bob", "bob", "bob", "bob"]


def test_a_run_that_waits_for_its_next_attempt_is_cancelled_at_once(server: Server) -> None:
    (run,) = server.begin(admit())
    server.record(step(run, state="failed", error="{}"))
    server.finish(finished(run, "failed", error="{}", retry_at=server.clock.now() + SECOND))
    assert server.run(run.id)["state"] == "scheduled"
    assert ids(server.cancel(run.uuid)) == [(run.id, "cancelled")]
    assert [row["state"] for row in server.rows("SELECT state FROM steps")] == ["failed"], "no try follows"
    server.clock.advance(2 * SECOND)
    server.queue_due()
    assert server.claim() == []


def test_a_cancelled_run_does_not_say_when_it_would_have_been_tried_again(server: Server) -> None:
    (run,) = server.begin(admit())
    server.cancel(run.uuid)
    server.finish(finished(run, "failed", error="{}", retry_at=server.clock.now() + SECOND))
    assert server.run(run.id)["not_before"] is None


@pytest.mark.parametrize("state", ["succeeded", "failed"])
def test_a_run_that_has_ended_cannot_be_cancelled(server: Server, state: str) -> None:
    (run,) = server.begin(admit())
    server.finish(finished(run, state))
    result = server.cancel(run.uuid)
    assert isinstance(result, NotCancellableError)
    assert result.state == state
    assert server.run(run.id)["cancel"] is None
    assert server.rows("SELECT 1 FROM audit WHERE action = 'run.cancel'") == []


def test_a_run_that_does_not_exist_cannot_be_cancelled(server: Server) -> None:
    assert isinstance(server.cancel("no-such-run"), NotFoundError)


def test_an_end_and_a_cancel_at_the_same_moment(server: Server) -> None:
    (run,) = server.begin(admit())
    results, _ = server.transact(
        CancelRun(run.uuid, "owner", None, False, "now", ignore), FinishRuns([finished(run)], ignore)
    )
    assert isinstance(results[0], NotCancellableError), "it had ended when it was cancelled"
    assert server.run(run.id)["state"] == "succeeded"


def test_cancelling_is_audited(server: Server) -> None:
    (run,) = server.begin(admit())
    server.cancel(run.uuid, invoker="ada", reason="why", force=True)
    (row,) = server.rows("SELECT * FROM audit WHERE action = 'run.cancel'")
    assert (row["invoker"], row["subject_id"]) == ("ada", run.id)
    assert json.loads(row["detail"]) == {"reason": "why", "force": True}


def test_children_are_cancelled_with_their_parent(server: Server) -> None:
    (parent,) = server.begin(admit("free", **FREE))
    done, running = server.begin(*[admit("free", **FREE, parent_id=parent.id) for _ in range(2)])
    server.finish(finished(done))
    (queued,) = server.admit(admit("f", parent_id=running.id, lane="elsewhere#sync"))
    (stranger,) = server.begin(admit("g"))
    changed = server.cancel(parent.uuid)
    assert ids(changed) == [(parent.id, "cancelling"), (running.id, "cancelling"), (queued.id, "cancelled")]
    assert server.states()[done.id] == "succeeded"
    assert server.states()[stranger.id] == "running"


def test_a_child_is_cancelled_without_its_parent(server: Server) -> None:
    (parent,) = server.begin(admit("free", **FREE))
    (child,) = server.begin(admit("free", **FREE, parent_id=parent.id))
    assert ids(server.cancel(child.uuid)) == [(child.id, "cancelling")]
    assert server.states()[parent.id] == "running"


def test_a_run_without_a_worker_is_cancelled_at_once(server: Server) -> None:
    (run,) = server.begin(admit(), admit())
    server.lose(run)
    assert server.claim() == []
    assert ids(server.cancel(run.uuid)) == [(run.id, "cancelled")]
    assert [again.id for again in server.claim()] == [run.id + 1], "its slot is free"


def test_cancelling_a_run_without_a_worker_is_in_the_table_of_transitions(server: Server) -> None:
    (run,) = server.begin(admit())
    server.lose(run)
    before = RunState(server.run(run.id)["state"])
    server.cancel(run.uuid)
    assert RunState(server.run(run.id)["state"]) in TRANSITIONS[before]


# --- waiting -------------------------------------------------------------------------------------------------------


def test_a_waiting_run_says_what_for_and_keeps_its_slot(server: Server) -> None:
    (run,) = server.begin(admit(), admit())
    server.wait(run, '{"kind":"time","text":"sleeps"}')
    row = server.run(run.id)
    assert (row["state"], row["waiting_for"], row["token"]) == ("waiting", '{"kind":"time","text":"sleeps"}', run.token)
    assert server.claim() == []
    server.wait(run, None)
    row = server.run(run.id)
    assert (row["state"], row["waiting_for"]) == ("running", None)


def test_the_last_word_of_a_batch_counts(server: Server) -> None:
    (run,) = server.begin(admit())
    server.transact(*[SetWaiting(run.id, run.token, text, ignore) for text in ("a", None, "b")])
    assert server.run(run.id)["waiting_for"] == "b"
    server.transact(*[SetWaiting(run.id, run.token, text, ignore) for text in ("c", None)])
    assert server.run(run.id)["state"] == "running"


def test_who_waits_may_record_and_end(server: Server) -> None:
    (run,) = server.begin(admit())
    server.wait(run, "x")
    assert server.record(step(run)).stale == set()
    assert [end.state for end in server.finish(finished(run))] == ["succeeded"]
    assert server.run(run.id)["waiting_for"] is None


@pytest.mark.parametrize("what", ["stale", "cancelling", "ended", "queued"])
def test_a_word_that_comes_too_late_or_too_early_changes_nothing(server: Server, what: str) -> None:
    (run,) = server.begin(admit(), admit())
    if what == "stale":
        server.lose(run, blame=0)
        (again,) = server.claim()
        assert again.token > run.token
    elif what == "cancelling":
        server.cancel(run.uuid)
    elif what == "ended":
        server.finish(finished(run))
    number, token = (run.id, run.token) if what != "queued" else (run.id + 1, 0)
    before = server.run(number)
    server.write(SetWaiting(number, token, "x", ignore))
    server.write(SetWaiting(number, token, None, ignore))
    assert server.run(number) == before


def test_a_waiting_run_that_loses_its_worker_goes_on(server: Server) -> None:
    (run,) = server.begin(admit())
    server.wait(run, "x")
    assert [end.state for end in server.lose(run, blame=0)] == ["running"]
    (again,) = server.claim()
    assert (again.id, server.run(run.id)["waiting_for"]) == (run.id, None)


# --- due times -----------------------------------------------------------------------------------------------------


def test_due_runs_queue_and_the_next_time_is_told(server: Server) -> None:
    asked = [admit("free", **FREE, not_before=NOON + n * SECOND) for n in (3, 1, 2)]
    late, early, middle = (decision.id for decision in server.admit(*asked))
    assert server.queue_due() == NOON + SECOND
    assert server.claim() == []
    server.clock.at = NOON + 2 * SECOND
    assert server.queue_due() == NOON + 3 * SECOND
    assert server.states() == {late: "scheduled", early: "queued", middle: "queued"}
    assert server.run(early)["queued_at"] == server.clock.now()
    assert [run.id for run in server.claim()] == [early, middle]
    server.clock.at = NOON + 3 * SECOND
    assert server.queue_due() is None
    assert [run.id for run in server.claim()] == [late]


def test_a_due_run_waits_for_its_slot_like_any_other(server: Server) -> None:
    (running,) = server.begin(admit())
    (due,) = server.admit(admit(not_before=server.clock.now()))
    server.queue_due()
    assert server.claim() == []
    server.finish(finished(running))
    assert [run.id for run in server.claim()] == [due.id]


def test_very_many_due_runs_queue_in_portions(server: Server) -> None:
    server.admit(*[admit("free", **FREE, not_before=NOON) for _ in range(1500)])
    assert server.queue_due() == NOON, "there are more, and they are due"
    assert list(server.states().values()).count("queued") == 1000
    assert server.queue_due() is None
    assert set(server.states().values()) == {"queued"}


# --- a server starts -----------------------------------------------------------------------------------------------


def test_a_starting_server_takes_over_what_was_active(server: Server) -> None:
    server.register(spec("f", 4))
    running, waiting, cancelling, lost = server.begin(*[admit() for _ in range(4)])
    (queued,) = server.admit(admit())
    (scheduled,) = server.admit(admit("g", not_before=NOON * 2))
    server.wait(waiting, "x")
    server.cancel(cancelling.uuid)
    server.lose(lost, blame=0)
    assert server.restart() == NOON * 2
    states = server.states()
    assert (states[running.id], states[waiting.id], states[lost.id]) == ("running", "running", "running")
    assert states[cancelling.id] == "cancelled"
    assert (states[queued.id], states[scheduled.id]) == ("queued", "scheduled")
    claimed = server.claim()
    assert [run.id for run in claimed] == [running.id, waiting.id, lost.id, queued.id]
    assert [run.token for run in claimed] == [2, 2, 2, 1]


def test_a_restart_is_nobodys_fault(server: Server) -> None:
    (run,) = server.begin(admit())
    for _ in range(6):
        server.restart()
        assert [again.id for again in server.claim()] == [run.id]
    row = server.run(run.id)
    assert (row["losses"], row["takeovers"], row["attempt"], row["token"]) == (0, 6, 1, 7)


def test_a_run_that_was_lost_before_the_restart_counts_one_take_over(server: Server) -> None:
    (run,) = server.begin(admit())
    server.lose(run, blame=0)
    server.restart()
    server.claim()
    assert server.run(run.id)["takeovers"] == 1


def test_what_the_old_servers_workers_still_say_is_refused(server: Server) -> None:
    (run,) = server.begin(admit())
    server.restart()
    (again,) = server.claim()
    assert server.record(step(run)).stale == {(run.id, run.token)}
    assert server.finish(finished(run)) == []
    assert [end.id for end in server.finish(finished(again))] == [run.id]


def test_a_loss_and_a_word_about_waiting_in_one_batch(server: Server) -> None:
    (run,) = server.begin(admit())
    server.transact(
        SetWaiting(run.id, run.token, "x", ignore), LoseRuns([[run.id, run.token, 0, None]], ignore), room={LANE: 0}
    )
    (again,) = server.claim()
    row = server.run(run.id)
    assert (again.id, row["state"], row["waiting_for"]) == (run.id, "running", None)
