"""Each way to be refused: status, code, fields, and the row it leaves in the ledger (design rule 3)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest

from pullcord.core.errors import StoreFullError
from pullcord.gate.policy import LocalPolicy
from pullcord.gate.request import Invoker
from tests.api.server import Api, Hold, Json, Server, checked, locations, problem_of, receipt_of, refusal_of

GOOD = {"flow": "add", "inputs": {"a": 1}}


def ask(api: Api, body: Any, **headers: str) -> Any:
    """Ask for a run."""
    return api.http.post("/v1/runs", json=body, headers=headers)


def row_of(api: Api, refusal: Json) -> Json:
    """Return the row that a refusal left, after checking that it says the same."""
    row: Json = api.get(f"/v1/requests/{refusal['request_id']}")
    assert row["outcome"] == "rejected"
    assert (row["code"], row["reason"]) == (refusal["code"], refusal["reason"])
    assert (row["errors"] or []) == refusal.get("errors", [])
    assert row["run_id"] is None
    return row


# --- who asks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "credential", [None, "", "Bearer", "Bearer x", "Basic eDp5", "x", "Bearer " + "x" * 100_000, "Bearer \xff"]
)
@pytest.mark.parametrize("path", ["/v1/runs", "/v1/runs/batch", "/v1/runs/x/rerun"])
def test_401_unauthenticated(server: Server, api: Api, path: str, credential: str | None) -> None:
    with server.client("") as stranger:
        headers = {} if credential is None else {b"authorization": credential.encode("latin-1")}
        response = stranger.http.post(path, json=GOOD, headers=headers)
        problem = refusal_of(response, 401, "unauthenticated")
        assert response.headers["www-authenticate"] == "Bearer"
        before = api.count(problem)
        stranger.http.post(path, json=GOOD, headers=headers)
    assert server.token not in problem["detail"]
    assert api.count(problem) == before + 1


def test_the_rows_of_strangers_are_theirs(server: Server, api: Api) -> None:
    with server.client("wrong") as stranger:
        refusal_of(stranger.http.post("/v1/runs", json=GOOD), 401, "unauthenticated")
    rows = api.pages("/v1/requests", invoker="anonymous")
    assert {row["code"] for row in rows} == {"unauthenticated"}
    assert rows[0]["invoker"] == {"id": "anonymous", "kind": "none", "on_behalf_of": None}
    assert {(row["flow"], row["inputs"]) for row in rows} == {(None, None)}


def test_the_scheme_is_written_in_any_case(server: Server) -> None:
    with server.client("") as client:
        client.http.headers["authorization"] = f"bEARER   {server.token}"
        assert client.get("/v1/runs", limit=1)


def test_nothing_is_shown_to_strangers(server: Server, api: Api) -> None:
    """All documented calls but the probes want a credential."""
    run = api.run("add", {"a": 1})
    names = {"run_id": run["id"], "request_id": run["request_id"], "name": "add", "trigger": "leap-day"}
    with server.client("wrong") as stranger:
        for path, operations in api.get("/openapi.json")["paths"].items():
            for method, operation in operations.items():
                url = re.sub(r"{(\w+)}", lambda part: names.get(part[1], "any"), path)
                response = stranger.http.request(method, url)
                if path == "/v1/hooks/{name}":
                    assert response.status_code == 404, "who sends is known by the signature, and there is no such hook"
                elif operation.get("security") == []:
                    assert response.status_code == 200
                else:
                    problem_of(response, 401, "unauthenticated")
                    assert response.headers["www-authenticate"] == "Bearer"


def test_403_forbidden(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    run = api.run("add", {"a": 1})
    held_back = api.submit("add", {"a": 1}, not_before="2990-01-01T00:00:00Z")

    def may(self: LocalPolicy, invoker: Invoker, action: str, flow: str | None) -> bool:
        return flow != "add"

    with monkeypatch.context() as patched:
        patched.setattr(LocalPolicy, "may", may)
        problem = refusal_of(ask(api, GOOD), 403, "forbidden")
        refusal_of(api.http.post(f"/v1/runs/{run['id']}/rerun"), 403, "forbidden")
        problem_of(api.http.post(f"/v1/runs/{held_back['run_id']}/cancel"), 403, "forbidden")
        receipts = api.post("/v1/runs/batch", {"requests": [GOOD, GOOD | {"flow": "add-async"}]}, 200)["receipts"]
    assert [receipt["code"] for receipt in receipts] == ["forbidden", None]
    assert row_of(api, problem)["flow"] == "add"
    assert api.post(f"/v1/runs/{held_back['run_id']}/cancel")["state"] == "cancelled"


# --- what is asked for ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flow",
    [
        "nothing",
        "Add",
        "add ",
        "add'; DROP TABLE runs; --",
        "%",
        "_",
        "../add",
        "\N{SNOWMAN}" * 100,
        "0",
        "flow.py:add",
    ],
)
def test_404_unknown_flow(api: Api, flow: str) -> None:
    problem = refusal_of(ask(api, {"flow": flow, "inputs": {"a": 1}}), 404, "unknown_flow")
    assert problem["flow"] == flow
    row = row_of(api, problem)
    assert (row["flow"], row["inputs"]) == (flow, {"a": 1})
    assert api.get("/v1/requests", flow=flow, limit=1)["items"] == [row]


def test_404_helps_with_a_slip(api: Api) -> None:
    assert "'add-async'" in refusal_of(ask(api, {"flow": "add_async"}), 404, "unknown_flow")["detail"]


@pytest.mark.parametrize(
    ("flow", "inputs", "wrong"),
    [
        ("add", {}, [["inputs", "a"]]),
        ("add", {"a": "x", "b": None}, [["inputs", "a"], ["inputs", "b"]]),
        ("add", {"a": 1, "c": 1, "input_a": 2}, [["inputs", "c"], ["inputs", "input_a"]]),
        ("order", {"item": {"article": ""}}, [["inputs", "item", "article"]]),
        ("order", {"item": {"article": "x" * 21, "pieces": 0, "colour": "green"}},
         [["inputs", "item", "article"], ["inputs", "item", "pieces"], ["inputs", "item", "colour"]]),
        ("order", {"item": {"article": "x", "ship_to": {"street": 1, "number": 10_000}}},
         [["inputs", "item", "ship_to", "street"], ["inputs", "item", "ship_to", "number"]]),
        ("order", {"item": {"article": "x"}, "labels": ["a", 2, "c"]}, [["inputs", "labels", 1]]),
        ("order", {"item": {"article": "x"}, "labels": ["a", "b", "c", "d"]}, [["inputs", "labels"]]),
        ("add", [], [["inputs"]]),
        ("add", None, [["inputs"]]),
        ("add", "a=1", [["inputs"]]),
        ("add", 1, [["inputs"]]),
        ("add", True, [["inputs"]]),
    ],
)  # fmt: skip
def test_422_invalid_inputs(api: Api, flow: str, inputs: Any, wrong: list[Any]) -> None:
    problem = refusal_of(ask(api, {"flow": flow, "inputs": inputs}), 422, "invalid_inputs")
    assert locations(problem) == wrong
    assert problem["run_id"] is None
    assert row_of(api, problem)["flow"] == flow


def test_a_flood_of_invalid_inputs_is_answered(api: Api) -> None:
    item = {"article": "x"}
    problem = refusal_of(
        ask(api, {"flow": "order", "inputs": {"item": item, **{f"x{i}": i for i in range(5_000)}}}),
        422,
        "invalid_inputs",
    )
    assert locations(problem)[0] == ["inputs", "x0"]
    assert len(problem["detail"]) < 1000


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b'{"a":[NaN]}'])
def test_422_what_json_does_not_know(api: Api, value: bytes) -> None:
    response = api.http.post("/v1/runs", content=b'{"flow":"echo","inputs":{"value":' + value + b"}}")
    problem = refusal_of(response, 422, "invalid_inputs")
    assert locations(problem) == [["inputs"]]
    assert row_of(api, problem)["flow"] == "echo"


@pytest.mark.parametrize("body", [{"value": "x" * (1 << 20)}, {"value": "\N{SNOWMAN}" * (1 << 19)}])
def test_413_inputs_over_their_limit(api: Api, body: Any) -> None:
    problem = refusal_of(ask(api, {"flow": "echo", "inputs": body}), 413, "too_large")
    assert "1,048,576" in problem["detail"]
    assert row_of(api, problem)["inputs"] is None


def test_inputs_just_within_their_limit(api: Api) -> None:
    text = "x" * ((1 << 20) - len('{"value":""}'))
    assert api.run("echo", {"value": text})["inputs"] == {"value": text}


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"flow": None}, ["flow"]),
        ({"flow": ""}, ["flow"]),
        ({"flow": "x" * 101}, ["flow"]),
        ({"flow": 1}, ["flow"]),
        ({"flow": ["add"]}, ["flow"]),
        ({"flow": "add\x00"}, ["flow"]),
        ({"flow": "add\n"}, ["flow"]),
        ({"flow": "\x7f"}, ["flow"]),
        ({"flow": "\u202eadd"}, ["flow"]),
        ({"idempotency_key": 1}, ["idempotency_key"]),
        ({"idempotency_key": "a\x00b"}, ["idempotency_key"]),
        ({"idempotency_key": "a\tb"}, ["idempotency_key"]),
        ({"idempotency_key": "\x1b[31m"}, ["idempotency_key"]),
        ({"idempotency_key": "\u2028"}, ["idempotency_key"]),
        ({"reason": "x" * 1001}, ["reason"]),
        ({"reason": "a\x00b"}, ["reason"]),
        ({"reason": 1}, ["reason"]),
        ({"reason": ["x"]}, ["reason"]),
        ({"on_behalf_of": ""}, ["on_behalf_of"]),
        ({"on_behalf_of": "a\nb"}, ["on_behalf_of"]),
        ({"on_behalf_of": ["a"]}, ["on_behalf_of"]),
        ({"test": 1}, ["test"]),
        ({"test": "true"}, ["test"]),
        ({"test": None}, ["test"]),
        ({"dry_run": 0}, ["dry_run"]),
        ({"dry_run": "no"}, ["dry_run"]),
        ({"run_id": str(uuid4())}, ["run_id"]),
        ({"Flow": "add"}, ["Flow"]),
        ({"": 1}, [""]),
        ({"a\x00b": 1}, ["a\x00b"]),
        ({"x" * 5_000: 1}, ["x" * 100]),
    ],
)  # fmt: skip
def test_422_invalid_request(api: Api, change: dict[str, Any], wrong: list[str]) -> None:
    """What says something impossible is refused, names the field, and equal ones share a row."""
    problem = refusal_of(ask(api, GOOD | change), 422, "invalid_request")
    assert locations(problem) == [wrong]
    before = api.count(problem)
    refusal_of(ask(api, GOOD | change), 422, "invalid_request")
    assert api.count(problem) == before + 1
    assert len(problem["detail"]) < 1000


def test_different_malformed_requests_have_rows_of_their_own(api: Api) -> None:
    one = refusal_of(ask(api, GOOD | {f"one{uuid4()}": 1}), 422, "invalid_request")
    other = refusal_of(ask(api, GOOD | {f"other{uuid4()}": 1}), 422, "invalid_request")
    assert api.count(one) == api.count(other) == 1
    assert row_of(api, one) != row_of(api, other)


def test_the_receipt_of_a_malformed_repeat_can_be_looked_up(api: Api) -> None:
    body = GOOD | {f"field{uuid4()}": 1}
    for _ in range(2):
        row_of(api, refusal_of(ask(api, body), 422, "invalid_request"))


def test_a_flood_of_unknown_fields_is_answered(api: Api) -> None:
    problem = refusal_of(ask(api, GOOD | {f"x{i}": i for i in range(5_000)}), 422, "invalid_request")
    assert len(problem["errors"]) == 100
    assert len(problem["detail"]) < 1000


# --- what the server cannot do now ---------------------------------------------------------------------


def test_503_when_the_code_is_broken_now(tmp_path: Path) -> None:
    """The flow was there before: a replay still works, anything new is told why not."""
    flows = tmp_path / "flows"
    flows.mkdir()
    code = flows / "one.py"
    code.write_text("import pullcord as pc\n\n@pc.flow\ndef one(a: int = 1) -> int:\n    return a\n")
    with Server(tmp_path / "data", flows) as server, server.client() as api:
        first = api.submit("one", {"a": 1}, 200, query={"wait": "30s"}, idempotency_key="k")
    code.write_text("import nothing_of_that_name\n")
    with Server(tmp_path / "data", flows) as server, server.client() as api:
        assert api.submit("one", {"a": 1}, 200, idempotency_key="k")["run_id"] == first["run_id"]
        problem = refusal_of(ask(api, {"flow": "one"}), 503, "location_unavailable")
        assert "nothing_of_that_name" in problem["detail"]
        assert row_of(api, problem)["flow"] == "one"
        problem_of(api.http.get("/v1/flows/one"), 503, "location_unavailable")
        problem_of(api.http.post("/v1/flows/one/validate", json={"inputs": {}}), 503, "location_unavailable")
        refusal_of(api.http.post(f"/v1/runs/{first['run_id']}/rerun"), 503, "location_unavailable")
        failures = api.get("/v1/flows")
        assert failures["items"] == []
        assert [failure["place"] for failure in failures["failures"]] == [f"{code}:1"]
        assert "nothing_of_that_name" in failures["failures"][0]["message"]
        ready = api.get("/readyz")
        assert (ready["ready"], ready["locations"]) == (True, {"flows": "ready"})
        assert ready["failures"] == failures["failures"]
        (part,) = (part for part in ready["parts"] if part["name"] == "location flows")
        assert part["detail"].startswith(f"0 flows, 1 not loaded; the first at {code}:1: ModuleNotFoundError")


def test_a_location_that_is_still_loading_is_waited_for(tmp_path: Path, hold: Hold) -> None:
    flows = tmp_path / "flows"
    flows.mkdir()
    (flows / "slow.py").write_text(
        "import contextlib, socket\n"
        "import pullcord as pc\n\n"
        "with contextlib.suppress(OSError):\n"
        f"    socket.create_connection(('127.0.0.1', {hold.port})).recv(10)\n\n"
        "@pc.flow\ndef slow() -> int:\n    return 1\n"
    )
    with Server(tmp_path / "data", flows, wait=False) as server, server.client() as api:
        hold.begun()
        response = api.http.get("/readyz")
        assert response.status_code == 503
        answer = response.json()
        parts = {part.pop("name"): part for part in answer.pop("parts")}
        assert answer == {"ready": False, "locations": {"flows": "loading"}, "failures": []}
        assert parts["location flows"] == {"ready": False, "detail": "its code is being loaded"}
        assert parts["workers flows"]["ready"] is False
        assert parts["listening"]["ready"] and parts["store"]["ready"]
        assert api.get("/healthz") == {"status": "ok"}
        hold.close()
        assert receipt_of(ask(api, {"flow": "slow"}), 202)["flow"] == "slow"
        assert api.get("/readyz")["ready"] is True


def test_503_when_nothing_can_be_written(server: Server, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    full = AsyncMock(side_effect=StoreFullError("the disk is full; free some space, then try again"))
    run = api.run("add", {"a": 1})
    with monkeypatch.context() as patched:
        patched.setattr(server.app.store, "write", full)
        for response in (
            ask(api, GOOD),
            ask(api, {"flow": "nothing"}),
            ask(api, {}),
            api.http.post("/v1/runs/batch", json={"requests": [GOOD]}),
            api.http.post("/v1/runs/batch", content=b"["),
            api.http.post(f"/v1/runs/{run['id']}/rerun"),
            api.http.post("/v1/runs/x/rerun"),
            api.http.post(f"/v1/runs/{run['id']}/cancel"),
        ):
            assert "disk is full" in problem_of(response, 503, "store_full")["detail"]
    assert ask(api, GOOD).status_code == 202


def test_503_when_nothing_can_be_read(server: Server, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = AsyncMock(side_effect=StoreFullError("nothing can be read"))
    with monkeypatch.context() as patched:
        patched.setattr(server.app.store, "read", broken)
        for path in ("/v1/runs", "/v1/requests", "/v1/flows", f"/v1/requests/{uuid4()}"):
            problem_of(api.http.get(path), 503, "store_full")
        metrics = api.http.get("/metrics")
        assert metrics.status_code == 200, "an alarm must be able to ring"
        assert "pullcord_store_up 0.0" in metrics.text and "pullcord_runs{" not in metrics.text


def test_500_says_so_and_nothing_of_the_inside(
    server: Server, api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing = AsyncMock(side_effect=RuntimeError("a secret"))
    with monkeypatch.context() as patched:
        patched.setattr(server.app.gate, "submit", failing)
        patched.setattr(server.app.store, "read", failing)
        for response in (ask(api, GOOD), api.http.get("/v1/runs"), api.http.get("/metrics")):
            problem = problem_of(response, 500, "internal_error")
            assert "secret" not in response.text
            instance = problem["instance"].removeprefix("urn:uuid:")
            assert instance in problem["detail"]
            (line,) = (record for record in caplog.records if vars(record).get("instance") == instance)
            assert line.exc_info is not None and str(line.exc_info[1]) == "a secret"
    assert sum("instance" in vars(record) for record in caplog.records) == 3
    assert checked(ask(api, GOOD), 202)
