"""Steps and runs that take too long: they alone pay for it, though a thread cannot be stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.system.harness import FLOWS, Server, Start
from tests.system.meeting import Meeting
from tests.system.processes import await_end, poll
from tests.system.witnessed import executions, lines_of

STUBBORN = FLOWS / "stubborn.py"
PATIENT = {"pullcord.engine.engine": {"GRACE": 600.0}}
"""So long may a neighbour take to move: it is the test that sends it on."""


def doomed(server: Server) -> None:
    """Wait until the only run worker is to be replaced: its successor is there."""
    poll(lambda: len(server.workers_alive()) == 3)


@pytest.mark.parametrize("flow", ["stuck-step", "short-flow"])
def test_a_stuck_run_fails_and_its_neighbours_finish_elsewhere(
    flow: str, serve: Start, meeting: Meeting, log: Path
) -> None:
    server = serve(STUBBORN, workers=1, constants=PATIENT)
    runs = [server.api.run(name, {"port": meeting.port, "log": str(log)}) for name in ("neighbour", "neighbour-async")]
    before = meeting.guests(2)
    inputs = {"port": meeting.port} | ({"log": str(log)} if flow == "stuck-step" else {})
    stuck = server.api.run(flow, inputs)
    late = meeting.guest()
    assert late.text == "stuck"
    assert {late.pid} == {guest.pid for guest in before.values()}
    doomed(server)
    for text, guest in before.items():
        guest.go(text)
    await_end([late.pid])
    after = meeting.guests(2)
    assert late.pid not in {guest.pid for guest in after.values()}
    for text, guest in after.items():
        guest.go(text)
    assert [server.api.end(run)["result"] for run in runs] == [["before", "after"], ["before async", "after async"]]
    assert [server.api.look(run)["takeovers"] for run in runs] == [1, 1]
    counts = executions(lines_of(log))
    assert all(counts[run] == {0: 1} for run in runs), "a recorded step ran again"

    failed = server.api.end(stuck)
    assert failed["state"] == "failed"
    assert failed["error"]["type"] == ("step_timeout" if flow == "stuck-step" else "run_timeout")
    assert failed["attempt"] == 1
    assert server.stop() == 0


def test_a_neighbour_with_branches_moves_when_none_of_them_is_inside_a_step(
    serve: Start, meeting: Meeting, log: Path
) -> None:
    server = serve(STUBBORN, workers=1, constants=PATIENT)
    run = server.api.run("fans-out", {"port": meeting.port})
    other = server.api.run("neighbour", {"port": meeting.port, "log": str(log)})
    guests = meeting.guests(3)
    server.api.run("short-flow", {"port": meeting.port})
    meeting.guest()
    doomed(server)
    guests["short"].go("short")
    assert server.api.step(run, "met_async")["result"] == "short"
    guests["before"].go("before")
    assert server.api.result("sleeps", {"length": 0})["state"] == "succeeded"  # in the other worker, and after these
    meeting.nobody()  # the long step has not begun a second time while it was still running
    guests["long"].go("long")
    later = meeting.guests(2)
    assert later["after short"].run == run
    later["after short"].go(", after")
    later["after"].go("after")
    assert server.api.end(run)["result"] == ["long", "short, after"]
    assert server.api.end(other)["result"] == ["before", "after"]
    meeting.nobody()


def test_neighbours_that_do_not_reach_a_boundary_in_time_go_on_all_the_same(
    serve: Start, meeting: Meeting, log: Path
) -> None:
    server = serve(STUBBORN, workers=1, constants={"pullcord.engine.engine": {"GRACE": 0.3}})
    run = server.api.run("neighbour", {"port": meeting.port, "log": str(log)})
    before = meeting.guest()
    with Meeting() as elsewhere:  # it may be killed before it gets there
        server.api.run("short-flow", {"port": elsewhere.port})
        before.gone()
    again = meeting.guest()
    assert (again.run, again.text) == (run, "before")
    again.go("well")
    meeting.guest().go("done")
    ended = server.api.end(run)
    assert (ended["state"], ended["result"], ended["takeovers"]) == ("succeeded", ["well", "done"], 1)


def test_a_flow_can_catch_the_timeout_of_its_step(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(STUBBORN)
    run = server.api.result("stuck-step-caught", {"port": meeting.port, "log": str(log)})
    assert (run["state"], run["result"]) == ("succeeded", "StepTimeoutError")
    assert executions(lines_of(log))[run["id"]] == {0: 1, 1: 1}
    assert [(step["name"], step["state"]) for step in run["steps"]] == [
        ("noted", "succeeded"),
        ("short_step", "failed"),
        ("noted", "succeeded"),
    ]


def test_a_step_that_was_too_late_is_tried_again_in_another_process(
    serve: Start, meeting: Meeting, tmp_path: Path
) -> None:
    server = serve(STUBBORN)
    run = server.api.result("stuck-once", {"port": meeting.port, "marker": str(tmp_path / "marker")})
    assert (run["state"], run["result"]) == ("succeeded", "in time")
    (step,) = run["steps"]
    assert (step["name"], step["state"]) == ("short_step_twice", "succeeded")
    assert step["attempt"] >= 2  # a slow worker may be late once more


def test_async_code_is_stopped_without_a_new_process(serve: Start) -> None:
    server = serve(STUBBORN, workers=1)
    workers = server.staff()
    assert server.api.result("stuck-step-async")["result"] == "StepTimeoutError"
    run = server.api.result("short-flow-async")
    assert (run["state"], run["error"]["type"]) == ("failed", "run_timeout")
    assert server.workers_alive() == workers


def test_an_isolated_run_that_is_too_late_leaves_no_process(serve: Start, meeting: Meeting) -> None:
    server = serve(STUBBORN, workers=1)
    workers = set(server.staff())
    run = server.api.run("short-flow-isolated", {"port": meeting.port})
    assert server.api.end(run)["error"]["type"] == "run_timeout"
    lines = [json.loads(line) for line in server.says.splitlines()]
    (pid,) = [line["worker_pid"] for line in lines if line.get("run_id") == run and "worker_pid" in line]
    assert pid not in workers
    await_end([pid])
    assert set(server.workers_alive()) == workers
