"""Runs that wait without a worker: what becomes of workers, servers and time meanwhile costs them nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pullcord.store.queries.invariants.examine import examine
from tests.postgres import PostgresServer
from tests.system.harness import FLOWS, Server, Start
from tests.system.invariants import opened
from tests.system.meeting import Meeting
from tests.system.processes import poll
from tests.system.test_clock import HOUR, Machine
from tests.system.witnessed import executions, lines_of

PEOPLE = FLOWS / "people.py"


def ask(server: Server, flow: str, inputs: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """Start a run that asks; return its id and the question."""
    run = server.api.run(flow, inputs)
    return run, question_of(server, run)


def question_of(server: Server, run: str) -> dict[str, Any]:
    """Wait until a run has an open question; return it."""
    waiting = server.api.follow(run, lambda item: (item["waiting_for"] or {}).get("kind") == "answer")
    reply = server.api.get(f"/v1/questions/{waiting['waiting_for']['question_id']}")
    assert reply.status == 200, reply
    return reply.body


def answer(server: Server, question: dict[str, Any], value: Any, **more: Any) -> tuple[int, dict[str, Any]]:
    """Answer; return status and body."""
    reply = server.api.post(f"/v1/questions/{question['id']}/answer", {"answer": value, **more})
    return reply.status, reply.body


def left(log: Path, times: int = 1) -> None:
    """Wait until the code of a run has been unwound so often."""
    poll(lambda: sum(line["kind"] == "left" for line in lines_of(log)) >= times)


def is_sound(server: Server) -> None:
    """Stop the server, and look for rules that its store breaks."""
    assert server.stop() == 0
    with opened(server.data_dir) as db:
        assert [example for verdict in examine(db) for example in verdict.examples] == []


@pytest.mark.parametrize("flow", ["release", "release-async"])
def test_a_run_that_asks_leaves_its_worker_and_goes_on_with_the_answer(flow: str, serve: Start, log: Path) -> None:
    server = serve(PEOPLE, workers=1)
    run, question = ask(server, flow, {"log": str(log)})
    left(log)
    server.parked(run)
    assert (question["run_id"], question["flow"], question["state"]) == (run, flow, "open")
    assert (question["question"], question["to"]) == ("Release **now**?", ["ops", "qa"])
    assert question["schema"]["enum"] == ["approve", "reject"]
    second = server.api.run(flow, {"log": str(log)})
    server.kill_workers()
    waiting = server.api.look(run)
    assert (waiting["state"], waiting["takeovers"]) == ("waiting", 0)
    assert waiting["waiting_for"] == {"kind": "answer", "text": "Release **now**?", "question_id": question["id"]}
    assert server.api.look(second)["state"] == "queued", "the slot is kept"
    status, answered = answer(server, question, "approve", reason="tested")
    assert (status, answered["state"], answered["answer"]) == (200, "answered", "approve")
    assert (answered["answered_by"], answered["reason"]) == ("owner", "tested")
    ended = server.api.end(run)
    assert (ended["state"], ended["result"], ended["takeovers"], ended["attempt"]) == ("succeeded", ["approve"], 0, 1)
    assert [(step["name"], step["state"]) for step in ended["steps"]] == [
        ("noted", "succeeded"), ("ask", "succeeded"), ("noted", "succeeded")
    ]  # fmt: skip
    assert executions(lines_of(log))[run] == {0: 1, 1: 1}
    answer(server, question_of(server, second), "reject")
    assert server.api.end(second)["result"] == ["reject"]
    is_sound(server)


@pytest.mark.parametrize("default", [True, False])
def test_the_time_for_an_answer_may_be_over_while_no_server_runs(default: bool, serve: Start, log: Path) -> None:
    machine = Machine(serve, log.parent, PEOPLE)
    server = machine.server
    run, question = ask(server, "too-late", {"length": HOUR, "default": default, "log": str(log)})
    server.kill()
    machine.move(2 * HOUR)
    server.start()
    ended = server.api.end(run)
    expected = "answer: False" if default else "caught: nobody answered in time: Soon?"
    assert (ended["state"], ended["result"]) == ("succeeded", expected)
    asked = next(step for step in ended["steps"] if step["name"] == "ask")
    assert asked["state"] == ("succeeded" if default else "failed")
    over = server.api.get(f"/v1/questions/{question['id']}").body
    assert (over["state"], over["answered_by"]) == ("expired", None)
    status, late = answer(server, question, True)
    assert (status, late["code"]) == (409, "question_expired")
    is_sound(server)


def test_a_run_parks_only_when_no_branch_works(serve: Start, meeting: Meeting) -> None:
    server = serve(PEOPLE)
    run = server.api.run("branches", {"port": meeting.port})
    guest = meeting.guest()
    questions = poll(lambda: (found := server.api.get("/v1/questions", flow="branches").body["items"])[1:] and found)
    first, second = sorted(questions, key=lambda item: str(item["question"]))
    assert answer(server, first, True)[0] == 200
    guest.go("worked")
    poll(lambda: len([s for s in server.api.look(run)["steps"] if s["state"] == "succeeded"]) == 2)
    server.kill()
    server.start()
    assert server.api.look(run)["state"] == "waiting" or server.api.state(run, "waiting")
    assert answer(server, second, False)[0] == 200
    ended = server.api.end(run)
    assert (ended["state"], ended["result"]) == ("succeeded", [True, False, "worked"])
    meeting.nobody()
    is_sound(server)


@pytest.mark.parametrize(("flow", "count"), [("asks-two", 2), ("asks-in-a-task", 1)])
def test_a_flow_that_waits_for_its_tasks_alone_leaves(flow: str, count: int, serve: Start, log: Path) -> None:
    server = serve(PEOPLE)
    run = server.api.run(flow, {"log": str(log)})
    left(log)
    server.parked(run)
    server.kill_workers()
    for question in server.api.get("/v1/questions", flow=flow).body["items"]:
        assert answer(server, question, True)[0] == 200
    ended = server.api.end(run)
    assert (ended["result"], ended["takeovers"]) == ([True] * count, 0)
    is_sound(server)


def test_a_flow_that_does_something_while_a_task_of_it_asks_stays(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(PEOPLE, workers=1)
    run, question = ask(server, "works-meanwhile", {"port": meeting.port, "log": str(log)})
    guest = meeting.guest()
    other = log.with_suffix(".other")
    ask(server, "release", {"log": str(other)})
    left(other)  # so the worker has looked at both
    assert answer(server, question, True)[0] == 200  # first, for with nothing left to do but to wait it may leave
    guest.go()
    assert server.api.end(run)["result"] is True
    assert [line["kind"] for line in lines_of(log)] == ["begins", "worked"]
    meeting.nobody()


def test_a_process_of_its_own_ends_while_its_run_waits(serve: Start, log: Path) -> None:
    server = serve(PEOPLE)
    workers = set(server.workers_alive())
    run, question = ask(server, "alone", {"log": str(log)})
    left(log)
    pid = lines_of(log)[-1]["pid"]
    assert pid not in workers
    poll(lambda: pid not in server.workers_alive())
    assert lines_of(log)[-1]["kind"] == "left"
    assert answer(server, question, True)[0] == 200
    assert server.api.end(run)["result"] is True
    is_sound(server)


def test_a_run_goes_on_when_its_code_has_let_go_of_what_it_held(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(PEOPLE)
    run, question = ask(server, "holds", {"port": meeting.port, "log": str(log)})
    first = meeting.guest()
    assert answer(server, question, True)[0] == 200
    server.api.result("too-late", {"length": 0.05, "default": True, "log": str(log.with_suffix(".other"))})
    first.go()
    meeting.guest().go()
    ended = server.api.end(run)
    assert (ended["result"], ended["takeovers"]) == (True, 0)
    assert [line["kind"] for line in lines_of(log)] == ["begins", "left", "begins", "left"]
    is_sound(server)


def test_a_run_goes_on_when_its_tasks_have_let_go_of_what_they_held(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(PEOPLE)
    run = server.api.run("holds-in-a-task", {"port": meeting.port, "log": str(log)})
    first = meeting.guest()
    for question in server.api.get("/v1/questions", flow="holds-in-a-task").body["items"]:
        assert answer(server, question, True)[0] == 200
    server.api.result("too-late", {"length": 0.05, "default": True, "log": str(log.with_suffix(".other"))})
    first.go()
    meeting.guest().go()
    ended = server.api.end(run)
    assert (ended["result"], ended["takeovers"]) == ([True, True], 0)
    assert [line["kind"] for line in lines_of(log)] == ["begins", "left", "begins", "left"]
    assert "never retrieved" not in server.says
    is_sound(server)


def test_a_run_that_is_cancelled_while_it_lets_go_has_ended(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(PEOPLE)
    run, question = ask(server, "holds", {"port": meeting.port, "log": str(log)})
    guest = meeting.guest()
    assert server.api.cancel(run).body["state"] == "cancelling"
    guest.go()
    assert server.api.end(run)["state"] == "cancelled"
    assert server.api.get(f"/v1/questions/{question['id']}").body["state"] == "cancelled"
    meeting.nobody()
    is_sound(server)


@pytest.mark.parametrize("flow", ["sleeps", "sleeps-async"])
def test_a_long_sleep_needs_no_worker(flow: str, serve: Start, log: Path) -> None:
    server = serve(PEOPLE)
    began = time.monotonic()
    run = server.api.run(flow, {"length": 6, "log": str(log)})
    server.parked(run)
    server.kill_workers()
    ended = server.api.end(run)
    assert time.monotonic() - began >= 6
    assert sum(line["kind"] == "left" for line in lines_of(log)) == 2
    assert (ended["state"], ended["result"], ended["takeovers"]) == ("succeeded", "slept", 0)
    assert executions(lines_of(log))[run] == {0: 1}
    is_sound(server)


def test_many_more_runs_wait_than_a_worker_has_room_for(serve: Start) -> None:
    server = serve(PEOPLE, workers=1)
    count = 150
    receipts = server.api.post(
        "/v1/runs/batch", {"requests": [{"flow": "crowd", "inputs": {"number": number}} for number in range(count)]}
    ).body["receipts"]
    asked = poll(
        lambda: (
            (found := server.api.get("/v1/questions", flow="crowd", limit="1000").body["items"])[count - 1 :] and found
        ),
        timeout=90.0,
    )
    server.kill()
    server.start()
    for question in asked:
        assert answer(server, question, int(question["question"].split()[1].rstrip("?")))[0] == 200
    results = [server.api.end(receipt["run_id"])["result"] for receipt in receipts]
    assert results == list(range(count))
    is_sound(server)


def test_questions_on_postgresql(serve: Start, log: Path) -> None:
    with PostgresServer() as postgres:
        url = postgres.url(postgres.create())
        server = serve(PEOPLE, environment={"PULLCORD_DATABASE_URL": url})
        run, question = ask(server, "release", {"log": str(log)})
        with psycopg.connect(url, autocommit=True) as db:
            poll(lambda: db.execute("SELECT 1 FROM runs WHERE state = 'waiting' AND owner IS NULL").fetchall())
        late = server.api.run("too-late", {"length": 1, "default": False, "log": str(log)})
        server.kill()
        server.start()
        assert answer(server, question, "maybe")[0] == 422
        assert answer(server, question, "reject")[0] == 200
        ended = server.api.end(run)
        assert (ended["result"], ended["takeovers"]) == (["reject"], 0)
        assert server.api.end(late)["result"] == "caught: nobody answered in time: Soon?"
        assert [item["state"] for item in server.api.get("/v1/questions", state="expired").body["items"]] == ["expired"]
