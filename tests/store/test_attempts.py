"""Attempts that follow others, what they keep and what they set aside, and runs that keep the records of another."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pullcord.store.commands.attempts import RETRY_TEXT
from pullcord.store.commands.claim import Claimed
from pullcord.store.commands.journal import RecordSteps
from pullcord.store.queries.failed import CHILD, RETRIED, SUCCEEDED, TEST, Failures, find_failed
from pullcord.store.queries.origins import find_origin
from pullcord.store.queries.runs import load_runs
from pullcord.store.transaction import ignore
from tests.store.harness import DAY, NOON, SECOND, Server, admit, finished, step

ERROR = '{"type":"bank.Down","message":"no answer","traceback":"long"}'
WHY = RETRY_TEXT + ',"text":"waits 5 s before attempt 2 of 4 after bank.Down: no answer"}'
FREE: dict[str, Any] = {"limited": False}


def failed(run: Claimed, **more: Any) -> list[Any]:
    return finished(run, "failed", error=ERROR, **more)


def retried(server: Server, run: Claimed, **more: Any) -> Claimed:
    """Let an attempt fail, and the next one be claimed."""
    server.finish(failed(run, retry_at=server.clock.now() + 5 * SECOND, why=WHY, **more))
    server.clock.advance(5 * SECOND)
    server.queue_due()
    return claimed(server, run.id)


def claimed(server: Server, number: int) -> Claimed:
    return next(work for work in server.claim() if work.id == number)


def item(server: Server, run: Claimed) -> dict[str, Any]:
    return load_runs(server.connection, [run.uuid])[run.uuid]


def steps(server: Server, number: int) -> list[tuple[str, str, int | None]]:
    rows = server.rows("SELECT identity, state, set_aside FROM steps WHERE run_id = :id ORDER BY identity", id=number)
    return [(row["identity"], row["state"], row["set_aside"]) for row in rows]


# --- attempts -------------------------------------------------------------------------------------------------------


def test_a_run_that_was_never_tried_again_has_one_attempt(server: Server) -> None:
    (run,) = server.begin(admit("free", **FREE))
    shown = item(server, run)
    (only,) = shown["attempts"]
    assert (only["attempt"], only["state"], only["started_at"]) == (1, "running", shown["started_at"])
    server.finish(failed(run))
    shown = item(server, run)
    (only,) = shown["attempts"]
    assert (only["state"], only["ended_at"], only["error"]) == ("failed", shown["ended_at"], shown["error"])
    assert server.count("attempts") == 0, "they cost nothing who have none"


def test_each_attempt_has_its_times_and_its_error(server: Server) -> None:
    (run,) = server.begin(admit("free", **FREE))
    started = server.clock.now()
    again = retried(server, run)
    assert again.attempt == 2
    second = server.clock.now()
    server.clock.advance(SECOND)
    server.finish(finished(again))
    shown = item(server, run)
    first, last = server.rows("SELECT * FROM attempts")[0], shown["attempts"][1]
    assert (first["started_at"], first["next_at"] - first["ended_at"]) == (started, 5 * SECOND - 1)
    assert [it["state"] for it in shown["attempts"]] == ["failed", "succeeded"]
    assert shown["attempts"][0]["error"] == {"type": "bank.Down", "message": "no answer", "traceback": "long"}
    assert last["error"] is None
    row = server.run(run.id)
    assert (row["attempt_started_at"], row["started_at"]) == (second, started)
    assert last["ended_at"] == shown["ended_at"]


def test_a_take_over_is_no_attempt_and_does_not_begin_one(server: Server) -> None:
    (run,) = server.begin(admit("free", **FREE))
    again = retried(server, run)
    began = server.run(run.id)["attempt_started_at"]
    server.clock.advance(SECOND)
    server.lose(again, blame=0)
    assert claimed(server, run.id).attempt == 2
    assert server.run(run.id)["attempt_started_at"] == began
    assert server.count("attempts") == 1


def test_while_it_waits_it_says_what_for_and_until_it_is_queued(server: Server) -> None:
    (run,) = server.begin(admit("free", **FREE))
    server.finish(failed(run, retry_at=server.clock.now() + 5 * SECOND, why=WHY))
    assert item(server, run)["waiting_for"] == json.loads(WHY)
    server.restart()
    assert item(server, run)["waiting_for"] == json.loads(WHY), "over a restart too"
    server.clock.advance(5 * SECOND)
    server.queue_due()
    shown = item(server, run)
    assert (shown["state"], shown["waiting_for"]) == ("queued", None)
    assert [it["state"] for it in shown["attempts"]] == ["failed", "queued"]


def test_a_run_that_is_cancelled_meanwhile_had_no_second_attempt(server: Server) -> None:
    (run,) = server.begin(admit("free", **FREE))
    server.finish(failed(run, retry_at=server.clock.now() + 5 * SECOND, why=WHY))
    server.cancel(run.uuid)
    shown = item(server, run)
    assert (shown["state"], shown["waiting_for"]) == ("cancelled", None)
    assert [(it["state"], it["started_at"] is None) for it in shown["attempts"]] == [
        ("failed", False), ("cancelled", True),
    ]  # fmt: skip


def test_a_run_that_is_being_cancelled_gets_no_other_attempt(server: Server) -> None:
    (run,) = server.begin(admit("free", **FREE))
    server.record(step(run, "s", "failed", error=ERROR))
    server.cancel(run.uuid)
    (end,) = server.finish(failed(run, retry_at=server.clock.now(), why=WHY, anew=True))
    row = server.run(run.id)
    assert (end.state, row["attempt"], row["epoch"], row["waiting_for"]) == ("cancelled", 1, None, None)
    assert server.count("attempts") == 0
    assert steps(server, run.id) == [("s", "failed", None)]


def test_an_attempt_from_the_beginning_keeps_the_records_for_history_only(server: Server) -> None:
    (run,) = server.begin(admit("free", **FREE))
    server.record(step(run, "a", seq=1), step(run, "b", "failed", seq=2, error=ERROR))
    again = retried(server, run, anew=True)
    assert (list(again.steps), again.epoch) == ([], 2)
    server.record(step(again, "a2", seq=1), step(again, "b2", "failed", seq=2, error=ERROR))
    third = retried(server, again)
    assert ([row[0] for row in third.steps], third.epoch) == (["a2", "b2"], 2)
    assert steps(server, run.id) == [
        ("a", "succeeded", 1), ("a2", "succeeded", None), ("b", "failed", 1), ("b2", "retrying", None),
    ]  # fmt: skip
    assert [(it["seq"], it["set_aside"]) for it in item(server, run)["steps"]] == [(1, 1), (2, 1), (1, None), (2, None)]


def test_neighbours_in_a_batch_keep_their_records(server: Server) -> None:
    anew, kept, done = server.begin(*[admit("free", **FREE) for _ in range(3)])
    server.record(*[step(run, "s", "failed", error=ERROR) for run in (anew, kept, done)])
    at = server.clock.now()
    server.finish(failed(anew, retry_at=at, anew=True), failed(kept, retry_at=at), failed(done))
    assert [steps(server, run.id)[0][1:] for run in (anew, kept, done)] == [
        ("failed", 1), ("retrying", None), ("failed", None),
    ]  # fmt: skip
    assert [row["run_id"] for row in server.rows("SELECT run_id FROM attempts ORDER BY run_id")] == [anew.id, kept.id]


# --- resume ---------------------------------------------------------------------------------------------------------


def resume(server: Server, origin: Claimed, **more: Any) -> Claimed:
    (decision,) = server.admit(admit("free", **FREE, resumed_from=origin.id, **more))
    return claimed(server, decision.id)


def test_a_resumed_run_has_the_results_of_its_origin_and_nothing_else(server: Server) -> None:
    (origin,) = server.begin(admit("free", **FREE))
    server.record(
        step(origin, "done", seq=1),
        step(origin, "failed", "failed", seq=2, error=ERROR),
        step(origin, "running", "running", seq=3),
        step(origin, "again", "retrying", seq=4, error=ERROR),
    )
    server.finish(failed(origin))
    run = resume(server, origin)
    assert (run.token, run.attempt) == (1, 1)
    assert run.steps == [["done", "step", 1, 1, "succeeded", '"done"', None]]
    shown = item(server, run)
    assert shown["resumed_from"] == origin.uuid
    assert [(it["name"], it["kept"]) for it in shown["steps"]] == [("step", True)]
    assert [it["kept"] for it in item(server, origin)["steps"]] == [False] * 4, "the origin stays as it was"


def test_a_chain_of_resumes_gathers_what_each_of_them_did(server: Server) -> None:
    (run,) = server.begin(admit("free", **FREE))
    for number in range(1, 4):
        server.record(step(run, f"s{number}", seq=number))
        server.finish(failed(run))
        run = resume(server, run)
        assert [row[0] for row in run.steps] == [f"s{n}" for n in range(1, number + 1)]


def test_what_no_longer_counts_is_not_kept(server: Server) -> None:
    (origin,) = server.begin(admit("free", **FREE))
    server.record(step(origin, "old"))
    again = retried(server, origin, anew=True)
    server.record(step(again, "new"))
    server.finish(failed(again))
    assert [row[0] for row in resume(server, origin).steps] == ["new"]


def test_a_resumed_run_needs_its_origin_no_longer(server: Server) -> None:
    (origin,) = server.begin(admit("free", **FREE))
    server.record(step(origin, "done"))
    server.finish(failed(origin))
    named = {"origin": json.dumps({"resumed_from": origin.uuid})}
    (decision,) = server.admit(admit("free", **FREE, resumed_from=origin.id, ledger=named))
    for table, column in (("steps", "run_id"), ("runs", "id"), ("requests", "id")):
        server.connection.execute(f"DELETE FROM {table} WHERE {column} = {origin.id}")
    run = claimed(server, decision.id)
    assert [row[0] for row in run.steps] == ["done"]
    assert item(server, run)["resumed_from"] == origin.uuid


def test_records_and_the_resume_that_wants_them_in_one_batch(server: Server) -> None:
    (origin,) = server.begin(admit("free", **FREE))
    server.transact(RecordSteps([step(origin, "late")], ignore), admit("free", **FREE, resumed_from=origin.id))
    assert server.count("steps") == 2


def test_a_resume_that_is_refused_or_only_asked_about_copies_nothing(server: Server) -> None:
    (origin,) = server.begin(admit("free", **FREE))
    server.record(step(origin, "done"))
    server.finish(failed(origin))
    asked = {"resumed_from": origin.id, "key": "k"}
    server.admit(admit("free", **FREE, **asked, dry_run=True))
    assert server.count("steps") == 1
    server.admit(admit("free", **FREE, **asked), admit("free", **FREE, **asked))
    server.admit(admit("free", **FREE, **asked))
    assert server.count("steps") == 2


def test_a_worker_is_told_which_code_the_records_are_of(server: Server) -> None:
    (origin,) = server.begin(admit("free", **FREE))
    server.finish(failed(origin))
    run = resume(server, origin, flow_version="v2", recorded_version="v1")
    assert (run.flow_version, item(server, run)["flow_version"]) == ("v1", "v2")
    found = find_origin(server.connection, run.uuid)
    assert found is not None
    assert (found.flow_version, found.recorded_version) == ("v2", "v1")
    first = find_origin(server.connection, origin.uuid)
    assert first is not None
    assert first.recorded_version == "v1"


# --- what failed, and need not be asked for again -------------------------------------------------------------------


def lost(server: Server, *commands: Any, error: str = ERROR) -> list[Claimed]:
    """Run and fail."""
    runs = server.begin(*commands)
    server.finish(*[finished(run, "failed", error=error) for run in runs])
    return runs


def found(server: Server, flow: str | None = None, error: str | None = None, **span: int) -> Failures:
    return find_failed(server.connection, span.get("since", 0), span.get("until", NOON + DAY), flow, error)


def test_failed_runs_are_found_by_time_flow_and_error(server: Server) -> None:
    (early,) = lost(server, admit("free", **FREE))
    server.clock.advance(SECOND)
    middle = server.clock.now()
    (late,) = lost(server, admit("free", **FREE))
    (other,) = lost(server, admit("f"), error='{"type":"TimeoutError","message":"m"}')
    server.begin(admit("free", **FREE))
    every = [early.id, late.id, other.id]
    assert [run.number for run in found(server).runs] == every
    assert [run.number for run in found(server, since=middle).runs] == every[1:]
    assert [run.number for run in found(server, until=middle).runs] == every[:1]
    assert [run.number for run in found(server, "f").runs] == [other.id]
    for kind in ("bank.Down", "Down"):
        assert [run.number for run in found(server, error=kind).runs] == every[:2]
    assert found(server, error="own").runs == []


def test_what_was_asked_for_again_is_left_alone(server: Server) -> None:
    resumed, repeated = lost(server, admit("free", **FREE), admit("free", **FREE))
    (second,) = lost(server, admit("free", **FREE, resumed_from=resumed.id))
    server.admit(admit("free", **FREE, rerun_of=repeated.id))
    failures = found(server)
    assert [run.number for run in failures.runs] == [second.id], "what failed again is found itself"
    assert failures.skipped == {("free", "bank.Down", RETRIED): 2}


@pytest.mark.parametrize("how", ["resumed_from", "rerun_of"])
def test_what_was_asked_for_again_and_cancelled_is_found_again(server: Server, how: str) -> None:
    (origin,) = lost(server, admit("free", **FREE))
    for _ in range(2):
        (again,) = server.admit(admit("free", **FREE, **{how: origin.id}, not_before=NOON + DAY))
        assert found(server).skipped == {("free", "bank.Down", RETRIED): 1}
        server.cancel(again.run_uuid or "")
        ((number, after),) = [(run.number, run.after) for run in found(server).runs]
        assert (number, after) == (origin.id, again.run_uuid), "the last one tells the next one's key from its own"
    server.begin(admit("free", **FREE, resumed_from=origin.id))
    assert found(server).runs == [], "one that goes on is enough"


def test_children_and_tests_are_left_alone(server: Server) -> None:
    (parent,) = server.begin(admit("free", **FREE))
    lost(server, admit("free", **FREE, parent_id=parent.id), admit("free", **FREE, test=True))
    failures = found(server)
    assert failures.runs == []
    assert failures.skipped == {("free", "bank.Down", CHILD): 1, ("free", "bank.Down", TEST): 1}


@pytest.mark.parametrize("test", [False, True])
def test_a_later_success_with_the_same_inputs_is_enough(server: Server, test: bool) -> None:
    (before,) = server.begin(admit("free", **FREE, inputs='{"n":2}'))
    server.finish(finished(before))
    one, two = lost(server, *[admit("free", **FREE, inputs=f'{{"n":{n}}}') for n in (1, 2)])
    (after,) = server.begin(admit("free", **FREE, inputs='{"n":1}', test=test))
    server.finish(finished(after))
    failures = found(server)
    assert [run.number for run in failures.runs] == ([one.id, two.id] if test else [two.id])
    assert failures.skipped == ({} if test else {("free", "bank.Down", SUCCEEDED): 1})
