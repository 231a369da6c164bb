"""Cancelling and running again."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.api.server import Api, Hold, events_of, locations, problem_of, receipt_of, refusal_of

# --- cancel --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
def test_a_running_run_is_cancelled(api: Api, hold: Hold, force: bool) -> None:
    run_id = api.submit("hold", {"port": hold.port})["run_id"]
    hold.begun()
    answer = api.post(f"/v1/runs/{run_id}/cancel", {"reason": "no longer wanted", "force": force})
    assert answer["id"] == run_id
    assert answer["state"] in ("cancelling", "cancelled")
    run = api.ended(run_id)
    assert (run["state"], run["result"]) == ("cancelled", None)
    assert run["cancel"] == answer["cancel"]
    assert run["cancel"] | {"at": ""} == {"by": "owner", "at": "", "reason": "no longer wanted", "force": force}
    assert run["queued_at"] <= run["started_at"] <= run["cancel"]["at"] <= run["ended_at"]
    api.run("add", {"a": 1})  # other tests count on a worker, and this one may have been killed


@pytest.mark.parametrize("body", [b"", b"{}", b' {"force" : false, "reason": null}\n'])
def test_the_body_of_a_cancel_is_optional(api: Api, body: bytes) -> None:
    run_id = api.submit("add", {"a": 1}, not_before="2990-01-01T00:00:00Z")["run_id"]
    response = api.http.post(f"/v1/runs/{run_id}/cancel", content=body)
    assert response.status_code == 202
    assert response.json()["cancel"] | {"at": ""} == {"by": "owner", "at": "", "reason": None, "force": False}


def test_a_scheduled_run_never_begins(api: Api) -> None:
    run_id = api.submit("add", {"a": 1}, not_before="2990-01-01T00:00:00Z")["run_id"]
    run = api.post(f"/v1/runs/{run_id}/cancel")
    assert (run["state"], run["started_at"], run["queued_at"]) == ("cancelled", None, None)
    assert run["ended_at"] is not None


def test_a_queued_run_never_begins_and_frees_the_queue(api: Api, hold: Hold) -> None:
    first, second, third = (api.submit("one-by-one", {"port": hold.port})["run_id"] for _ in range(3))
    held = hold.begun()
    run = api.post(f"/v1/runs/{second}/cancel")
    assert (run["state"], run["started_at"]) == ("cancelled", None)
    held.release()
    hold.begun().release()
    assert [api.ended(run_id)["state"] for run_id in (first, second, third)] == ["succeeded", "cancelled", "succeeded"]


def test_cancelling_twice_is_no_error_while_it_goes_on(api: Api, hold: Hold) -> None:
    run_id = api.submit("laps", {"port": hold.port, "count": 2})["run_id"]
    held = hold.begun()  # a sync step does not stop by itself
    first = api.post(f"/v1/runs/{run_id}/cancel", {"reason": "first"})
    assert first["state"] == "cancelling"
    assert api.post(f"/v1/runs/{run_id}/cancel", {"reason": "second"})["state"] == "cancelling"
    held.release()
    assert api.ended(run_id)["state"] == "cancelled"


@pytest.mark.parametrize(("flow", "inputs", "state"), [("add", {"a": 1}, "succeeded"), ("fail", {}, "failed")])
def test_an_ended_run_stays_ended(api: Api, flow: str, inputs: dict[str, Any], state: str) -> None:
    run = api.run(flow, inputs)
    for body in (None, {"force": True, "reason": "too late"}):
        problem = problem_of(api.http.post(f"/v1/runs/{run['id']}/cancel", json=body), 409, "not_cancellable")
        assert problem["state"] == state
        assert state in problem["detail"]
    assert api.get(f"/v1/runs/{run['id']}") == run


def test_a_cancelled_run_cannot_be_cancelled(api: Api) -> None:
    run_id = api.submit("add", {"a": 1}, not_before="2990-01-01T00:00:00Z")["run_id"]
    run = api.post(f"/v1/runs/{run_id}/cancel")
    problem = problem_of(api.http.post(f"/v1/runs/{run_id}/cancel"), 409, "not_cancellable")
    assert problem["state"] == "cancelled"
    assert api.get(f"/v1/runs/{run_id}") == run


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"force": 1}, ["force"]),
        ({"force": "yes"}, ["force"]),
        ({"force": None}, ["force"]),
        ({"reason": 1}, ["reason"]),
        ({"reason": "x" * 1001}, ["reason"]),
        ({"reason": "a\0b"}, ["reason"]),
        ({"reson": "a"}, ["reson"]),
        ([], []),
        (None, []),
        ("now", []),
    ],
)
def test_a_cancel_that_makes_no_sense_changes_nothing(api: Api, body: Any, wrong: list[str]) -> None:
    run_id = api.submit("add", {"a": 1}, not_before="2990-01-01T00:00:00Z")["run_id"]
    content = b"null" if body is None else None
    response = api.http.post(f"/v1/runs/{run_id}/cancel", content=content, json=body)
    assert locations(problem_of(response, 422, "invalid_request")) == [wrong]
    assert api.get(f"/v1/runs/{run_id}")["state"] == "scheduled"
    api.post(f"/v1/runs/{run_id}/cancel")


@pytest.mark.parametrize("run_id", [str(UUID(int=4)), "x", "'; DROP TABLE runs; --", "%00", "\N{SNOWMAN}", "%ff"])
@pytest.mark.parametrize("action", ["cancel", "rerun", "resume", "events", "logs", ""])
def test_nothing_can_be_done_with_an_unknown_run(api: Api, run_id: str, action: str) -> None:
    path = f"/v1/runs/{run_id}/{action}".rstrip("/")
    if action in ("rerun", "resume"):
        problem = refusal_of(api.http.post(path), 404, "not_found")
        assert api.count(problem) >= 1
    else:
        problem_of(api.http.request("POST" if action == "cancel" else "GET", path), 404, "not_found")


# --- rerun ---------------------------------------------------------------------------------------------


def test_a_run_again_is_a_new_run_that_names_its_origin(api: Api) -> None:
    run = api.run("steps", {"first": 2}, reason="first", priority=4)
    bodies: list[Any] = [None, {}, {"inputs": {}}]
    for body in bodies:
        receipt = receipt_of(api.http.post(f"/v1/runs/{run['id']}/rerun", json=body), 202)
        again = api.ended(receipt["run_id"])
        assert again["id"] != run["id"]
        assert (again["rerun_of"], again["resumed_from"], again["parent_id"]) == (run["id"], None, None)
        assert (again["inputs"], again["result"]) == (run["inputs"], run["result"])
        assert [step["seq"] for step in again["steps"]] == [1, 2], "from the beginning"
        row = api.get(f"/v1/requests/{receipt['request_id']}")
        assert (row["outcome"], row["run_id"], row["trigger"]["kind"]) == ("admitted", again["id"], "manual")
    assert api.get(f"/v1/runs/{run['id']}") == run


def test_a_run_again_with_other_inputs(api: Api) -> None:
    run = api.run("add", {"a": 1, "b": 2})
    receipt = api.post(f"/v1/runs/{run['id']}/rerun", {"inputs": {"b": 40}})
    again = api.ended(receipt["run_id"])
    assert (again["inputs"], again["result"], again["rerun_of"]) == ({"a": 1, "b": 40}, 41, run["id"])
    third = api.ended(api.post(f"/v1/runs/{again['id']}/rerun", {"inputs": {"a": 2}})["run_id"])
    assert (third["inputs"], third["rerun_of"]) == ({"a": 2, "b": 40}, again["id"])


@pytest.mark.parametrize("flow", ["fail", "hold"])
def test_any_run_can_be_run_again(api: Api, hold: Hold, flow: str) -> None:
    """Failed ones and running ones too."""
    run_id = api.submit(flow, {"port": hold.port} if flow == "hold" else {})["run_id"]
    if flow == "fail":
        api.ended(run_id)
    receipt = api.post(f"/v1/runs/{run_id}/rerun")
    if flow == "hold":
        hold.begun().release()
        hold.begun().release()
    assert api.ended(receipt["run_id"])["rerun_of"] == run_id
    assert api.ended(run_id)["rerun_of"] is None


@pytest.mark.parametrize(
    ("inputs", "wrong"), [({"a": "x"}, ["inputs", "a"]), ({"c": 1}, ["inputs", "c"]), ({"b": None}, ["inputs", "b"])]
)
def test_a_run_again_goes_through_the_gate(api: Api, inputs: dict[str, Any], wrong: list[str]) -> None:
    run = api.run("add", {"a": 1})
    response = api.http.post(f"/v1/runs/{run['id']}/rerun", json={"inputs": inputs})
    problem = refusal_of(response, 422, "invalid_inputs")
    assert locations(problem) == [wrong]
    row = api.get(f"/v1/requests/{problem['request_id']}")
    assert (row["flow"], row["code"], row["inputs"]) == ("add", "invalid_inputs", {"a": 1, "b": 1} | inputs)


@pytest.mark.parametrize(
    ("body", "wrong"),
    [({"inputs": []}, ["inputs"]), ({"inputs": None}, ["inputs"]), ({"input": {}}, ["input"]), ([], []), ("x", [])],
)
def test_a_rerun_that_makes_no_sense_leaves_a_row(api: Api, body: Any, wrong: list[str]) -> None:
    run = api.run("add", {"a": 1})
    problem = refusal_of(api.http.post(f"/v1/runs/{run['id']}/rerun", json=body), 422, "invalid_request")
    assert locations(problem) == [wrong]
    before = api.count(problem)
    api.http.post(f"/v1/runs/{run['id']}/rerun", json=body)
    assert api.count(problem) == before + 1


def test_cancelling_shows_in_the_events(api: Api, hold: Hold) -> None:
    run_id = api.submit("hold", {"port": hold.port})["run_id"]
    hold.begun()
    api.post(f"/v1/runs/{run_id}/cancel")
    events = [(event.kind, event.told) for event in events_of(api, run_id)]
    assert events == [
        ("run", "queued"), ("run", "running"), ("run", "cancelling"), ("run", "cancelled"), ("end", "cancelled"),
    ]  # fmt: skip
