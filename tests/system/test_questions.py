"""Asking people: a run that waits for an answer is in no worker, and goes on from its records whatever dies."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pullcord.store.queries.invariants.examine import examine
from tests.system.harness import FLOWS, Server, Start, together
from tests.system.invariants import opened
from tests.system.processes import poll

ASKING = FLOWS / "asking.py"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes.txt"
    path.touch()
    return path


def rules_broken(server: Server) -> list[str]:
    with opened(server.data_dir) as db:
        return [example for verdict in examine(db) for example in verdict.examples]


def asked(server: Server, run: str, number: int = 1) -> str:
    """Wait until a run asks; return the question's id."""

    def found() -> list[dict[str, Any]]:
        items = server.api.get("/v1/questions").body["items"]
        of_run = [item for item in items if item["run_id"] == run]
        return of_run if len(of_run) >= number else []

    question: str = poll(found)[0]["id"]
    return question


def answer(server: Server, question: str, value: Any, **more: Any) -> Any:
    return server.api.post(f"/v1/questions/{question}/answer", {"answer": value} | more)


def test_a_run_asks_leaves_its_worker_and_goes_on_with_the_answer(serve: Start, notes: Path) -> None:
    server = serve(ASKING)
    run = server.api.run("review", {"path": str(notes)})
    question = asked(server, run)
    server.parked(run)
    item = server.api.look(run)
    assert (item["state"], item["waiting_for"]) == (
        "waiting",
        {"kind": "answer", "text": "Good?", "question_id": question},
    )
    shown = server.api.get(f"/v1/questions/{question}").body
    assert (shown["to"], shown["details"], shown["state"]) == (["ops"], {"path": str(notes)}, "open")
    refused = answer(server, question, {"approve": "perhaps"})
    assert (refused.status, refused.body["code"]) == (422, "invalid_answer")
    assert [error["loc"] for error in refused.body["errors"]] == [["answer", "approve"]]
    assert "perhaps" not in str(refused.body)
    taken = answer(server, question, {"approve": True}, reason="looked at it")
    assert (taken.status, taken.body["state"], taken.body["answered_by"]) == (200, "answered", "owner")
    ended = server.api.end(run)
    assert (ended["result"], ended["takeovers"], ended["attempt"]) == ("Verdict True ", 0, 1)
    assert notes.read_text().split() == ["before", "after"], "what is recorded is not done again"
    assert [step["name"] for step in ended["steps"]] == ["note", "ask", "note"]
    again = answer(server, question, {"approve": True})
    assert again.status == 200
    other = answer(server, question, {"approve": False})
    assert (other.status, other.body["code"], other.body["answered_by"]) == (409, "already_answered", "owner")
    assert server.stop() == 0
    assert rules_broken(server) == []


def test_a_run_with_a_branch_in_a_step_stays_until_that_has_ended(serve: Start, notes: Path) -> None:
    server = serve(ASKING)
    run = server.api.run("review-async", {"path": str(notes)})
    question = asked(server, run)
    server.parked(run)
    assert notes.read_text().split() == ["beside"]
    assert answer(server, question, "maybe").status == 422
    assert answer(server, question, "no").status == 200
    assert server.api.end(run)["result"] == "no"
    assert notes.read_text().split() == ["beside", "after"]


def test_runs_wait_over_a_kill_without_a_worker_and_nobody_takes_them_over(serve: Start, notes: Path) -> None:
    server = serve(ASKING, workers=1)
    runs = [server.api.run("review", {"path": str(notes)}) for _ in range(30)]
    questions = [asked(server, run) for run in runs]
    server.parked(*runs)
    server.kill_everything()
    server.start()
    assert {server.api.look(run)["state"] for run in runs} == {"waiting"}
    for question in questions:
        assert answer(server, question, {"approve": True}).status == 200
    ends = [server.api.end(run) for run in runs]
    assert {(end["state"], end["takeovers"]) for end in ends} == {("succeeded", 0)}
    assert sorted(notes.read_text().split()) == ["after"] * 30 + ["before"] * 30
    assert server.stop() == 0
    assert rules_broken(server) == []


def test_of_many_answers_at_the_same_instant_one_counts(serve: Start, notes: Path) -> None:
    server = serve(ASKING)
    run = server.api.run("patient", {"path": str(notes), "timeout": 1000})
    question = asked(server, run)
    replies = together(20, lambda number: answer(server, question, f"name {number}"))
    assert sorted(reply.status for reply in replies) == [200] + [409] * 19
    (won,) = [reply.body["answer"] for reply in replies if reply.status == 200]
    assert server.api.end(run)["result"] == won


