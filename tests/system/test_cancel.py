"""Cancelling: what waits is cancelled at once, what runs as soon as its code allows, children with their parents."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.harness import FLOWS, Start
from tests.system.meeting import Meeting
from tests.system.processes import await_end
from tests.system.witnessed import lines_of

STUBBORN = FLOWS / "stubborn.py"
PATIENT = {"pullcord.engine.engine": {"GRACE": 600.0}}
"""So long may a neighbour take to move: it is the test that sends it on."""


def test_a_queued_run_is_cancelled_at_once_and_never_starts(serve: Start, meeting: Meeting) -> None:
    server = serve(STUBBORN)
    runs = [server.api.run("only-one", {"port": meeting.port, "text": text}) for text in ("first", "second", "third")]
    first = meeting.guest()
    reply = server.api.cancel(runs[1], reason="a mistake")
    assert (reply.status, reply.body["state"]) == (202, "cancelled")
    cancelled = reply.body["cancel"]
    assert (cancelled["by"], cancelled["reason"], cancelled["force"]) == ("owner", "a mistake", False)
    first.go()
    third = meeting.guest()
    assert third.text == "third"
    third.go()
    assert [server.api.end(run)["state"] for run in runs] == ["succeeded", "cancelled", "succeeded"]
    again = server.api.cancel(runs[1])
    assert (again.status, again.body["code"], again.body["state"]) == (409, "not_cancellable", "cancelled")


def test_a_scheduled_run_is_cancelled_at_once(serve: Start, meeting: Meeting) -> None:
    server = serve(STUBBORN)
    run = server.api.run("only-one", {"port": meeting.port}, not_before="2100-01-01T00:00:00Z")
    assert server.api.look(run)["state"] == "scheduled"
    assert server.api.cancel(run).body["state"] == "cancelled"


def test_an_async_run_stops_at_once_and_may_clean_up(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(STUBBORN, workers=1)
    workers = server.staff()
    run = server.api.run("endless-async", {"port": meeting.port, "log": str(log)})
    meeting.guest()
    assert server.api.cancel(run).body["state"] in ("cancelling", "cancelled")
    assert server.api.end(run)["state"] == "cancelled"
    assert [line["kind"] for line in lines_of(log)] == ["cleaned up"]
    assert server.workers_alive() == workers


def test_a_sync_run_stops_at_its_next_step(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(STUBBORN, workers=1)
    workers = server.staff()
    run = server.api.run("two-steps", {"port": meeting.port, "log": str(log)})
    guest = meeting.guest()
    assert server.api.cancel(run).body["state"] == "cancelling"
    assert server.api.cancel(run).status == 202  # asking again is no error
    assert server.api.look(run)["state"] == "cancelling"
    guest.go("finished")
    ended = server.api.end(run)
    assert (ended["state"], ended["result"]) == ("cancelled", None)
    assert [(step["name"], step["result"]) for step in ended["steps"]] == [("met", "finished")]
    assert lines_of(log) == []
    assert server.workers_alive() == workers


def test_force_replaces_the_process_and_the_neighbours_go_on(serve: Start, meeting: Meeting) -> None:
    server = serve(STUBBORN, workers=1, constants=PATIENT)
    stubborn = server.api.run("stubborn", {"port": meeting.port})
    guest = meeting.guest()
    neighbour = server.api.run("only-one", {"port": meeting.port, "text": "neighbour"})
    beside = meeting.guest()
    assert beside.pid == guest.pid
    assert server.api.cancel(stubborn).body["state"] == "cancelling"
    assert server.api.cancel(stubborn, force=True).body["cancel"]["force"] is True
    beside.go("well")
    await_end([guest.pid])
    assert server.api.end(stubborn)["state"] == "cancelled"
    ended = server.api.end(neighbour)
    assert (ended["state"], ended["result"]) == ("succeeded", "well")
    assert server.api.result("sleeps", {"length": 0})["state"] == "succeeded"


def test_a_neighbour_that_moves_goes_on_when_the_process_that_holds_its_locks_is_dead(
    serve: Start, meeting: Meeting, tmp_path: Path
) -> None:
    server = serve(STUBBORN, workers=1, constants=PATIENT)
    stubborn = server.api.run("stubborn", {"port": meeting.port})
    guest = meeting.guest()
    slow = server.api.run("only-one", {"port": meeting.port, "text": "slow"})
    beside = meeting.guest()
    mover = server.api.run("locks", {"port": meeting.port, "path": str(tmp_path / "lock")})
    holder = meeting.guest()
    assert guest.pid == beside.pid == holder.pid
    assert server.api.cancel(stubborn, force=True).status == 202
    # The worker that was started in the place of this one executes runs.
    assert server.api.result("sleeps", {"length": 0})["state"] == "succeeded"
    holder.go()
    assert server.api.result("sleeps", {"length": 0})["state"] == "succeeded"
    meeting.nobody()
    beside.go("well")
    await_end([guest.pid])
    again = meeting.guest()
    assert (again.run, again.text) == (mover, "second")
    again.go("done")
    assert [server.api.end(run)["result"] for run in (mover, slow)] == ["done", "well"]


@pytest.mark.parametrize("flow", ["parent", "parent-async", "grandparent"])
def test_cancel_reaches_running_children(flow: str, serve: Start, meeting: Meeting) -> None:
    server = serve(STUBBORN)
    run = server.api.run(flow, {"port": meeting.port})
    child = meeting.guest()
    assert child.run != run
    server.api.cancel(run)
    child.go()
    runs = [item["id"] for item in server.api.get("/v1/runs").body["items"]]
    assert len(runs) == (3 if flow == "grandparent" else 2)
    assert [server.api.end(each)["state"] for each in runs] == ["cancelled"] * len(runs)


def test_cancel_reaches_a_child_that_waits_in_a_queue(serve: Start, meeting: Meeting) -> None:
    server = serve(STUBBORN)
    holder = server.api.run("only-one", {"port": meeting.port, "text": "holder"})
    guest = meeting.guest()
    run = server.api.run("parent", {"port": meeting.port})
    waiting = server.api.state(run, "waiting")
    assert waiting["waiting_for"]["kind"] == "child"
    server.api.cancel(run)
    assert server.api.end(run)["state"] == "cancelled"
    guest.go()
    assert server.api.end(holder)["state"] == "succeeded"
    meeting.nobody()


def test_a_cancelled_child_fails_its_parent_alone(serve: Start, meeting: Meeting) -> None:
    server = serve(STUBBORN)
    run = server.api.run("parent", {"port": meeting.port})
    child = meeting.guest()
    server.api.cancel(child.run)
    child.go()
    ended = server.api.end(run)
    assert (ended["state"], ended["error"]["type"]) == ("failed", "child_failed")
    assert "cancelled" in ended["error"]["message"]


@pytest.mark.parametrize("flow", ["sleeps", "sleeps-async"])
def test_a_sleeping_run_is_cancelled_at_once(flow: str, serve: Start) -> None:
    server = serve(STUBBORN)
    run = server.api.run(flow, {"length": 600})
    assert server.api.state(run, "waiting")["waiting_for"]["kind"] == "time"
    server.api.cancel(run)
    assert server.api.end(run)["state"] == "cancelled"


def test_what_was_being_cancelled_when_the_server_died_is_cancelled_by_the_next(serve: Start, meeting: Meeting) -> None:
    server = serve(STUBBORN)
    run = server.api.run("stubborn", {"port": meeting.port})
    meeting.guest()
    assert server.api.cancel(run).body["state"] == "cancelling"
    server.kill()
    server.start()
    assert server.api.look(run)["state"] == "cancelled"
    meeting.nobody()


def test_a_worker_that_dies_while_its_run_is_being_cancelled_ends_it(serve: Start, meeting: Meeting) -> None:
    server = serve(STUBBORN)
    run = server.api.run("stubborn", {"port": meeting.port})
    meeting.guest()
    server.api.cancel(run)
    server.kill_workers()
    assert server.api.end(run)["state"] == "cancelled"
    meeting.nobody()
