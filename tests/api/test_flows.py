"""Flows: list, item, and validation that records nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.server import Api, locations, problem_of

FLOW = {
    "name", "description", "version", "tags", "input_schema", "settings", "triggers", "paused", "next_runs", "last_run",
    "permissions",
}  # fmt: skip
FLOW_MORE = {"removed_at", "location", "place", "is_async"}

NAMES = [
    "add", "add-async", "asks", "counting", "echo", "facts", "fail", "flaky", "hold", "idle", "laps", "one-by-one",
    "order", "paged", "parent", "steps", "timed",
]  # fmt: skip


def newest(api: Api) -> list[Any]:
    """Return what changes when anything is recorded; a run that goes on changes by itself."""
    runs, rows = (api.get(path, limit=1)["items"] for path in ("/v1/runs", "/v1/requests"))
    return [*(run["id"] for run in runs), *(row | {"state": None} for row in rows)]


def test_the_list_of_flows(api: Api) -> None:
    page = api.get("/v1/flows")
    assert set(page) == {"items", "next", "failures"}
    assert (page["next"], page["failures"]) == (None, [])
    assert [flow["name"] for flow in page["items"]] == NAMES
    for flow in page["items"]:
        assert set(flow) == FLOW | FLOW_MORE
        assert {"type", "properties"} <= set(flow["input_schema"])


@pytest.mark.parametrize("limit", [1, 4, 15, 1000])
def test_pages_of_flows(api: Api, limit: int) -> None:
    assert [flow["name"] for flow in api.pages("/v1/flows", limit)] == NAMES


@pytest.mark.parametrize("cursor", ["zzz", "\N{SNOWMAN}", "timed"])
def test_a_cursor_behind_the_last_flow(api: Api, cursor: str) -> None:
    assert api.get("/v1/flows", cursor=cursor)["items"] == []


def test_the_item_of_a_flow(api: Api) -> None:
    run = api.run("add", {"a": 1})
    flow = api.get("/v1/flows/add")
    assert set(flow) == FLOW | FLOW_MORE
    assert flow["description"] == "Add two *numbers*."
    assert flow["tags"] == ["quick", "sync"]
    assert flow["version"] == run["flow_version"]
    assert flow["input_schema"]["required"] == ["a"]
    assert flow["input_schema"]["properties"]["b"] | {"title": ""} == {"type": "integer", "default": 1, "title": ""}
    assert flow["input_schema"]["additionalProperties"] is False
    assert (flow["triggers"], flow["paused"], flow["next_runs"]) == ([], None, [])
    assert set(flow["permissions"]) == {"read", "run", "cancel", "pause"}
    assert flow["settings"]["concurrency"]["limit"] is None
    assert flow["place"].startswith(__file__.replace("test_flows.py", "flows/shop.py:"))
    assert api.get("/v1/flows/one-by-one")["settings"]["concurrency"]["limit"] == 1
    assert api.get("/v1/flows/flaky")["settings"]["retries"]["limit"] == 1
    assert api.get("/v1/flows/add-async")["is_async"] is True


def test_the_last_run_of_a_flow(api: Api) -> None:
    assert api.get("/v1/flows/idle")["last_run"] is None
    for _ in range(2):
        run = api.run("fail")
        assert api.get("/v1/flows/fail")["last_run"] == {
            "id": run["id"], "state": "failed", "queued_at": run["queued_at"], "started_at": run["started_at"],
            "ended_at": run["ended_at"],
        }  # fmt: skip
    listed = {flow["name"]: flow["last_run"] for flow in api.get("/v1/flows")["items"]}
    assert listed["fail"]["id"] == run["id"]
    assert listed["idle"] is None


@pytest.mark.parametrize(
    "name",
    ["nothing", "ADD", "%00", "..%2fadd", "add%20", "'; DROP TABLE flows; --", "x" * 50_000, "%ff", "\N{SNOWMAN}"],
)
@pytest.mark.parametrize("action", ["", "/validate"])
def test_unknown_flows(api: Api, name: str, action: str) -> None:
    body: Any = {"inputs": {}} if action else None
    response = api.http.request("POST" if action else "GET", f"/v1/flows/{name}{action}", json=body)
    problem = problem_of(response, 404, "not_found" if "%2f" in name else "unknown_flow")
    assert len(problem["detail"]) < 500


@pytest.mark.parametrize(
    ("flow", "inputs", "validated"),
    [
        ("add", {"a": 1}, {"a": 1, "b": 1}),
        ("add", {"a": "7", "b": 3.0}, {"a": 7, "b": 3}),
        ("order", {"item": {"article": "x"}},
         {"item": {"article": "x", "pieces": 1, "colour": "red", "ship_to": None}, "labels": []}),
        ("idle", {}, {}),
        ("echo", {"value": [None, {"a": "\0"}, 2**70]}, {"value": [None, {"a": "\0"}, 2**70]}),
    ],
)  # fmt: skip
def test_valid_inputs(api: Api, flow: str, inputs: Any, validated: Any) -> None:
    before = newest(api)
    answer = api.post(f"/v1/flows/{flow}/validate", {"inputs": inputs}, 200)
    assert answer == {"valid": True, "inputs": validated, "errors": []}
    assert newest(api) == before


@pytest.mark.parametrize(
    ("flow", "inputs", "wrong"),
    [
        ("add", {}, [["inputs", "a"]]),
        ("add", {"a": None, "c": 1}, [["inputs", "a"], ["inputs", "c"]]),
        ("order", {"item": {"article": "x", "colour": "green"}}, [["inputs", "item", "colour"]]),
        (
            "order",
            {"item": {"article": "x"}, "labels": [1, "b", None]},
            [["inputs", "labels", 0], ["inputs", "labels", 2]],
        ),
    ],
)
def test_invalid_inputs(api: Api, flow: str, inputs: Any, wrong: Any) -> None:
    before = newest(api)
    answer = api.post(f"/v1/flows/{flow}/validate", {"inputs": inputs}, 200)
    assert set(answer) == {"valid", "inputs", "errors"}
    assert (answer["valid"], answer["inputs"]) == (False, None)
    assert locations(answer) == wrong
    assert all(set(error) == {"loc", "msg", "type"} for error in answer["errors"])
    assert newest(api) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{", 400), (b'{"inputs":{"a":"\\ud800"}}', 400), (b"null", 422), (b"[]", 422),
        (b'{"inputs":[]}', 422), (b'{"inputs":null}', 422), (b'{"input":{}}', 422), (b'{"inputs":{"value":NaN}}', 422),
    ],
)  # fmt: skip
def test_what_cannot_be_validated(api: Api, body: bytes, status: int) -> None:
    before = newest(api)
    response = api.http.post("/v1/flows/echo/validate", content=body)
    problem_of(response, status, "invalid_json" if status == 400 else "invalid_request")
    assert newest(api) == before


def test_flows_that_were_removed_are_listed_by_themselves(api: Api) -> None:
    assert api.get("/v1/flows", removed=True)["items"] == []
    refused = problem_of(api.http.get("/v1/flows", params={"removed": "perhaps"}), 422, "invalid_request")
    assert locations(refused) == [["query", "removed"]]


def test_the_code_is_compared_with_what_is_served(api: Api) -> None:
    (location,) = api.get("/v1/code/diff")["locations"]
    assert (location["accepted"], location["changes"], location["failures"]) == (True, [], [])
    problem_of(api.http.get("/v1/code/diff", headers={"authorization": "Bearer nobody"}), 401, "unauthenticated")