def test_a_timeout_is_raised_in_the_flow_or_gives_the_default(serve: Start, notes: Path) -> None:
    server = serve(ASKING)
    late = server.api.result("patient", {"path": str(notes), "timeout": 0.05})
    assert (late["state"], late["result"]) == ("succeeded", "caught: nobody answered in time: Name?")
    (question,) = server.api.get("/v1/questions", state="expired").body["items"]
    reply = answer(server, question["id"], "ada")
    assert (reply.status, reply.body["code"]) == (409, "question_expired")
    default = server.api.result("patient", {"path": str(notes), "timeout": 0.05, "fallback": "nobody"})
    assert default["result"] == "nobody"


def test_a_flow_is_unwound_without_seeing_an_exception(serve: Start, notes: Path) -> None:
    server = serve(ASKING)
    run = server.api.run("tidy", {"path": str(notes)})
    question = asked(server, run)
    server.parked(run)
    poll(notes.with_suffix(".finally").exists)
    answer(server, question, True)
    assert server.api.end(run)["result"] is True
    assert notes.read_text() == "", "`except Exception` has nothing to catch"


def test_what_only_a_validator_in_python_refuses_the_flow_can_ask_again(serve: Start, notes: Path) -> None:
    server = serve(ASKING)
    run = server.api.run("again", {"path": str(notes)})
    first = asked(server, run)
    assert answer(server, first, {"approve": True, "why": "BECAUSE"}).status == 200
    second = asked(server, run, 2)
    assert second != first
    assert answer(server, second, {"approve": True, "why": "because"}).status == 200
    assert server.api.end(run)["result"] == "because"
    assert notes.read_text().split() == ["unfit"]


def test_a_parked_run_keeps_its_slot_and_is_cancelled_at_once(serve: Start, notes: Path) -> None:
    server = serve(ASKING)
    first, second = (server.api.run("one", {"path": str(notes)}) for _ in range(2))
    question = asked(server, first)
    server.parked(first)
    assert server.api.look(second)["state"] == "queued"
    assert server.api.cancel(first).body["state"] == "cancelled"
    reply = answer(server, question, True)
    assert (reply.status, reply.body["code"]) == (409, "question_cancelled")
    assert answer(server, asked(server, second), True).status == 200
    assert server.api.end(second)["result"] is True


def test_what_cannot_be_asked_fails_the_run_and_says_why(serve: Start) -> None:
    server = serve(ASKING)
    run = server.api.result("wrong")
    assert run["state"] == "failed"
    assert run["error"]["type"] == "invalid_request"
    assert server.api.get("/v1/questions/no-id").status == 404
    assert server.api.get("/v1/questions").body["items"] == []


@pytest.mark.parametrize("flow", ["finishes", "finishes-async"])
def test_a_step_that_finishes_first_waits_for_no_answer(flow: str, serve: Start, notes: Path) -> None:
    server = serve(ASKING)
    run = server.api.run(flow, {"path": str(notes)})
    question = asked(server, run)
    server.api.cancel(run)
    ended = server.api.end(run)
    assert (ended["state"], ended["partial"], notes.read_text().split()) == ("cancelled", None, ["unasked"])
    assert ended["steps"][0]["state"] == "succeeded"
    assert "nobody is asked" in ended["steps"][0]["result"]
    assert [item["id"] for item in server.api.get("/v1/questions", state="cancelled").body["items"]] == [question]
    assert server.stop() == 0
    assert rules_broken(server) == []


@pytest.mark.parametrize(("step", "what"), [("sure", "pc.ask"), ("rests", "pc.sleep")])
def test_a_sync_step_on_the_event_loop_cannot_wait_and_says_so(step: str, what: str, serve: Start, notes: Path) -> None:
    server = serve(ASKING)
    refused = server.api.result("where", {"path": str(notes), "step": step, "thread": False})
    assert (refused["state"], refused["error"]["type"]) == ("failed", "invalid_request")
    assert f"{what} cannot wait in step '{step}'" in refused["error"]["message"]
    assert (notes.read_text(), server.api.get("/v1/questions").body["items"]) == ("", [])
    on_a_thread = server.api.run("where", {"path": str(notes), "step": step, "thread": True})
    if step == "sure":
        answer(server, asked(server, on_a_thread), True)
    assert server.api.end(on_a_thread)["result"] == {"sure": "True", "rests": "rested"}[step]


