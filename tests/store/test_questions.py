"""Questions and parked runs: asked once, answered once, woken when it is time, and nobody's orphans meanwhile."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils import uuid7

from pullcord.core import notify
from pullcord.core.errors import (
    AlreadyAnsweredError,
    NotFoundError,
    QuestionCancelledError,
    QuestionExpiredError,
)
from pullcord.store.commands.claim import Claimed
from pullcord.store.commands.journal import Ended, FinishRuns
from pullcord.store.commands.prune import PruneRuns
from pullcord.store.commands.questions import AnswerQuestion, Ask, Asked
from pullcord.store.commands.waits import ParkRun, Settled, WakeDue, Woken
from pullcord.store.queries.invariants.examine import examine
from pullcord.store.queries.outbox import told_in
from pullcord.store.queries.page import Page
from pullcord.store.queries.questions import QuestionFilter, count_parked, get_question, list_questions
from pullcord.store.transaction import ignore
from pullcord.wire import messages as kinds
from tests.store.harness import LANE, NOON, ROOM, SECOND, Server, admit, finished, spec, step

FREE: dict[str, Any] = {"limited": False}
_numbers = itertools.count(1000)


def ask_message(
    run: Claimed,
    identity: str = "q1",
    *,
    text: str = "Release?",
    to: list[str] | None = None,
    length: int | None = None,
    fallback: str | None = None,
    seq: int = 5,
) -> list[Any]:
    """Make an `ask` message."""
    return [
        kinds.ASK, run.id, run.token, next(_numbers), identity, seq, text, None, '{"type": "boolean"}',
        json.dumps(to or []), length, fallback,
    ]  # fmt: skip


def ask(server: Server, run: Claimed, identity: str = "q1", **options: Any) -> str:
    """Ask, and return the id that the question gets if it is new."""
    uuid = str(uuid7())
    result: Asked = server.write(Ask(ask_message(run, identity, **options), uuid, server.clock.now(), ignore))
    assert not result.stale and result.record is None
    return uuid


def park(server: Server, run: Claimed, *waits: list[Any]) -> Ended | None:
    """Take a run out of its worker."""
    ended: Ended | None = server.write(ParkRun(run.id, run.token, list(waits) or [["q1", None]], ignore))
    return ended


def answer(server: Server, uuid: str, value: str = "true", invoker: str = "owner") -> Any:
    """Answer a question."""
    return server.write(AnswerQuestion(uuid, value, invoker, None, server.clock.now(), ignore))


def wake(server: Server, back: int = 0) -> Woken:
    """End the waits whose time has come."""
    woken: Woken = server.write(WakeDue(server.clock.now(), back, ignore))
    return woken


def question(server: Server, uuid: str) -> dict[str, Any]:
    """Return a question as it is shown."""
    item = get_question(server.connection, uuid)
    assert item is not None
    return item


def broken(server: Server) -> list[str]:
    """Return which rules the store breaks."""
    server.connection.execute(
        "INSERT INTO meta (name, value) VALUES ('incarnation', '10000') ON CONFLICT (name) DO NOTHING"
    )
    return [example for verdict in examine(server.connection) for example in verdict.examples]


@pytest.fixture
def parked(server: Server) -> tuple[Claimed, str]:
    """Make a run that waits for an answer without a worker."""
    (run,) = server.begin(admit())
    uuid = ask(server, run)
    ended = park(server, run)
    assert ended is not None and ended.state == "waiting"
    return run, uuid


def test_a_run_that_asks_waits_and_says_for_what(server: Server) -> None:
    (run,) = server.begin(admit())
    uuid = ask(server, run, text="Release **it**?\nReally", to=["ops"], length=SECOND)
    row = server.run(run.id)
    assert row["state"] == "waiting"
    assert json.loads(row["waiting_for"]) == {"kind": "answer", "text": "Release **it**?", "question_id": uuid}
    item = question(server, uuid)
    assert (item["state"], item["to"], item["run_id"], item["flow"]) == ("open", ["ops"], run.uuid, "f")
    assert item["schema"] == {"type": "boolean"} and item["answer"] is None
    assert broken(server) == []


def test_the_same_call_asks_once_however_often_its_run_is_taken_over(server: Server) -> None:
    (run,) = server.begin(admit())
    first = ask(server, run)
    server.lose(run)
    (again,) = server.claim(ROOM | {LANE.replace("sync", "isolated"): 5})
    ask(server, again)
    assert server.count("questions") == 1
    assert json.loads(server.run(run.id)["waiting_for"])["question_id"] == first


def test_asking_under_a_stale_token_is_refused(server: Server) -> None:
    (run,) = server.begin(admit())
    server.lose(run, blame=0)
    result: Asked = server.write(Ask(ask_message(run), str(uuid7()), NOON, ignore))
    assert not result.stale, "nobody else has it yet"
    server.claim()
    late: Asked = server.write(Ask(ask_message(run, "q2"), str(uuid7()), NOON, ignore))
    assert late.stale
    assert server.count("questions") == 1


def test_a_parked_run_has_no_worker_keeps_its_slot_and_is_nobodys_orphan(
    server: Server, parked: tuple[Claimed, str]
) -> None:
    run, _ = parked
    server.admit(admit())
    row = server.run(run.id)
    assert (row["state"], row["owner"], row["parks"]) == ("waiting", None, 1)
    assert server.claim() == []
    server.restart()
    assert server.claim() == [], "the slot is held over a restart"
    assert server.run(run.id)["takeovers"] == 0
    assert count_parked(server.connection) == 1
    assert broken(server) == []


def test_the_answer_is_the_record_and_wakes_the_run(server: Server, parked: tuple[Claimed, str]) -> None:
    run, uuid = parked
    settled = answer(server, uuid, "true", "ada")
    assert isinstance(settled, Settled)
    assert settled.record == ["q1", "ask", 5, 1, "succeeded", "true", None]
    (again,) = server.claim()
    assert (again.id, again.token) == (run.id, run.token + 1)
    assert [record[:6] for record in again.steps] == [["q1", "ask", 5, 1, "succeeded", "true"]]
    row = server.run(run.id)
    assert (row["takeovers"], row["losses"], row["waiting_for"]) == (0, 0, None)
    item = question(server, uuid)
    assert (item["state"], item["answer"], item["answered_by"]) == ("answered", True, "ada")
    audit = server.rows("SELECT action, invoker, subject_id FROM audit WHERE action = 'question.answer'")
    assert audit == [{"action": "question.answer", "invoker": "ada", "subject_id": run.id}]
    server.finish(finished(again))
    assert broken(server) == []


def test_one_answer_counts_and_the_same_again_is_no_error(server: Server, parked: tuple[Claimed, str]) -> None:
    _, uuid = parked
    at = server.clock.now()
    results = server.transact(
        *[
            AnswerQuestion(uuid, value, who, None, at, ignore)
            for value, who in (("true", "ada"), ("true", "ada"), ("false", "ada"), ("true", "bob"))
        ]
    )[0]
    assert isinstance(results[0], Settled)
    assert results[1] is None
    for late in results[2:]:
        assert isinstance(late, AlreadyAnsweredError)
        assert late.fields["answered_by"] == "ada" and late.fields["answered_at"]
    assert question(server, uuid)["answer"] is True
    assert len(server.rows("SELECT id FROM audit WHERE action = 'question.answer'")) == 1


def test_an_answer_that_comes_before_the_run_has_left_lets_it_go_on(server: Server) -> None:
    (run,) = server.begin(admit())
    uuid = ask(server, run)
    assert isinstance(answer(server, uuid), Settled)
    ended = park(server, run)
    assert ended is not None and ended.state == "running"
    (again,) = server.claim()
    assert again.steps[0][4] == "succeeded"
    assert broken(server) == []


def test_a_run_is_not_said_to_be_parked_in_a_transaction_that_takes_it_up_again(server: Server) -> None:
    (run,) = server.begin(admit())
    ask(server, run, length=SECOND)
    server.clock.advance(SECOND)
    commands = [ParkRun(run.id, run.token, [["q1", None]], ignore), WakeDue(server.clock.now(), 0, ignore)]
    (parked, woken), (again,) = server.transact(*commands, room=ROOM)
    assert (parked.state, len(woken.settled)) == ("running", 1)
    assert (again.id, again.steps[0][4]) == (run.id, "failed")
    assert broken(server) == []


def test_asking_again_what_is_over_returns_its_record(server: Server, parked: tuple[Claimed, str]) -> None:
    _, uuid = parked
    answer(server, uuid)
    (again,) = server.claim()
    result: Asked = server.write(Ask(ask_message(again), str(uuid7()), NOON, ignore))
    assert result.record is not None and result.record[4:6] == ["succeeded", "true"]
    assert server.count("questions") == 1
    assert server.run(again.id)["state"] == "running"


def test_a_question_nobody_answers_fails_its_step_and_a_later_answer_is_too_late(server: Server) -> None:
    (run,) = server.begin(admit())
    uuid = ask(server, run, length=10 * SECOND)
    park(server, run)
    assert wake(server).following is not None
    server.clock.advance(11 * SECOND)
    late = answer(server, uuid)
    assert isinstance(late, QuestionExpiredError), "also before the server has noticed"
    woken = wake(server)
    assert (woken.runs, woken.following) == (1, None)
    (settled,) = woken.settled
    assert settled.record[4] == "failed"
    assert json.loads(settled.record[6])["type"] == "ask_timeout"
    assert question(server, uuid)["state"] == "expired"
    assert isinstance(answer(server, uuid), QuestionExpiredError)
    (again,) = server.claim()
    server.finish(finished(again, "failed", error='{"type":"ask_timeout","message":"m"}'))
    assert broken(server) == []


def test_a_default_is_recorded_when_nobody_answers(server: Server) -> None:
    (run,) = server.begin(admit())
    uuid = ask(server, run, length=10 * SECOND, fallback="false")
    server.clock.advance(10 * SECOND)
    (settled,) = wake(server).settled
    assert settled.record[4:6] == ["succeeded", "false"]
    item = question(server, uuid)
    assert (item["state"], item["answer"], item["answered_by"]) == ("expired", False, None)
    assert server.run(run.id)["owner"] == server.owner, "it is in its worker still"


def test_a_new_attempt_asks_anew_what_nobody_has_answered(server: Server) -> None:
    (run,) = server.begin(admit())
    ask(server, run, length=SECOND)
    server.clock.advance(SECOND)
    wake(server)
    server.finish(finished(run, "failed", error="{}", retry_at=server.clock.now()))
    server.queue_due()
    (again,) = server.claim()
    second = ask(server, again, length=SECOND)
    assert server.count("questions") == 2
    settled = answer(server, second)
    assert isinstance(settled, Settled) and settled.record[3] == 2, "another try of the same step"


def test_a_parked_run_is_cancelled_at_once_and_its_question_withdrawn(
    server: Server, parked: tuple[Claimed, str]
) -> None:
    run, uuid = parked
    server.admit(admit())
    ((_, ended),) = server.cancel(run.uuid)
    assert ended.state == "cancelled"
    assert question(server, uuid)["state"] == "cancelled"
    assert isinstance(answer(server, uuid), QuestionCancelledError)
    assert server.run(run.id)["partial"] is None, "a question leaves nothing half done"
    assert [row["state"] for row in server.rows("SELECT state FROM steps")] == ["interrupted"]
    assert len(server.claim()) == 1, "its slot is free"
    assert broken(server) == []


def test_an_open_question_outlives_an_attempt(server: Server) -> None:
    (run,) = server.begin(admit())
    uuid = ask(server, run)
    end = finished(run, "failed", error="{}", retry_at=server.clock.now())
    server.write(FinishRuns([end], ignore, frozenset({run.id})))
    assert question(server, uuid)["state"] == "open"
    assert broken(server) == []
    server.queue_due()
    (again,) = server.claim()
    ask(server, again)
    assert server.count("questions") == 1
    settled = answer(server, uuid)
    assert isinstance(settled, Settled) and settled.record[3:5] == [1, "succeeded"]
    assert broken(server) == []


def test_an_attempt_that_begins_anew_withdraws_what_the_one_before_has_asked(server: Server) -> None:
    (run,) = server.begin(admit())
    old = ask(server, run)
    server.finish(finished(run, "failed", error="{}", retry_at=server.clock.now(), anew=True))
    assert question(server, old)["state"] == "cancelled"
    assert isinstance(answer(server, old), QuestionCancelledError)
    server.queue_due()
    (again,) = server.claim()
    new = ask(server, again, "another epoch's", seq=6)
    assert isinstance(answer(server, new), Settled)
    server.finish(finished(again))
    assert [row["state"] for row in server.rows("SELECT state FROM steps ORDER BY seq")] == ["interrupted", "succeeded"]
    assert broken(server) == []


def test_a_run_that_is_cancelled_while_it_leaves_has_ended(server: Server) -> None:
    (run,) = server.begin(admit(), admit())
    ask(server, run)
    server.cancel(run.uuid)
    ended = park(server, run)
    assert ended is not None and ended.state == "cancelled"
    assert len(server.claim()) == 1
    assert park(server, run) is None
    assert broken(server) == []


def test_a_run_that_is_being_cancelled_asks_nobody_and_takes_no_answer(server: Server) -> None:
    (run,) = server.begin(admit())
    uuid = ask(server, run)
    ((_, ended),) = server.cancel(run.uuid)
    assert ended.state == "cancelling"
    late: Asked = server.write(Ask(ask_message(run, "q2"), str(uuid7()), NOON, ignore))
    assert late == Asked(stale=False, cancelled=True)
    refused = answer(server, uuid)
    assert isinstance(refused, QuestionCancelledError) and "is being cancelled" in refused.message
    assert (server.count("questions"), question(server, uuid)["state"]) == (1, "open")
    server.finish(finished(run, "cancelled"))
    assert question(server, uuid)["state"] == "cancelled"
    assert broken(server) == []


def test_what_waits_without_an_owner_is_only_what_was_parked(server: Server) -> None:
    (run,) = server.begin(admit())
    server.lose(run, blame=0)
    server.wait(run, '{"kind":"time","text":"a late word of its worker"}')
    assert server.run(run.id)["state"] == "running"
    assert len(server.claim()) == 1


def test_questions_are_deleted_with_their_run(server: Server, parked: tuple[Claimed, str]) -> None:
    run, uuid = parked
    server.write(PruneRuns([run.id], 0, ignore))
    assert question(server, uuid)["state"] == "open", "a run that waits is not deleted"
    server.cancel(run.uuid)
    server.write(PruneRuns([run.id], 0, ignore))
    assert server.count("runs") == server.count("questions") == server.count("steps") == 0
    assert broken(server) == []


def test_no_question_has_an_id_that_was_made_up(server: Server) -> None:
    assert isinstance(answer(server, str(uuid7())), NotFoundError)


# --- sleeping ------------------------------------------------------------------------------------------------------


def sleep(server: Server, run: Claimed, length: int, identity: str = "z1") -> int:
    """Record a sleep, park its run, and return when it is over."""
    until = server.clock.now() + length
    server.record(step(run, identity, name="sleep", result=str(until)))
    assert park(server, run, [identity, until]) is not None
    return until


def test_a_sleeping_run_is_woken_when_its_time_has_come(server: Server) -> None:
    (run,) = server.begin(admit())
    until = sleep(server, run, 100 * SECOND)
    woken = wake(server)
    assert (woken.runs, woken.following) == (0, until)
    server.restart()
    assert server.claim() == []
    server.clock.advance(100 * SECOND)
    assert (wake(server).runs, server.count("sleeps")) == (1, 0)
    (again,) = server.claim()
    assert again.id == run.id
    assert broken(server) == []


def test_a_sleep_does_not_become_longer_because_the_clock_went_back(server: Server) -> None:
    (run,) = server.begin(admit())
    until = sleep(server, run, 100 * SECOND)
    asking = server.begin(admit(**FREE))[0]
    uuid = ask(server, asking, length=100 * SECOND)
    expires = server.rows("SELECT expires_at FROM questions WHERE uuid = :uuid", uuid=uuid)[0]["expires_at"]
    server.clock.at -= 3600 * SECOND
    woken = wake(server, back=3600 * SECOND)
    assert woken.following == until - 3600 * SECOND
    (row,) = server.rows("SELECT result FROM steps WHERE name = 'sleep'")
    assert row["result"] == str(until - 3600 * SECOND), "what the flow reads when it goes on"
    (row,) = server.rows("SELECT expires_at FROM questions WHERE uuid = :uuid", uuid=uuid)
    assert row["expires_at"] == expires - 3600 * SECOND


def test_one_of_several_waits_wakes_the_run(server: Server) -> None:
    (run,) = server.begin(admit())
    uuid = ask(server, run)
    until = server.clock.now() + 100 * SECOND
    park(server, run, ["q1", None], ["z1", until], ["z2", until + SECOND])
    server.clock.advance(100 * SECOND)
    assert wake(server).runs == 1
    assert server.count("sleeps") == 0
    (again,) = server.claim()
    assert question(server, uuid)["state"] == "open"
    ended = park(server, again, ["q1", None])
    assert ended is not None and ended.state == "waiting"
    assert server.run(run.id)["parks"] == 2
    assert broken(server) == []


def test_nothing_is_looked_for_where_nobody_waits(server: Server) -> None:
    assert not server.hints.parked
    assert wake(server) == Woken(None, [], 0)
    (run,) = server.begin(admit())
    ask(server, run)
    assert server.hints.parked
    server.restart()
    assert server.hints.parked, "it is read from the rows"


# --- lists ---------------------------------------------------------------------------------------------------------


def test_questions_are_listed_by_flow_state_and_recipient(server: Server) -> None:
    server.register(spec("f", None), spec("g", None))
    runs = server.begin(admit(**FREE), admit("g", **FREE))
    first = ask(server, runs[0], to=["ops", "an%a"])
    second = ask(server, runs[1], to=["op"])
    answer(server, second)

    def listed(**which: Any) -> list[str]:
        page = list_questions(server.connection, QuestionFilter(**which), Page(limit=10))
        return [item["id"] for item in page["items"]]

    assert listed() == [second, first]
    assert listed(flow="f") == [first]
    assert listed(state="answered") == listed(to="op") == [second]
    assert listed(to="ops") == listed(to="an%a") == [first]
    assert listed(to="%") == listed(flow="f", state="answered") == []
    page = list_questions(server.connection, QuestionFilter(), Page(limit=1))
    assert page["items"][0]["id"] == second and page["next"] is not None


# --- the law -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(st.sampled_from(["ask", "park", "answer", "wake", "lose", "restart", "claim"]), max_size=14))
def test_in_any_order_nothing_is_lost_and_one_answer_counts(server: Server, events: list[str]) -> None:
    """Whatever happens when, no rule is broken, and at the end an answered run can be claimed."""
    (decision,) = server.admit(admit("free", limited=False))
    run = next(run for run in server.claim() if run.id == decision.id)
    uuid, answers = "", 0
    for event in events:
        if event == "ask":
            fresh = str(uuid7())
            result: Asked = server.write(Ask(ask_message(run, length=1000 * SECOND), fresh, server.clock.now(), ignore))
            known = server.rows("SELECT uuid FROM questions WHERE run_id = :run", run=run.id)
            assert len(known) <= 1
            uuid = known[0]["uuid"] if known else ""
            assert result.stale or known
        elif event == "park":
            park(server, run)
        elif event == "answer" and uuid:
            answers += isinstance(answer(server, uuid, str(answers), f"p{answers}"), Settled)
        elif event == "wake":
            wake(server)
        elif event == "lose":
            if server.run(run.id)["owner"] is not None:
                server.lose(run, blame=0)
        elif event == "restart":
            server.restart()
        else:
            run = next((claimed for claimed in server.claim() if claimed.id == run.id), run)
        assert broken(server) == []
        assert answers <= 1
    row = server.run(run.id)
    if answers and row["owner"] is None:
        assert [claimed.id for claimed in server.claim() if claimed.id == run.id] == [run.id]


# --- people are told ---------------------------------------------------------------------------------


def test_who_asked_for_it_is_told_of_a_question_once_and_never_of_a_test_run(server: Server) -> None:
    rule = notify.on_question("ops").as_json()
    server.register(spec("free", None, settings={"concurrency": None, "notify": [rule]}), complete=False)
    quiet, run = server.begin(admit("free", test=True, **FREE), admit("free", **FREE))
    ask(server, quiet)
    uuid = ask(server, run)
    ask(server, run)
    (happening,) = server.rows("SELECT event, flow, run_id, detail FROM happenings")
    assert (happening["event"], happening["flow"], happening["run_id"]) == ("question.asked", "free", run.id)
    assert json.loads(happening["detail"]) == {"text": "Release?", "question_id": uuid}
    assert [each.open for each in told_in(server.connection, 1)] == [True]
    answer(server, uuid)
    assert [each.open for each in told_in(server.connection, 1)] == [False]


def test_who_asked_for_it_is_told_of_a_suspended_flow(server: Server) -> None:
    rule = notify.on_suspended("ops").as_json()
    settings = {"concurrency": None, "notify": [rule], "suspend_after": 1}
    server.register(spec("free", None, settings=settings), complete=False)
    (run,) = server.begin(admit("free", **FREE))
    server.finish(finished(run, "failed", error='{"type":"OSError","message":"closed"}'))
    (happening,) = server.rows("SELECT event, flow, detail FROM happenings")
    assert (happening["event"], happening["flow"]) == ("flow.suspended", "free")
    assert "OSError: closed" in happening["detail"]
