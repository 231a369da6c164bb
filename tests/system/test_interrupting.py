"""What cancelling does to the steps that are in progress, and what force does to the processes they are in."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from pullcord.store.queries.invariants.examine import examine
from tests.system.harness import FLOWS, Server, Start
from tests.system.invariants import opened
from tests.system.meeting import Meeting
from tests.system.processes import PATIENCE, alive, await_end, kill, poll
from tests.system.witnessed import lines_of

CUT, STUBBORN = FLOWS / "cut.py", FLOWS / "stubborn.py"
STORE = {
    "steps": ["store"],
    "text": "step store was interrupted and may have left orders.parquet, its index half-written",
}
COMMIT = {"steps": ["commit"], "text": "step commit was interrupted"}
AT_ONCE: dict[str, Any] = {"constants": {"pullcord.engine.engine": {"GRACE": 600.0, "MOMENT": 600.0}}}
"""So long does nobody wait who need not, and no worker is too slow to say what it was doing, or to stop by itself."""


def told(run: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["name"], step["state"]) for step in run["steps"]]


def sound(server: Server) -> None:
    """Stop the server, and look for rules that are broken."""
    assert server.stop() == 0
    with opened(server.data_dir) as db:
        assert [example for verdict in examine(db) for example in verdict.examples] == []


# --- steps that stop ------------------------------------------------------------------------------------------------


def test_an_async_step_is_interrupted_at_once_and_told(serve: Start, meeting: Meeting) -> None:
    server = serve(CUT, workers=1)
    workers = server.staff()
    run = server.api.run("stores-async", {"port": meeting.port, "path": "orders.parquet"})
    meeting.guest()
    server.api.cancel(run)
    ended = server.api.end(run)
    assert (ended["state"], told(ended)) == ("cancelled", [("store_async", "interrupted")])
    assert ended["partial"] == {
        "steps": ["store_async"],
        "text": "step store_async was interrupted and may have left orders.parquet half-written",
    }
    events = list(server.api.events(run))
    assert [data["state"] for kind, data in events if kind == "step"] == ["interrupted"]
    assert [data["partial"] for kind, data in events if kind == "run"][-1] == ended["partial"]
    assert server.workers_alive() == workers
    sound(server)


def test_many_calls_of_a_step_are_told_together(serve: Start, meeting: Meeting) -> None:
    server = serve(CUT)
    run = server.api.run("stores-many", {"port": meeting.port, "count": 12})
    guests = [meeting.guest() for _ in range(12)]
    server.api.cancel(run)
    partial = server.api.end(run)["partial"]
    assert partial["steps"] == ["store_async"]
    assert partial["text"].startswith("step store_async was interrupted in 12 calls and may have left part-0, part-1, ")
    assert partial["text"].endswith("part-9 and 2 more half-written")
    for guest in guests:
        guest.gone()
    sound(server)


def test_a_sync_step_that_is_let_end_is_not_interrupted(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(CUT)
    run = server.api.run("stores", {"port": meeting.port, "log": str(log)})
    guest = meeting.guest()
    server.api.cancel(run)
    guest.go("wait")
    ended = server.api.end(run)
    assert (ended["state"], ended["partial"]) == ("cancelled", None)
    assert told(ended) == [("noted", "succeeded"), ("store", "succeeded")]
    assert len(lines_of(log)) == 1
    sound(server)


def test_a_step_that_swallows_its_cancellation_counts_and_the_next_one_does_not_begin(
    serve: Start, meeting: Meeting, log: Path
) -> None:
    server = serve(CUT)
    run = server.api.run("swallows-once", {"port": meeting.port, "log": str(log)})
    meeting.guest()
    server.api.cancel(run)
    ended = server.api.end(run)
    assert (ended["state"], ended["partial"], told(ended)) == ("cancelled", None, [("swallows", "succeeded")])
    assert [line["kind"] for line in lines_of(log)] == ["swallowed"]
    meeting.nobody()


def test_a_step_may_clean_up_for_as_long_as_nobody_forces_it(serve: Start, meeting: Meeting) -> None:
    server = serve(CUT)
    run = server.api.run("tidies-up", {"port": meeting.port})
    meeting.guest()
    server.api.cancel(run)
    tidying = meeting.guest()
    assert tidying.text == "tidying"
    server.api.cancel(run)  # asking again does not interrupt the cleaning up
    assert server.api.look(run)["state"] == "cancelling"
    tidying.go()
    ended = server.api.end(run)
    assert (ended["state"], ended["partial"]["steps"]) == ("cancelled", ["tidies"])


def test_nothing_is_tried_again_when_code_raises_something_else(serve: Start, meeting: Meeting) -> None:
    server = serve(CUT)
    run = server.api.run("raises-instead", {"port": meeting.port})
    meeting.guest()
    server.api.cancel(run)
    ended = server.api.end(run)
    assert (ended["state"], ended["attempt"], ended["error"]) == ("cancelled", 1, None)
    assert told(ended) == [("raises_when_cancelled", "failed")]
    meeting.nobody()


def test_a_run_ends_when_all_its_threads_have_left_their_steps(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(CUT)
    run = server.api.run("leaves-a-thread", {"port": meeting.port, "log": str(log)})
    guest = meeting.guest()
    server.api.cancel(run)
    poll(lambda: lines_of(log))
    assert server.api.look(run)["state"] == "cancelling", "its thread is inside a step"
    guest.go()
    ended = server.api.end(run)
    assert (ended["state"], ended["partial"], told(ended)) == ("cancelled", None, [("store", "succeeded")])
    assert [line["kind"] for line in lines_of(log)] == ["knows"]
    sound(server)


def test_a_task_that_nobody_awaits_is_interrupted_too(serve: Start, meeting: Meeting) -> None:
    server = serve(CUT)
    run = server.api.run("leaves-a-task", {"port": meeting.port})
    guests = meeting.guests(2)
    server.api.cancel(run)
    for guest in guests.values():
        guest.gone()
    ended = server.api.end(run)
    assert (ended["state"], ended["partial"]["steps"]) == ("cancelled", ["store_async"])


def test_a_task_that_sleeps_is_interrupted_and_the_run_ends_after_it(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(CUT)
    run = server.api.run("leaves-a-sleep", {"port": meeting.port, "log": str(log)})
    server.api.state(run, "waiting")
    server.api.cancel(run)
    awake = meeting.guest()
    assert server.api.look(run)["state"] == "cancelling"
    awake.go()
    assert server.api.end(run)["state"] == "cancelled"
    assert [line["kind"] for line in lines_of(log)] == ["awake"]
    sound(server)


def test_a_sleep_that_ends_after_the_cancel_goes_no_further(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(CUT)
    run = server.api.run("sleeps-while-it-tidies", {"port": meeting.port, "log": str(log)})
    meeting.guest()
    server.api.step(run, "sleep")
    server.api.cancel(run)
    tidying = meeting.guest()
    poll(lambda: lines_of(log))
    tidying.go()
    assert server.api.end(run)["state"] == "cancelled"
    assert [line["kind"] for line in lines_of(log)] == ["awake"]
    sound(server)


@pytest.mark.parametrize("asks", [False, True])
def test_a_run_that_gives_up_a_wait_itself_is_running(asks: bool, serve: Start, meeting: Meeting) -> None:
    server = serve(CUT)
    run = server.api.run("gives-up-a-wait", {"port": meeting.port, "asks": asks})
    guests = meeting.guests(2)
    # When a later step is known, it is known too that there was something to wait for, and that it was given up.
    poll(lambda: ("store_async", "running") in told(server.api.look(run)))
    poll(lambda: server.api.look(run)["state"] == "running")
    assert server.api.look(run)["waiting_for"] is None
    guests["store"].go()
    server.api.state(run, "waiting")
    if asks:
        question = server.api.get("/v1/questions", flow="gives-up-a-wait").body["items"][0]["id"]
        assert server.api.post(f"/v1/questions/{question}/answer", {"answer": True}).status == 200
        poll(lambda: ("ask", "succeeded") in told(server.api.look(run)))
    now = server.api.look(run)
    assert (now["state"], now["waiting_for"]["kind"]) == ("waiting", "time"), "the answer is no end of its sleep"
    server.api.cancel(run)
    assert server.api.end(run)["state"] == "cancelled"
    sound(server)


def test_a_step_that_the_flow_gives_up_itself_makes_no_run_partial(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(CUT)
    run = server.api.run("gives-up-a-step", {"port": meeting.port, "log": str(log)})
    meeting.guests(2)["flow"].go()
    ended = server.api.end(run)
    assert (ended["state"], ended["partial"]) == ("succeeded", None)
    assert told(ended) == [("store_async", "interrupted"), ("noted", "succeeded")]
    sound(server)


# --- steps that finish ----------------------------------------------------------------------------------------------


def test_a_step_that_finishes_first_is_let_run_with_all_that_is_in_it(
    serve: Start, meeting: Meeting, log: Path
) -> None:
    server = serve(CUT)
    run = server.api.run("commits", {"port": meeting.port, "log": str(log)})
    guest = meeting.guest()
    server.api.cancel(run)
    guest.go("wait")
    within = meeting.guest()
    assert server.api.look(run)["state"] == "cancelling"
    within.go("done")
    ended = server.api.end(run)
    assert (ended["state"], ended["partial"]) == ("cancelled", None)
    assert ended["steps"][0]["result"] == "wait, done, cancelled: True"
    assert {state for _, state in told(ended)} == {"succeeded"}
    assert lines_of(log) == []
    sound(server)


@pytest.mark.parametrize("flow", ["commits-async", "commits-beside"])
def test_an_async_step_that_finishes_first_is_not_interrupted(
    flow: str, serve: Start, meeting: Meeting, log: Path
) -> None:
    server = serve(CUT)
    run = server.api.run(flow, {"port": meeting.port, "log": str(log)})
    guests = meeting.guests(1 if flow == "commits-async" else 2)
    server.api.cancel(run)
    if "store" in guests:
        guests["store"].gone()
    server.api.cancel(run)
    assert server.api.look(run)["state"] == "cancelling"
    guests["commit"].go("wait")
    ended = server.api.end(run)
    assert ended["state"] == "cancelled"
    assert ended["steps"][0] | {"started_at": 0, "ended_at": 0} == {
        "seq": 1, "name": "commit_async", "attempt": 1, "state": "succeeded", "started_at": 0, "ended_at": 0,
        "result": "wait", "error": None, "kept": False, "set_aside": None,
    }  # fmt: skip
    assert (ended["partial"] or {"steps": []})["steps"] == (["store_async"] if "store" in guests else [])
    assert lines_of(log) == []
    sound(server)


def test_what_is_inside_a_step_that_finishes_first_is_not_interrupted(serve: Start, meeting: Meeting) -> None:
    server = serve(CUT)
    run = server.api.run("commits-in-a-task", {"port": meeting.port})
    guest = meeting.guest()
    server.api.cancel(run)
    guest.go("wait")
    ended = server.api.end(run)
    assert (ended["state"], ended["partial"]) == ("cancelled", None)
    assert told(ended) == [("commit_around", "succeeded"), ("inner_async", "succeeded"), ("sleep", "succeeded")]
    assert ended["steps"][0]["result"] == "wait"
    sound(server)


@pytest.mark.parametrize("flow", ["fails-last", "fails-last-async"])
def test_a_step_that_finishes_first_is_not_tried_again(flow: str, serve: Start, meeting: Meeting) -> None:
    server = serve(CUT)
    run = server.api.run(flow, {"port": meeting.port})
    guest = meeting.guest()
    server.api.cancel(run)
    guest.go("wait")
    ended = server.api.end(run)
    assert (ended["state"], ended["attempt"], ended["error"], ended["partial"]) == ("cancelled", 1, None, None)
    assert [(step["state"], step["error"]["message"]) for step in ended["steps"]] == [("failed", "wait")]
    meeting.nobody()


def test_force_interrupts_an_async_step_that_would_finish_first(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(CUT, workers=1, **AT_ONCE)
    workers = server.staff()
    run = server.api.run("commits-beside", {"port": meeting.port, "log": str(log)})
    guests = meeting.guests(2)
    server.api.cancel(run, reason="first")
    guests["store"].gone()
    assert server.api.cancel(run, reason="second", force=True).body["cancel"]["reason"] == "first"
    ended = server.api.end(run)
    assert (ended["state"], ended["cancel"]["force"]) == ("cancelled", True)
    assert ended["partial"]["steps"] == ["commit_async", "store_async"]
    assert server.workers_alive() == workers, "it stopped by itself"
    sound(server)


# --- force ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", ["stores", "stores-alone", "commits"])
def test_a_thread_that_is_alone_is_killed_at_once_however_short_it_has_run(
    flow: str, serve: Start, meeting: Meeting, log: Path
) -> None:
    server = serve(CUT, workers=1, **AT_ONCE)
    inputs = {"port": meeting.port} | ({"path": "orders.parquet"} if flow == "stores-alone" else {"log": str(log)})
    run = server.api.run(flow, inputs)
    guest = meeting.guest()
    assert server.api.cancel(run, force=True).status == 202
    await_end([guest.pid])
    ended = server.api.end(run)
    assert ended["state"] == "cancelled"
    assert ended["partial"] == (COMMIT if flow == "commits" else STORE)
    assert told(ended)[-1][1] == "interrupted"
    sound(server)


def test_force_after_a_plain_cancel_has_the_process_replaced(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(CUT, workers=1, **AT_ONCE)
    run = server.api.run("stores", {"port": meeting.port, "log": str(log)})
    guest = meeting.guest()
    first = server.api.cancel(run, reason="first").body["cancel"]
    assert alive(guest.pid)
    again = server.api.cancel(run, reason="second", force=True).body["cancel"]
    assert again == first | {"force": True}
    await_end([guest.pid])
    assert server.api.end(run)["partial"] == STORE
    assert server.api.result("swallows-once", {"port": 1, "log": str(log)})["state"] == "failed"


def test_two_forced_runs_in_one_process_wait_for_nobody(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(CUT, workers=1, **AT_ONCE)
    runs = [server.api.run("stores", {"port": meeting.port, "log": str(log)}) for _ in range(2)]
    guests = [meeting.guest(), meeting.guest()]
    assert guests[0].pid == guests[1].pid
    for run in runs:
        server.api.cancel(run, force=True)
    await_end([guests[0].pid])
    assert [server.api.end(run)["partial"] for run in runs] == [STORE, STORE]
    sound(server)


def test_a_neighbour_that_does_not_move_is_waited_for_and_loses_nothing(
    serve: Start, meeting: Meeting, log: Path
) -> None:
    server = serve(CUT, STUBBORN, workers=1, constants={"pullcord.engine.engine": {"GRACE": 1.0, "MOMENT": 600.0}})
    run = server.api.run("stores", {"port": meeting.port, "log": str(log)})
    busy = server.api.run("commits", {"port": meeting.port, "log": str(log)})
    guests = meeting.guests(2)
    assert guests["store"].pid == guests["commit"].pid
    server.api.cancel(run, force=True)
    assert server.api.end(run)["partial"] == STORE
    again = meeting.guest()
    assert (again.run, again.text) == (busy, "commit")
    again.go("well")
    meeting.guest().go("done")
    ended = server.api.end(busy)
    assert (ended["state"], ended["takeovers"], ended["partial"]) == ("succeeded", 1, None)
    sound(server)


@pytest.mark.parametrize("in_time", [True, False])
def test_a_neighbour_that_was_cancelled_and_finishes_first_is_waited_for(
    in_time: bool, serve: Start, meeting: Meeting, log: Path
) -> None:
    patience = {"MOMENT": 600.0, "GRACE": 0.0, "FINISHING": 600.0 if in_time else 0.0}
    server = serve(CUT, workers=1, constants={"pullcord.engine.engine": patience})
    run = server.api.run("stores", {"port": meeting.port, "log": str(log)})
    busy = server.api.run("commits", {"port": meeting.port, "log": str(log)})
    guests = meeting.guests(2)
    assert guests["store"].pid == guests["commit"].pid
    server.api.cancel(busy)
    workers = set(server.workers_alive())
    server.api.cancel(run, force=True)
    poll(lambda: set(server.workers_alive()) - workers)
    if in_time:
        guests["commit"].go("wait")
        meeting.guest().go("done")
    else:
        guests["commit"].gone()
    ended = server.api.end(busy)
    assert (ended["state"], ended["partial"]) == ("cancelled", None if in_time else COMMIT)
    assert ended["cancel"]["force"] is False
    assert server.api.end(run)["partial"] == STORE
    sound(server)


@pytest.mark.parametrize(("flow", "steps"), [("tidies-up", ["tidies"]), ("blocks-the-loop", None)])
def test_async_code_that_does_not_stop_is_killed(
    flow: str, steps: list[str] | None, serve: Start, meeting: Meeting
) -> None:
    server = serve(CUT, workers=1, constants={"pullcord.engine.engine": {"GRACE": 600.0}})
    run = server.api.run(flow, {"port": meeting.port})
    pid = meeting.guest().pid
    if steps is not None:  # a slow worker may be killed before it has told of them
        poll(lambda: [name for name, _ in told(server.api.look(run))] == steps)
    server.api.cancel(run, force=True)
    await_end([pid])
    ended = server.api.end(run)
    assert ended["state"] == "cancelled"
    if steps is not None:
        assert ended["partial"]["steps"] == steps
    sound(server)


def test_a_step_that_blocks_the_loop_is_shown_all_the_same(serve: Start, meeting: Meeting) -> None:
    server = serve(CUT, workers=1)
    run = server.api.run("blocks-the-loop", {"port": meeting.port})
    guest = meeting.guest()
    poll(lambda: told(server.api.look(run)) == [("blocks", "running")])
    guest.go("done")
    assert server.api.end(run)["result"] == "done"


# --- other ends with steps in progress ------------------------------------------------------------------------------


def test_a_run_that_takes_too_long_is_partial(serve: Start, meeting: Meeting) -> None:
    server = serve(CUT)
    run = server.api.run("stores-in-time", {"port": meeting.port, "path": "orders.parquet"})
    ended = server.api.end(run)
    assert (ended["state"], ended["error"]["type"], ended["partial"]) == ("failed", "run_timeout", STORE)
    sound(server)


def test_a_run_that_has_failed_is_tried_again_when_its_other_branches_have_ended(
    serve: Start, meeting: Meeting
) -> None:
    server = serve(CUT)
    run = server.api.run("breaks-beside-a-task", {"port": meeting.port})
    for attempt in (1, 2):
        guests = meeting.guests(2)
        guests["breaks"].go("no")
        tidying = meeting.guest()
        assert (tidying.text, tidying.attempt) == ("tidying", attempt)
        now = server.api.look(run)
        assert (now["state"], now["attempt"]) == ("running", attempt), "its code still lets go of something"
        tidying.go()
    ended = server.api.end(run)
    assert (ended["state"], ended["error"]["message"]) == ("failed", "no")
    assert ended["partial"] == {"steps": ["tidies"], "text": "step tidies was interrupted"}
    meeting.nobody()
    sound(server)


def test_a_run_that_has_failed_lets_a_step_finish_first(serve: Start, meeting: Meeting) -> None:
    server = serve(CUT)
    run = server.api.run("breaks-beside-a-commit", {"port": meeting.port})
    guests = meeting.guests(2)
    guests["breaks"].go("no")
    poll(lambda: ("breaks_async", "failed") in told(server.api.look(run)))
    guests["commit"].go("done")
    again = meeting.guest()
    assert (again.text, again.attempt) == ("breaks", 2)
    again.go("no")
    ended = server.api.end(run)
    assert (ended["state"], ended["partial"]) == ("failed", None)
    assert [(step["name"], step["state"]) for step in ended["steps"] if step["name"] == "commit_async"] == [
        ("commit_async", "succeeded")
    ]
    meeting.nobody()
    sound(server)


@pytest.mark.parametrize("flow", ["breaks-beside-a-thread", "breaks-before-its-thread"])
def test_a_run_that_has_failed_waits_for_the_step_in_its_thread(flow: str, serve: Start, meeting: Meeting) -> None:
    server = serve(CUT)
    run = server.api.run(flow, {"port": meeting.port})
    guests = meeting.guests(2)
    poll(lambda: ("store", "running") in told(server.api.look(run)))
    guests["breaks"].go("no")
    if flow == "breaks-beside-a-thread":
        poll(lambda: ("breaks_async", "failed") in told(server.api.look(run)))
    assert ("store", "running") in told(server.api.look(run))
    guests["store"].go("done")
    again = meeting.guest()
    assert (again.text, again.attempt) == ("breaks", 2)
    again.go("no")
    ended = server.api.end(run)
    assert (ended["state"], ended["error"]["message"], ended["partial"]) == ("failed", "no", None)
    assert ("store", "succeeded") in told(ended)
    meeting.nobody()
    sound(server)


def test_an_async_run_that_takes_too_long_in_a_thread_has_its_process_replaced(serve: Start, meeting: Meeting) -> None:
    server = serve(CUT, workers=1, **AT_ONCE)
    run = server.api.run("stores-in-time-async", {"port": meeting.port})
    pid = meeting.guest().pid
    await_end([pid])
    ended = server.api.end(run)
    assert (ended["state"], ended["error"]["type"], ended["partial"]["steps"]) == ("failed", "run_timeout", ["store"])
    sound(server)


def test_a_run_that_loses_its_workers_is_partial(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(CUT)
    run = server.api.run("stores", {"port": meeting.port, "log": str(log)})
    for _ in range(3):
        meeting.guest()
        poll(lambda: ("store", "running") in told(server.api.look(run)))
        server.kill_workers()
    ended = server.api.end(run)
    assert (ended["state"], ended["error"]["type"], ended["partial"]) == ("failed", "worker_lost", STORE)
    sound(server)


# --- children -------------------------------------------------------------------------------------------------------


def test_a_run_that_waits_for_a_child_is_cancelled_at_once_and_the_child_when_it_can(
    serve: Start, meeting: Meeting, log: Path
) -> None:
    server = serve(CUT)
    run = server.api.run("passes-on-a-child", {"port": meeting.port, "log": str(log)})
    guest = meeting.guest()
    server.api.state(run, "waiting")
    server.api.cancel(run, reason="all of it")
    assert server.api.end(run)["state"] == "cancelled"
    middle = server.api.get("/v1/runs", flow="waits-for-a-child").body["items"][0]["id"]
    assert server.api.end(middle)["state"] == "cancelled"
    assert server.api.look(guest.run)["state"] == "cancelling"
    assert [server.api.look(each)["cancel"]["reason"] for each in (run, middle, guest.run)] == ["all of it"] * 3
    guest.go()
    assert server.api.end(guest.run)["state"] == "cancelled"
    sound(server)


def test_force_reaches_a_child_in_another_generation(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(CUT, **AT_ONCE)
    run = server.api.run("passes-on-a-child", {"port": meeting.port, "log": str(log)})
    guest = meeting.guest()
    server.api.state(run, "waiting")
    server.api.cancel(run, force=True)
    await_end([guest.pid])
    assert server.api.end(run)["state"] == "cancelled"
    assert server.api.end(guest.run)["partial"] == STORE


def test_a_child_that_is_being_asked_for_when_its_parent_is_cancelled_never_runs(
    serve: Start, meeting: Meeting
) -> None:
    server = serve(CUT)
    run = server.api.run("asks-for-a-child", {"port": meeting.port})
    meeting.guest().go()
    meeting.guest().go()  # the call itself looks at the inputs, in the parent's process
    validating = meeting.guest()
    assert (validating.text, server.api.state(run, "waiting")["waiting_for"]["kind"]) == ("validating", "child")
    server.api.cancel(run)
    assert server.api.end(run)["state"] == "cancelled"
    validating.go()
    meeting.guest().go()  # and once more, whether they survive as JSON
    refused = poll(lambda: server.api.get("/v1/requests", flow="slow-to-validate").body["items"])
    assert (refused[0]["outcome"], refused[0]["code"], refused[0]["run_id"]) == ("rejected", "parent_stopped", None)
    assert [item["flow"] for item in server.api.get("/v1/runs").body["items"]] == ["asks-for-a-child"]
    sound(server)


# --- at other moments -----------------------------------------------------------------------------------------------


def test_a_run_that_waits_for_its_next_attempt_is_cancelled_at_once(serve: Start, log: Path, tmp_path: Path) -> None:
    server = serve(STUBBORN)
    run = server.api.run("tried-again-later", {"log": str(log), "marker": str(tmp_path / "marker")})
    server.api.state(run, "scheduled")
    cancelled = server.api.cancel(run).body
    assert (cancelled["state"], cancelled["attempt"]) == ("cancelled", 2)
    assert told(cancelled) == [("noted", "succeeded"), ("breaks", "failed")]
    sound(server)


@pytest.mark.parametrize("in_time", [True, False])
def test_a_cancel_is_taken_while_the_server_stops(in_time: bool, serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(CUT, constants={"pullcord.api.server": {"DRAIN": 600.0 if in_time else 8.0}})
    run = server.api.run("stores", {"port": meeting.port, "log": str(log)})
    guest = meeting.guest()
    poll(lambda: ("store", "running") in told(server.api.look(run)))
    server.process.send_signal(signal.SIGTERM)
    # The signal has arrived when a run that nothing holds up is only queued.
    poll(lambda: server.api.ask("stores-async", {"port": 1, "path": "-"}).body["state"] == "queued")
    assert server.api.cancel(run).body["state"] == "cancelling"
    if in_time:
        guest.go()
    assert server.process.wait(PATIENCE) == 0
    with opened(server.data_dir) as db:
        state = db.execute("SELECT state FROM runs WHERE uuid = ?", (run,)).fetchone()[0]
    assert state == ("cancelled" if in_time else "cancelling")
    server.start()
    ended = server.api.look(run)
    assert (ended["state"], ended["partial"]) == ("cancelled", None if in_time else STORE)
    sound(server)


def test_a_step_that_finishes_first_dies_with_its_worker_and_is_told(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(CUT)
    run = server.api.run("commits", {"port": meeting.port, "log": str(log)})
    guest = meeting.guest()
    server.api.cancel(run)
    poll(lambda: told(server.api.look(run)) == [("commit", "running")])
    kill([guest.pid])
    ended = server.api.end(run)
    assert (ended["state"], ended["partial"], ended["takeovers"]) == ("cancelled", COMMIT, 1)
    meeting.nobody()
    sound(server)