def test_new_code_goes_on_with_what_old_code_asked(serve: Start, tmp_path: Path, notes: Path) -> None:
    code = tmp_path / "changing.py"
    source = "import pullcord as pc\n\n@pc.flow\ndef changing() -> str:\n    return {!r} + str(pc.ask(bool, 'Good?'))\n"
    code.write_text(source.format("old "))
    server = serve(code)
    run = server.api.run("changing")
    question = asked(server, run)
    server.parked(run)
    before = server.api.get("/v1/flows/changing").body["version"]
    code.write_text(source.format("new "))
    server.process.send_signal(signal.SIGHUP)
    poll(lambda: server.api.get("/v1/flows/changing").body["version"] != before)
    answer(server, question, True)
    assert server.api.end(run)["result"] == "new True"


def test_a_long_sleep_needs_no_worker_and_ends_when_its_time_has_come(serve: Start, notes: Path) -> None:
    server = serve(ASKING)
    run = server.api.run("sleepy", {"path": str(notes), "length": 3600})
    server.parked(run)
    assert server.api.look(run)["waiting_for"]["kind"] == "time"
    server.kill_everything()
    with opened(server.data_dir) as db:
        ((number, until),) = db.execute("SELECT run_id, until FROM sleeps").fetchall()
    server.start()
    assert server.api.look(run)["state"] == "waiting"
    server.kill_everything()
    pass_time(server, number, until)
    server.start()
    ended = server.api.end(run)
    assert (ended["result"], ended["takeovers"]) == (len("after"), 0)
    assert notes.read_text().split() == ["before", "after"]
    assert server.stop() == 0
    assert rules_broken(server) == []


def pass_time(server: Server, number: int, until: int) -> None:
    """Make a sleep one that was to end an hour ago."""
    import sqlite3

    ago = until - 2 * 3600 * 1_000_000
    with sqlite3.connect(server.data_dir / "pullcord.db") as db:
        db.execute("UPDATE sleeps SET until = ?", (ago,))
        db.execute("UPDATE steps SET result = ? WHERE run_id = ? AND name = 'sleep'", (str(ago), number))
    db.close()


POINTS = ("ask.before_write", "ask.after_write", "park.before_write", "park.after_write")
WORKER_POINTS = ("worker.before_park", "worker.after_park")
ANSWER_POINTS = ("answer.before_write", "answer.after_write")
WAKE_POINTS = ("wake.before_write", "wake.after_write")


@pytest.mark.parametrize("name", [*POINTS, *WORKER_POINTS])
def test_a_question_is_asked_once_when_a_process_dies_at(name: str, serve: Start, tmp_path: Path, notes: Path) -> None:
    marker = tmp_path / "marker"
    server = serve(ASKING, environment={"PULLCORD_FAILPOINTS": f"{name}@{marker}"})
    run = server.api.run("review", {"path": str(notes)})
    if name in POINTS:
        assert server.died() == -signal.SIGKILL
        server.start()
    poll(marker.exists)
    question = asked(server, run)
    server.parked(run)
    assert answer(server, question, {"approve": True}).status == 200
    assert server.api.end(run)["result"] == "Verdict True "
    assert notes.read_text().split() == ["before", "after"]
    assert len(server.api.get("/v1/questions").body["items"]) == 1
    assert server.stop() == 0
    assert rules_broken(server) == []


@pytest.mark.parametrize("name", ANSWER_POINTS)
def test_an_answer_counts_once_when_the_server_dies_at(name: str, serve: Start, tmp_path: Path, notes: Path) -> None:
    marker = tmp_path / "marker"
    server = serve(ASKING, environment={"PULLCORD_FAILPOINTS": f"{name}@{marker}"})
    run = server.api.run("review", {"path": str(notes)})
    question = asked(server, run)
    server.parked(run)
    with pytest.raises(httpx2.TransportError):
        answer(server, question, {"approve": True})
    assert server.died() == -signal.SIGKILL
    server.start()
    assert answer(server, question, {"approve": True}).status == 200
    assert server.api.end(run)["result"] == "Verdict True "
    assert server.stop() == 0
    assert rules_broken(server) == []
    with opened(server.data_dir) as db:
        assert db.execute("SELECT count(*) FROM audit WHERE action = 'question.answer'").fetchone()[0] == 1


@pytest.mark.parametrize("name", WAKE_POINTS)
def test_a_question_expires_once_when_the_server_dies_at(name: str, serve: Start, tmp_path: Path, notes: Path) -> None:
    marker = tmp_path / "marker"
    marker.touch()  # every start passes these points
    server = serve(ASKING, environment={"PULLCORD_FAILPOINTS": f"{name}@{marker}"})
    server.api.result("wrong")  # so the start is over
    marker.unlink()
    run = server.api.run("patient", {"path": str(notes), "timeout": 1.0})
    assert server.died() == -signal.SIGKILL
    server.start()
    assert server.api.end(run)["result"] == "caught: nobody answered in time: Name?"
    assert server.stop() == 0
    assert rules_broken(server) == []
