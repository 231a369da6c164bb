"""Runs that are wanted again: resumed, re-run with a reason and a key, and all that failed at once."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.api.server import Api, Hold, locations, problem_of, receipt_of, refusal_of


def stopped(api: Api, hold: Hold) -> dict[str, Any]:
    """Cancel a run in the last of its two laps."""
    run_id = api.submit("laps", {"port": hold.port, "count": 2}, priority=3, test=True)["run_id"]
    hold.begun().release()
    second = hold.begun()
    api.post(f"/v1/runs/{run_id}/cancel")
    second.release()
    return api.ended(run_id)


# --- resume ----------------------------------------------------------------------------------------------------------


def test_a_resumed_run_does_what_is_left(api: Api, hold: Hold) -> None:
    run_id = api.submit("laps", {"port": hold.port, "count": 2})["run_id"]
    hold.begun().release()
    hold.begun()
    api.post(f"/v1/runs/{run_id}/cancel", {"force": True})
    origin = api.ended(run_id)
    response = api.http.post(f"/v1/runs/{run_id}/resume", json={"reason": "mended"})
    receipt = receipt_of(response, 202)
    hold.begun().release()
    run = api.ended(receipt["run_id"])
    assert (run["state"], run["result"], run["inputs"]) == ("succeeded", 2, origin["inputs"])
    assert (run["resumed_from"], run["rerun_of"], run["reason"]) == (run_id, None, "mended")
    assert [(step["seq"], step["kept"]) for step in run["steps"]] == [(1, True), (2, False)]
    assert run["steps"][0]["result"] == origin["steps"][0]["result"]
    row = api.get(f"/v1/requests/{receipt['request_id']}")
    assert (row["origin"], row["note"], row["outcome"]) == ({"resumed_from": run_id}, "mended", "admitted")
    assert api.get(f"/v1/runs/{run_id}") == origin


def test_priority_and_test_are_those_of_the_origin(api: Api, hold: Hold) -> None:
    origin = stopped(api, hold)
    receipt = api.post(f"/v1/runs/{origin['id']}/resume")
    run = api.ended(receipt["run_id"])
    assert (run["priority"], run["test"]) == (3, True)


@pytest.mark.parametrize("state", ["succeeded", "scheduled"])
def test_a_run_with_nothing_left_or_still_to_come_is_not_resumed(api: Api, state: str) -> None:
    later = {} if state == "succeeded" else {"not_before": "2990-01-01T00:00:00Z"}
    run_id = api.submit("add", {"a": 1}, **later)["run_id"]
    if not later:
        api.ended(run_id)
    problem = refusal_of(api.http.post(f"/v1/runs/{run_id}/resume"), 409, "not_resumable")
    assert problem["state"] == state
    assert state in problem["detail"] or "succeeded" in problem["detail"]
    row = api.get(f"/v1/requests/{problem['request_id']}")
    assert (row["code"], row["origin"], row["flow"]) == ("not_resumable", {"resumed_from": run_id}, "add")
    if later:
        api.post(f"/v1/runs/{run_id}/cancel")


@pytest.mark.parametrize("how", ["header", "body", "request id"])
def test_asked_for_twice_it_is_one_run(api: Api, key: str, how: str) -> None:
    origin = api.run("fail")
    body = {"body": {"idempotency_key": key}, "request id": {"request_id": str(uuid4())}}.get(how, {})
    headers = {"Idempotency-Key": key} if how == "header" else {}
    path = f"/v1/runs/{origin['id']}/resume"
    first = receipt_of(api.http.post(path, json=body, headers=headers), 202)
    response = api.http.post(path, json=body, headers=headers)
    again = receipt_of(response, 200)
    assert response.headers["idempotent-replayed"] == "true"
    assert (again["run_id"], again["replayed"]) == (first["run_id"], True)


def test_a_key_means_one_intent(api: Api, key: str) -> None:
    one, two = api.run("fail"), api.run("fail")
    api.post(f"/v1/runs/{one['id']}/resume", {"idempotency_key": key})
    for path, body in (
        (f"/v1/runs/{two['id']}/resume", {}),
        (f"/v1/runs/{one['id']}/rerun", {}),
        ("/v1/runs", {"flow": "fail", "inputs": one["inputs"]}),
    ):
        response = api.http.post(path, json=body | {"idempotency_key": key})
        refused = refusal_of(response, 409, "idempotency_conflict")
        assert f"{key!r} was used for something else by request" in refused["detail"], "the inputs are the same"


def test_a_key_of_a_plain_request_means_that_one(api: Api, key: str) -> None:
    run = api.run("add", {"a": 1}, idempotency_key=key)
    for path, body, used in (
        (f"/v1/runs/{run['id']}/rerun", {}, "for something else"),
        ("/v1/runs", {"flow": "add", "inputs": {"a": 2}}, "with other inputs"),
    ):
        response = api.http.post(path, json=body | {"idempotency_key": key})
        refused = refusal_of(response, 409, "idempotency_conflict")
        assert f"was used {used} by request" in refused["detail"]


@pytest.mark.parametrize("run_id", ["00000000-0000-4000-8000-000000000000", "x"])
def test_an_unknown_run_is_not_resumed_and_leaves_a_row(api: Api, run_id: str) -> None:
    problem = refusal_of(api.http.post(f"/v1/runs/{run_id}/resume"), 404, "not_found")
    assert api.count(problem) >= 1


@pytest.mark.parametrize(
    ("body", "wrong"), [({"inputs": {}}, ["inputs"]), ({"force": "yes"}, ["force"]), ({"reason": 5}, ["reason"])]
)
def test_a_resume_that_makes_no_sense_leaves_a_row(api: Api, body: Any, wrong: list[str]) -> None:
    run = api.run("fail")
    problem = refusal_of(api.http.post(f"/v1/runs/{run['id']}/resume", json=body), 422, "invalid_request")
    assert locations(problem) == [wrong]


# --- re-run ----------------------------------------------------------------------------------------------------------


def test_a_rerun_says_which_inputs_were_changed(api: Api) -> None:
    run = api.run("add", {"a": 1, "b": 2})
    receipt = api.post(f"/v1/runs/{run['id']}/rerun", {"inputs": {"b": 40, "a": 1}, "reason": "b was wrong"})
    again = api.ended(receipt["run_id"])
    assert again["changes"] == {"b": {"before": 2, "after": 40}}
    assert again["reason"] == "b was wrong"
    row = api.get(f"/v1/requests/{receipt['request_id']}")
    assert row["origin"] == {"rerun_of": run["id"], "changes": again["changes"]}
    assert run["changes"] is None
    listed = next(it for it in api.get("/v1/runs", flow="add")["items"] if it["id"] == again["id"])
    assert listed["changes"] == again["changes"]


def test_an_input_that_the_run_did_not_have_was_not_null_before(api: Api) -> None:
    run = api.run("echo", {"value": None})
    response = api.http.post(f"/v1/runs/{run['id']}/rerun", json={"inputs": {"value": 1, "other": 2}})
    refused = refusal_of(response, 422, "invalid_inputs")
    changes = api.get(f"/v1/requests/{refused['request_id']}")["origin"]["changes"]
    assert changes == {"value": {"before": None, "after": 1}, "other": {"after": 2}}


def test_a_rerun_of_a_rerun_with_a_key(api: Api, key: str) -> None:
    run = api.run("add", {"a": 1})
    path = f"/v1/runs/{run['id']}/rerun"
    first = receipt_of(api.http.post(path, json={"idempotency_key": key}), 202)
    assert receipt_of(api.http.post(path, headers={"Idempotency-Key": key}), 200)["run_id"] == first["run_id"]
    refusal_of(api.http.post(path, json={"idempotency_key": key, "inputs": {"a": 2}}), 409, "idempotency_conflict")
    differ = api.http.post(path, json={"idempotency_key": key}, headers={"Idempotency-Key": "other"})
    refusal_of(differ, 422, "invalid_request")


# --- attempts --------------------------------------------------------------------------------------------------------


def test_attempts_are_in_the_item_and_in_the_events(api: Api) -> None:
    run = api.run("flaky")
    first, second = run["attempts"]
    assert (first["attempt"], first["state"], first["error"]["message"]) == (1, "failed", "the first attempt")
    assert (second["attempt"], second["state"], second["error"], second["next_at"]) == (2, "succeeded", None, None)
    assert run["started_at"] == first["started_at"] < first["ended_at"] <= first["next_at"] <= second["started_at"]
    assert second["ended_at"] == run["ended_at"]


# --- all that failed -------------------------------------------------------------------------------------------------


def test_what_failed_is_shown_then_asked_for_once(api: Api) -> None:
    api.settle("fail")
    since = api.run("add", {"a": 1})["queued_at"]
    runs = [api.run("fail", {"text": f"{uuid4()}"})["id"] for _ in range(3)]
    wanted = {"since": since, "flow": "fail", "error": "RuntimeError"}
    plan = api.post("/v1/runs/retry-failed", wanted, 200)
    assert (plan["dry_run"], plan["runs"], plan["retryable"], plan["receipts"]) == (True, runs, 3, [])
    (group,) = plan["groups"]
    assert group == {"flow": "fail", "error": "RuntimeError", "retryable": 3, "skipped": {}, "reasons": {}}
    done = api.post("/v1/runs/retry-failed", wanted | {"dry_run": False, "limit": 2, "reason": "morning"}, 200)
    assert [it["origin"] for it in done["receipts"]] == runs[:2], "the oldest first"
    for it in done["receipts"]:
        run = api.ended(it["receipt"]["run_id"])
        assert (run["resumed_from"], run["reason"]) == (it["origin"], "morning")
        assert [step["kept"] for step in run["steps"]] == [True]
    again = api.post("/v1/runs/retry-failed", wanted | {"dry_run": False, "from_beginning": True}, 200)
    assert again["groups"][0]["skipped"] == {"already_retried": 2}
    assert runs[2] in [it["origin"] for it in again["receipts"]]
    rerun = next(it for it in again["receipts"] if it["origin"] == runs[2])
    assert api.ended(rerun["receipt"]["run_id"])["rerun_of"] == runs[2]


def test_no_error_of_that_type_no_run(api: Api) -> None:
    api.run("fail")
    plan = api.post("/v1/runs/retry-failed", {"since": "2020-01-01T00:00:00Z", "error": "KeyError"}, 200)
    assert (plan["groups"], plan["runs"], plan["failed"]) == ([], [], 0)


def test_a_flow_that_nobody_knows_is_no_flow_without_failures(api: Api) -> None:
    wanted = {"since": "2020-01-01T00:00:00Z"}
    problem = problem_of(api.http.post("/v1/runs/retry-failed", json=wanted | {"flow": "fial"}), 404, "unknown_flow")
    assert "did you mean 'fail'?" in problem["detail"]
    plan = api.post("/v1/runs/retry-failed", wanted | {"flow": "idle"}, 200)
    assert plan["failed"] == 0, "it is there, and nothing of it failed"


def test_a_time_that_ends_before_it_begins_is_refused(api: Api) -> None:
    wanted = {"since": "2020-01-02T00:00:00Z", "until": "2020-01-01T00:00:00Z"}
    problem = problem_of(api.http.post("/v1/runs/retry-failed", json=wanted), 422, "invalid_request")
    assert "ends at 2020-01-01T00:00:00" in problem["detail"]


@pytest.mark.parametrize(
    ("body", "wrong"),
    [({}, ["since"]), ({"since": "soon"}, ["since"]), ({"since": "2020-01-01T00:00:00Z", "limit": 0}, ["limit"])],
)
def test_a_call_that_makes_no_sense_does_nothing(api: Api, body: Any, wrong: list[str]) -> None:
    assert locations(problem_of(api.http.post("/v1/runs/retry-failed", json=body), 422, "invalid_request")) == [wrong]
