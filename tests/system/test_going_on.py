"""Runs go on where they were: through restarts, lost workers, back-offs, sleeps and child runs."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pullcord.wire.frames import MAX_FRAME
from tests.system.harness import FLOWS, Start
from tests.system.invariants import opened
from tests.system.meeting import Meeting
from tests.system.processes import poll
from tests.system.test_clock import HOUR, Machine
from tests.system.witnessed import executions, lines_of

STUBBORN = FLOWS / "stubborn.py"


@pytest.mark.parametrize("victim", ["worker", "server"])
def test_a_child_survives_its_parents_loss_without_a_second_child(
    victim: str, serve: Start, meeting: Meeting, log: Path
) -> None:
    server = serve(STUBBORN)
    run = server.api.run("parent-of-crash", {"port": meeting.port, "log": str(log)})
    child = meeting.guest()
    assert (child.text, child.run != run) == ("child", True)
    if victim == "server":
        server.kill()
        server.start()
    else:
        server.kill_workers()
    again = meeting.guest()
    assert (again.text, again.run) == ("child", child.run)
    again.go("from the child")
    parent = meeting.guest()
    assert (parent.text, parent.run) == ("parent", run)
    if victim == "server":  # once more, now that the child has ended
        server.kill()
        server.start()
        parent = meeting.guest()
    parent.go("done")
    ended = server.api.end(run)
    assert ended["result"] == ["from the child", "done"]
    assert [step["name"] for step in ended["steps"]] == ["noted", "only-one", "met"]
    assert executions(lines_of(log))[run] == {0: 1}
    children = [item for item in server.api.get("/v1/runs").body["items"] if item["parent_id"] == run]
    assert [item["id"] for item in children] == [child.run]
    assert server.stop() == 0
    with opened(server.data_dir) as db:
        assert db.execute("SELECT count(*) FROM requests WHERE outcome = 'admitted'").fetchone()[0] == 2


def test_a_failed_run_is_tried_again_and_keeps_its_steps(
    serve: Start, meeting: Meeting, log: Path, tmp_path: Path
) -> None:
    server = serve(STUBBORN)
    marker = tmp_path / "whole"
    run = server.api.run("tried-again", {"log": str(log), "marker": str(marker), "port": meeting.port})
    guest = meeting.guest()
    assert guest.attempt == 2
    marker.touch()
    guest.go()
    ended = server.api.end(run)
    assert (ended["state"], ended["attempt"], ended["takeovers"]) == ("succeeded", 3, 0)
    assert ended["result"] == ["whole", "3"]
    assert executions(lines_of(log))[run] == {0: 1}
    # The flow saw its own exception with its own arguments each time.
    assert [line["what"] for line in lines_of(log) if line["kind"] == "broken"] == [["not there yet", 7]] * 2


def test_a_take_over_gives_no_tries_back(serve: Start, meeting: Meeting) -> None:
    server = serve(STUBBORN)
    run = server.api.run("two-tries", {"port": meeting.port})
    meeting.guest().go("fail")
    meeting.guest()
    poll(lambda: [step["attempt"] for step in server.api.look(run)["steps"] if step["state"] == "running"] == [2])
    server.kill_workers()
    meeting.guest().go("fail")
    ended = server.api.end(run)
    assert (ended["state"], ended["takeovers"]) == ("failed", 1)
    assert [(step["seq"], step["state"], step["attempt"]) for step in ended["steps"]] == [(1, "failed", 2)]


def test_another_try_of_a_step_keeps_what_succeeded_inside_as_a_replay_does(
    serve: Start, meeting: Meeting, log: Path
) -> None:
    server = serve(STUBBORN)
    run = server.api.run("shop", {"log": str(log), "port": meeting.port})
    good = meeting.guest()
    assert good.text == "good"
    good.go("one")
    meeting.guest().go("fail")  # the step inside, in the first try
    assert meeting.guest().text == "inside"
    server.kill_workers()
    again = meeting.guest()
    assert again.text == "inside", "its error belonged to the first try, also after a crash"
    again.go("two")
    first = meeting.guest()
    assert first.text == "bad"
    first.go("fail")
    second = meeting.guest()
    assert (second.text, second.run != first.run) == ("bad", True)
    server.kill_workers()
    taken_over = meeting.guest()
    assert (taken_over.text, taken_over.run) == ("bad", second.run)
    taken_over.go("three")
    ended = server.api.end(run)
    assert (ended["state"], ended["result"]) == ("succeeded", ["one", "two", "three"])
    kinds = [line["kind"] for line in lines_of(log)]
    assert (kinds.count("step"), kinds.count("good"), kinds.count("try")) == (1, 1, 5)
    assert sorted((step["name"], step["state"], step["attempt"]) for step in ended["steps"]) == [
        ("checks_out", "succeeded", 3), ("noted", "succeeded", 1), ("told-child", "succeeded", 1),
        ("told-child", "succeeded", 2), ("told_inside", "succeeded", 2),
    ]  # fmt: skip
    meeting.nobody()
    assert server.stop() == 0


@pytest.mark.parametrize("flow", ["says-too-much", "says-too-much-async"])
def test_a_child_whose_inputs_fit_in_no_message_is_refused(flow: str, serve: Start) -> None:
    server = serve(STUBBORN, workers=1)
    ended = server.api.result(flow, {"length": MAX_FRAME})
    assert ended["state"] == "succeeded"
    assert "the child run of measures ended as refused: its inputs are too large" in ended["result"]
    assert server.api.result(flow, {"length": 3})["result"] == "3"


@pytest.mark.parametrize("way", ["async", "threads"])
def test_calls_with_one_key_at_the_same_time_are_one(way: str, serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(STUBBORN)
    run = server.api.run("books-at-once", {"log": str(log), "port": meeting.port, "way": way})
    guests = meeting.guests(2)
    for guest in guests.values():
        guest.go("done")
    ended = server.api.end(run)
    first, second, third, other = ended["result"]
    assert first == second == third
    assert (first[:-1], other) == ("done for ", "done for 3")
    assert len(ended["steps"]) == len(lines_of(log)) == 2


def test_a_failure_counts_for_all_calls_with_its_key(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(STUBBORN)
    run = server.api.run("books-at-once", {"log": str(log), "port": meeting.port, "way": "async"})
    guests = meeting.guests(2)
    guests["A"].go("fail")
    guests["B"].go("done")
    ended = server.api.end(run)
    assert ended["result"] == ["Broken('as told', 3)"] * 3 + ["done for 3"]
    assert len(lines_of(log)) == 2


def test_a_call_takes_its_turn_when_the_one_it_waited_for_is_given_up(
    serve: Start, meeting: Meeting, log: Path
) -> None:
    server = serve(STUBBORN)
    run = server.api.run("books-again", {"log": str(log), "port": meeting.port})
    guests = meeting.guests(2)
    guests["first"].go()
    second = meeting.guest()
    assert second.text == "second"
    second.go()
    guests["A"].gone()
    again = meeting.guest()
    again.go("done")
    ended = server.api.end(run)
    assert (ended["result"], len(ended["steps"]), ended["partial"]) == ("done for 1", 1, None)


def test_a_sync_step_on_the_event_loop_does_not_wait_for_another_call(
    serve: Start, meeting: Meeting, log: Path
) -> None:
    server = serve(STUBBORN)
    run = server.api.run("books-at-once", {"log": str(log), "port": meeting.port, "way": "loop"})
    guests = meeting.guests(3)
    guests["loop"].go()
    (why,) = poll(lambda: [line["what"] for line in lines_of(log) if line["kind"] == "refused"])
    assert "'books' is being executed with this key already" in why
    for name in "AB":
        guests[name].go("done")
    assert server.api.end(run)["result"][3] == "done for 3"


def test_a_run_that_waits_for_its_next_attempt_outlives_the_server(serve: Start, log: Path, tmp_path: Path) -> None:
    machine = Machine(serve, tmp_path, STUBBORN)
    server = machine.server
    marker = tmp_path / "whole"
    run = server.api.run("tried-again-later", {"log": str(log), "marker": str(marker)})
    scheduled = server.api.follow(run, lambda item: item["state"] == "scheduled")
    assert scheduled["attempt"] == 2
    server.kill()
    marker.touch()
    machine.move(2 * HOUR)
    server.start()
    ended = server.api.end(run)
    assert (ended["state"], ended["result"], ended["attempt"], ended["takeovers"]) == ("succeeded", "whole", 2, 0)
    assert executions(lines_of(log))[run] == {0: 1}


@pytest.mark.parametrize("flow", ["sleeps", "sleeps-async"])
def test_a_sleep_is_not_begun_anew_by_a_restart(flow: str, serve: Start) -> None:
    server = serve(STUBBORN)
    length = timedelta(seconds=8)
    run = server.api.run(flow, {"length": length.total_seconds()})
    server.api.state(run, "waiting")
    asleep = datetime.fromisoformat(server.api.step(run, "sleep")["started_at"])
    poll(lambda: datetime.now(UTC) > asleep + length / 2)  # so much later would it end, were it begun anew
    server.kill()
    restarted = datetime.now(UTC)
    server.start()
    ended = server.api.end(run)
    assert (ended["state"], ended["result"], ended["takeovers"]) == ("succeeded", "slept", 1)
    (sleep,) = ended["steps"]
    waking = datetime.fromisoformat(sleep["started_at"]) + length
    assert waking <= datetime.fromisoformat(ended["ended_at"]) < restarted + length


def test_a_sleeper_whose_time_has_come_meanwhile_goes_on_at_once(serve: Start) -> None:
    server = serve(STUBBORN)
    run = server.api.run("sleeps", {"length": 4})
    waiting = server.api.state(run, "waiting")
    server.kill()
    due = datetime.fromisoformat(waiting["started_at"]) + timedelta(seconds=4.3)
    time.sleep(max(0.0, (due - datetime.now(UTC)).total_seconds()))  # the machine is off while the time passes
    server.start()
    assert server.api.end(run)["result"] == "slept"


def test_a_run_for_later_starts_in_its_time_under_the_next_server(serve: Start, tmp_path: Path) -> None:
    machine = Machine(serve, tmp_path, STUBBORN)
    server, due = machine.server, machine.time(HOUR)
    run = server.api.run("sleeps", {"length": 0}, not_before=due)
    assert server.api.look(run)["state"] == "scheduled"
    server.kill()
    server.start()
    assert server.api.result("sleeps", {"length": 0})["state"] == "succeeded"
    assert server.api.look(run)["state"] == "scheduled"
    machine.move(2 * HOUR)
    ended = server.api.end(run)
    assert ended["state"] == "succeeded"
    assert datetime.fromisoformat(due) <= datetime.fromisoformat(ended["started_at"])


def test_the_queue_keeps_its_order_through_a_restart(serve: Start, meeting: Meeting) -> None:
    server = serve(STUBBORN)
    texts = ["holder", "first", "second", "third"]
    runs = [server.api.run("only-one", {"port": meeting.port, "text": text}) for text in texts]
    urgent = server.api.run("only-one", {"port": meeting.port, "text": "urgent"}, priority=10)
    meeting.guest()
    server.kill()
    server.start()
    served = []
    for _ in range(5):
        guest = meeting.guest()
        served.append(guest.text)
        guest.go()
    assert served == ["holder", "urgent", "first", "second", "third"]
    assert all(server.api.end(run)["state"] == "succeeded" for run in [*runs, urgent])
