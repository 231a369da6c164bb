"""`POST /v1/runs`: receipts, waiting, keys and ids, dry runs, tests, times and priorities."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid1, uuid3, uuid4, uuid5

import pytest

from pullcord.gate.request import Invoker
from tests.api.server import Api, Hold, Server, events_of, locations, problem_of, receipt_of, refusal_of

# --- the receipt ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", ["add", "add-async"])
def test_an_admitted_request_gets_a_receipt(api: Api, flow: str) -> None:
    receipt = api.submit(flow, {"a": 1})
    assert receipt | {"request_id": "", "run_id": "", "reason": "", "state": ""} == {
        "request_id": "",
        "outcome": "admitted",
        "reason": "",
        "code": None,
        "flow": flow,
        "run_id": "",
        "state": "",
        "replayed": False,
        "position": None,
    }
    assert receipt["state"] in ("queued", "running")
    assert UUID(receipt["request_id"]).version == 7
    assert UUID(receipt["run_id"]).version == 7
    assert api.get(f"/v1/requests/{receipt['request_id']}")["run_id"] == receipt["run_id"]
    assert api.get(f"/v1/runs/{receipt['run_id']}")["request_id"] == receipt["request_id"]


def test_what_the_caller_says_is_kept(api: Api) -> None:
    run = api.run("facts", reason="because\nof\tthis", on_behalf_of="Grace", priority=-3)
    assert run["reason"] == "because\nof\tthis"
    assert run["priority"] == -3
    assert run["invoker"] == {"id": "owner", "kind": "local", "on_behalf_of": ["Grace"]}
    assert run["result"]["invoker"] == run["invoker"]
    assert run["result"]["request"] == run["request_id"]
    row = api.get(f"/v1/requests/{run['request_id']}")
    assert (row["note"], row["invoker"], row["source"]) == ("because\nof\tthis", run["invoker"], "http")


def test_inputs_are_kept_as_validated_with_defaults(api: Api) -> None:
    item = {"article": "lamp", "colour": "blue", "ship_to": {"street": "Rue", "number": 3}}
    run = api.run("order", {"item": item})
    assert run["inputs"] == {"item": item | {"pieces": 1}, "labels": []}
    assert run["result"] == {"article": "lamp", "colour": "blue", "labels": []}
    assert api.get(f"/v1/requests/{run['request_id']}")["inputs"] == {"item": item}, "the ledger keeps what was sent"


@pytest.mark.parametrize("source", ["cli", "python"])
def test_our_own_clients_are_known_as_such(api: Api, source: str) -> None:
    receipt = api.submit("add", {"a": 1}, headers={"x-pullcord-source": source})
    assert api.get(f"/v1/runs/{receipt['run_id']}")["source"] == source


def test_a_stranger_is_no_client_of_ours(api: Api) -> None:
    receipt = api.submit("add", {"a": 1}, headers={"x-pullcord-source": "flow"})
    assert api.get(f"/v1/runs/{receipt['run_id']}")["source"] == "http"


def test_numbers_are_kept_exactly(api: Api) -> None:
    value = [2**63, -(2**64) - 1, 10**4000, 9007199254740993, 0.1, 1e-300, -0.0]
    run = api.run("echo", {"value": value})
    assert run["inputs"] == {"value": value}
    assert run["result"] == value


def test_any_text_is_kept_exactly(api: Api) -> None:
    value = "\x00\x01\x7f\u2028 \N{SNOWMAN} \N{PILE OF POO} \ufeff \u202e '; DROP TABLE runs; --"
    run = api.run("echo", {"value": {value: value}})
    assert run["inputs"] == {"value": {value: value}} == {"value": run["result"]}
    assert api.get(f"/v1/requests/{run['request_id']}")["inputs"] == run["inputs"]
    assert api.get("/v1/runs", flow="echo", limit=1)["items"][0]["inputs"] == run["inputs"]


def test_inputs_as_deep_as_can_be_read_can_be_shown(api: Api) -> None:
    value: Any = []
    for _ in range(198):
        value = [value]
    run = api.run("echo", {"value": value})
    assert run["result"] == value
    for path in ("/v1/runs", "/v1/requests", f"/v1/runs/{run['id']}"):
        api.get(path)
    assert api.post(f"/v1/runs/{run['id']}/rerun")["outcome"] == "admitted"


# --- waiting -------------------------------------------------------------------------------------------


def test_waiting_for_the_end(api: Api) -> None:
    receipt = api.submit("add", {"a": 2, "b": 3}, 200, query={"wait": "30s"})
    assert receipt["outcome"] == "admitted"
    assert receipt["state"] == receipt["run"]["state"] == "succeeded"
    assert receipt["run"]["result"] == 5
    assert receipt["run"] == api.get(f"/v1/runs/{receipt['run_id']}")


def test_waiting_for_a_failure(api: Api) -> None:
    run = api.submit("fail", {"text": "as planned"}, 200, query={"wait": "30s", "until": "ended"})["run"]
    assert (run["state"], run["result"]) == ("failed", None)
    assert run["error"]["message"] == "as planned"
    assert run["error"]["type"].endswith("RuntimeError")
    assert "raise RuntimeError(text)" in run["error"]["traceback"]
    assert [step["name"] for step in run["steps"]] == ["double"]


@pytest.mark.parametrize("wait", ["0", "0s", "1ms"])
@pytest.mark.parametrize("until", ["ended", "step:nothing"])
def test_a_wait_that_ends_too_early_shows_the_run_as_it_is(api: Api, hold: Hold, wait: str, until: str) -> None:
    receipt = api.submit("hold", {"port": hold.port}, 202, query={"wait": wait, "until": until})
    assert receipt["run"]["state"] == receipt["state"] == "running"
    assert receipt["run"]["result"] is None
    hold.begun().release()
    assert api.ended(receipt["run_id"])["result"] == "done"


def test_waiting_until_it_has_started(api: Api, hold: Hold) -> None:
    receipt = api.submit("hold", {"port": hold.port}, 200, query={"wait": "30s", "until": "started"})
    assert receipt["run"]["state"] == "running"
    assert receipt["run"]["started_at"] is not None
    hold.begun().release()
    api.ended(receipt["run_id"])


def test_waiting_until_a_step_has_passed(api: Api, hold: Hold) -> None:
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(
            api.submit, "laps", {"port": hold.port, "count": 2}, 200, None, {"wait": "30s", "until": "step:lap"}
        )
        hold.begun().release()
        receipt = asked.result()
    assert receipt["run"]["state"] == "running"
    first = receipt["run"]["steps"][0]
    assert (first["name"], first["state"], first["result"]) == ("lap", "succeeded", 0)
    hold.begun().release()
    assert api.ended(receipt["run_id"])["result"] == 2


def test_a_run_that_ends_without_the_step_is_waited_for_no_longer(api: Api) -> None:
    receipt = api.submit("add", {"a": 1}, 200, query={"wait": "30s", "until": "step:never"})
    assert receipt["run"]["state"] == "succeeded"


@pytest.mark.parametrize(
    "query",
    [
        "wait=", "wait=soon", "wait=-1", "wait=nan", "wait=inf", "wait=1e999", "wait=%ff", "wait=1%00s",
        "wait=101%20years", "wait=" + "1" * 60_000 + "x", "until=", "until=later", "until=step:",
        "wait=1s&until=running", "wiat=1s", "wait=1s&=",
    ],
)  # fmt: skip
def test_a_wait_that_makes_no_sense_is_refused(api: Api, query: str) -> None:
    response = api.http.post(f"/v1/runs?{query}", json={"flow": "add", "inputs": {"a": 1}})
    problem = refusal_of(response, 422, "invalid_request")
    assert api.count(problem) >= 1
    assert len(problem["detail"]) < 300


# --- idempotency keys ----------------------------------------------------------------------------------


def test_a_key_makes_the_same_request_one_run(api: Api, key: str) -> None:
    first = api.submit("add", {"a": 1}, idempotency_key=key)
    again = api.submit("add", {"a": 1}, 200, idempotency_key=key)
    header = api.submit("add", {"a": 1}, 200, {"idempotency-key": key})
    both = api.submit("add", {"a": 1}, 200, {"Idempotency-Key": key}, idempotency_key=key)
    for receipt in (again, header, both):
        assert receipt["outcome"] == "replayed"
        assert receipt["replayed"] is True
        assert (receipt["request_id"], receipt["run_id"]) == (first["request_id"], first["run_id"])
    row = api.get(f"/v1/requests/{first['request_id']}")
    assert (row["outcome"], row["idempotency_key"]) == ("admitted", key)


def test_replays_share_a_row_of_the_ledger(api: Api, key: str) -> None:
    first = api.submit("add", {"a": 1}, idempotency_key=key)
    for _ in range(3):
        api.submit("add", {"a": 1}, 200, idempotency_key=key)
    rows = [row for row in api.pages("/v1/requests", flow="add") if row["idempotency_key"] == key]
    assert [(row["outcome"], row["count"]) for row in rows] == [("replayed", 3), ("admitted", 1)]
    assert {row["run_id"] for row in rows} == {first["run_id"]}
    assert rows[0]["last_at"] > rows[0]["at"]


@pytest.mark.parametrize(
    "body",
    [
        '{"inputs": {"b":1, "a":1}, "flow":"add", "idempotency_key":"%s"}',
        '{"flow":"add","inputs":{ "a" : 1 },"idempotency_key":"%s","reason":"another","priority":7}',
        '{"flow":"add","inputs":{"a":"1"},"idempotency_key":"%s"}',
    ],
)
def test_the_same_inputs_written_otherwise_are_a_replay(api: Api, key: str, body: str) -> None:
    first = api.submit("add", {"a": 1}, idempotency_key=key)
    again = receipt_of(api.http.post("/v1/runs", content=body % key), 200)
    assert again["run_id"] == first["run_id"]


def test_other_inputs_under_a_key_are_a_conflict(api: Api, key: str) -> None:
    first = api.submit("add", {"a": 1}, idempotency_key=key)
    body = {"flow": "add", "inputs": {"a": 2}, "idempotency_key": key}
    problem = refusal_of(api.http.post("/v1/runs", json=body), 409, "idempotency_conflict")
    assert first["request_id"] in problem["detail"]
    assert problem["run_id"] == first["run_id"]
    assert problem["request_id"] != first["request_id"]
    row = api.get(f"/v1/requests/{problem['request_id']}")
    assert (row["outcome"], row["code"], row["inputs"]) == ("rejected", "idempotency_conflict", {"a": 2})
    assert api.get(f"/v1/requests/{first['request_id']}")["outcome"] == "admitted"


def test_a_used_key_with_invalid_inputs_is_a_conflict_too(api: Api, key: str) -> None:
    api.submit("add", {"a": 1}, idempotency_key=key)
    body = {"flow": "add", "inputs": {"a": "x"}, "idempotency_key": key}
    refusal_of(api.http.post("/v1/runs", json=body), 409, "idempotency_conflict")


def test_a_key_belongs_to_its_flow(api: Api, key: str) -> None:
    one = api.submit("add", {"a": 1}, idempotency_key=key)
    other = api.submit("add-async", {"a": 1}, idempotency_key=key)
    assert one["run_id"] != other["run_id"]


def test_a_refused_request_uses_up_no_key(api: Api, key: str) -> None:
    api.submit("add", {"a": "x"}, 422, idempotency_key=key)
    api.submit("add", {"a": 1}, 202, dry_run=True, idempotency_key=key)
    assert api.submit("add", {"a": 1}, 202, idempotency_key=key)["outcome"] == "admitted"


def test_two_keys_in_one_request_are_refused(api: Api, key: str) -> None:
    body = {"flow": "add", "inputs": {"a": 1}, "idempotency_key": key}
    response = api.http.post("/v1/runs", json=body, headers={"idempotency-key": "another"})
    refusal_of(response, 422, "invalid_request")


@pytest.mark.parametrize("bad", ["", "x" * 256])
def test_a_key_that_is_none_is_refused_wherever_it_stands(api: Api, bad: str) -> None:
    body = {"flow": "add", "inputs": {"a": 1}}
    refusal_of(api.http.post("/v1/runs", json=body, headers={"idempotency-key": bad}), 422, "invalid_request")
    problem = refusal_of(api.http.post("/v1/runs", json=body | {"idempotency_key": bad}), 422, "invalid_request")
    assert locations(problem) == [["idempotency_key"]]


def test_a_replay_can_be_waited_for(api: Api, hold: Hold, key: str) -> None:
    first = api.submit("hold", {"port": hold.port}, idempotency_key=key)
    held = hold.begun()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(api.submit, "hold", {"port": hold.port}, 200, None, {"wait": "30s"}, idempotency_key=key)
        held.release("at last")
        again = asked.result()
    assert again["run_id"] == first["run_id"]
    assert again["run"]["result"] == "at last"


def test_fifty_callers_at_the_same_instant_get_one_run(api: Api, key: str) -> None:
    def ask(number: int) -> tuple[int, Any]:
        response = api.http.post("/v1/runs", json={"flow": "add", "inputs": {"a": 1}, "idempotency_key": key})
        return response.status_code, response.json()["run_id"]

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, range(50)))
    assert sorted(status for status, _ in answers) == [200] * 49 + [202]
    assert len({run for _, run in answers}) == 1


# --- request ids ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_id",
    [uuid1(), uuid3(NAMESPACE_URL, f"{uuid4()}"), uuid4(), uuid5(NAMESPACE_URL, f"{uuid4()}"), UUID(int=2**128 - 7)],
    ids=["1", "3", "4", "5", "none"],
)
def test_a_request_id_of_any_kind_makes_the_same_request_one_run(api: Api, request_id: UUID) -> None:
    first = api.submit("add", {"a": 1}, request_id=f"{request_id}".upper())
    assert first["request_id"] == str(request_id)
    again = api.submit("add", {"a": 1, "b": 1}, 200, request_id=str(request_id))
    assert (again["outcome"], again["request_id"], again["run_id"]) == ("replayed", str(request_id), first["run_id"])
    row = api.get(f"/v1/requests/{str(request_id).upper()}")
    assert (row["outcome"], row["run_id"]) == ("admitted", first["run_id"])


@pytest.mark.parametrize("change", [{"inputs": {"a": 2}}, {"flow": "add-async"}])
def test_another_request_under_an_id_is_a_conflict(api: Api, change: dict[str, Any]) -> None:
    body = {"flow": "add", "inputs": {"a": 1}, "request_id": str(uuid4())}
    first = receipt_of(api.http.post("/v1/runs", json=body), 202)
    problem = refusal_of(api.http.post("/v1/runs", json=body | change), 409, "request_id_conflict")
    assert problem["run_id"] == first["run_id"]
    assert first["request_id"] in problem["detail"]
    assert problem["request_id"] != first["request_id"]
    assert api.get(f"/v1/requests/{first['request_id']}")["outcome"] == "admitted"
    assert api.get(f"/v1/requests/{problem['request_id']}")["code"] == "request_id_conflict"


def test_a_request_id_belongs_to_its_invoker(api: Api, server: Server) -> None:
    request_id = str(uuid4())
    stranger = Invoker("stranger", "local")
    theirs = server.do(server.app.run("add", {"a": 1}, request_id=request_id, invoker=stranger))
    mine = api.submit("add", {"a": 2}, request_id=request_id)
    assert mine["run_id"] != theirs.run_id
    assert api.submit("add", {"a": 2}, 200, request_id=request_id)["run_id"] == mine["run_id"]
    again = server.do(server.app.run("add", {"a": 1}, request_id=request_id, invoker=stranger))
    assert (again.replayed, again.run_id) == (True, theirs.run_id)
    assert api.get(f"/v1/requests/{request_id}")["run_id"] == mine["run_id"], "one's own comes first"


def test_id_and_key_together(api: Api, key: str) -> None:
    request_id = str(uuid4())
    first = api.submit("add", {"a": 1}, request_id=request_id, idempotency_key=key)
    assert api.submit("add", {"a": 1}, 200, request_id=request_id)["run_id"] == first["run_id"]
    assert api.submit("add", {"a": 1}, 200, idempotency_key=key)["run_id"] == first["run_id"]
    assert api.submit("add", {"a": 1}, 200, request_id=str(uuid4()), idempotency_key=key)["run_id"] == first["run_id"]


def test_a_refused_request_can_be_sent_again_under_its_id(api: Api) -> None:
    request_id = str(uuid4())
    refused = api.submit("add", {"a": "x"}, 422, request_id=request_id)
    assert refused["request_id"] == request_id
    assert api.get(f"/v1/requests/{request_id}")["outcome"] == "rejected"
    admitted = api.submit("add", {"a": 1}, 202, request_id=request_id)
    assert admitted["request_id"] == request_id
    assert api.get(f"/v1/requests/{request_id}")["outcome"] == "admitted"


@pytest.mark.parametrize(
    "bad", ["", "1", "x" * 36, str(UUID(int=4)) + "0", "\N{FULLWIDTH DIGIT ONE}" * 3, 7, True, [], {}]
)
def test_what_is_no_uuid_is_no_request_id(api: Api, bad: Any) -> None:
    body = {"flow": "add", "inputs": {"a": 1}, "request_id": bad}
    problem = refusal_of(api.http.post("/v1/runs", json=body), 422, "invalid_request")
    assert locations(problem) == [["request_id"]]


# --- dry runs and tests --------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_happen(api: Api) -> None:
    receipt = api.submit("add", {"a": 1}, dry_run=True)
    assert (receipt["outcome"], receipt["run_id"]) == ("admitted", None)
    assert "dry run" in receipt["reason"]
    row = api.get(f"/v1/requests/{receipt['request_id']}")
    assert (row["dry_run"], row["run_id"], row["inputs"]) == (True, None, {"a": 1})
    assert api.submit("add", {"a": 1}, 202, query={"wait": "30s"}, dry_run=True)["run_id"] is None


def test_a_dry_run_goes_through_the_whole_gate(api: Api, hold: Hold, key: str) -> None:
    api.submit("add", {"a": "x"}, 422, dry_run=True)
    api.submit("nothing", {}, 404, dry_run=True)
    first = api.submit("add", {"a": 1}, idempotency_key=key)
    assert api.submit("add", {"a": 1}, 200, dry_run=True, idempotency_key=key)["run_id"] == first["run_id"]
    api.submit("add", {"a": 2}, 409, dry_run=True, idempotency_key=key)
    running = api.submit("one-by-one", {"port": hold.port})
    held = hold.begun()
    foreseen = api.submit("one-by-one", {"port": hold.port}, dry_run=True)
    assert (foreseen["state"], foreseen["position"]) == ("queued", 1)
    assert api.submit("add", {"a": 1}, dry_run=True, not_before="2990-01-01T00:00:00Z")["state"] == "scheduled"
    held.release()
    api.ended(running["run_id"])


def test_a_test_run_is_marked(api: Api) -> None:
    run = api.run("facts", test=True)
    assert run["test"] is True
    assert run["result"]["test"] is True
    assert api.run("facts")["result"]["test"] is False
    assert api.get("/v1/runs", flow="facts", limit=2)["items"][1]["test"] is True


# --- queues, times and priorities ----------------------------------------------------------------------


def test_runs_beyond_the_limit_queue_and_say_where(api: Api, hold: Hold) -> None:
    receipts = [api.submit("one-by-one", {"port": hold.port}) for _ in range(3)]
    assert [receipt["state"] for receipt in receipts] == ["running", "queued", "queued"]
    assert [receipt["position"] for receipt in receipts] == [None, 1, 2]
    for receipt in receipts:
        hold.begun().release()
        assert api.ended(receipt["run_id"])["state"] == "succeeded"
    started = [api.get(f"/v1/runs/{receipt['run_id']}")["started_at"] for receipt in receipts]
    assert started == sorted(started)


def test_the_highest_priority_goes_first(api: Api, hold: Hold) -> None:
    first = api.submit("one-by-one", {"port": hold.port})
    held = hold.begun()
    wanted = {
        priority: api.submit("one-by-one", {"port": hold.port}, priority=priority)["run_id"]
        for priority in (0, -1000, 5, 1000, -1)
    }
    held.release()
    for _ in wanted:
        hold.begun().release()
    started = {priority: api.ended(run_id)["started_at"] for priority, run_id in wanted.items()}
    assert sorted(started, key=started.__getitem__) == [1000, 5, 0, -1, -1000]
    assert api.ended(first["run_id"])["state"] == "succeeded"


def test_a_run_is_scheduled_until_its_time(api: Api) -> None:
    due = datetime.now(UTC) + timedelta(seconds=0.3)
    zoned = due.astimezone(tz=None).isoformat()
    receipt = api.submit("add", {"a": 1}, not_before=zoned)
    assert (receipt["outcome"], receipt["state"]) == ("admitted", "scheduled")
    assert due.isoformat(timespec="microseconds").replace("+00:00", "Z") in receipt["reason"]
    states = [event.data["state"] for event in events_of(api, receipt["run_id"]) if event.kind == "run"]
    assert states == ["scheduled", "queued", "running", "succeeded"]
    run = api.get(f"/v1/runs/{receipt['run_id']}")
    assert datetime.fromisoformat(run["not_before"]) == due
    assert datetime.fromisoformat(run["queued_at"]) >= due


def test_a_time_that_has_passed_means_now(api: Api) -> None:
    assert api.run("add", {"a": 1}, not_before="1969-07-20T20:17:40Z")["state"] == "succeeded"


def test_a_far_time_is_kept(api: Api) -> None:
    receipt = api.submit("add", {"a": 1}, not_before="9999-12-31T23:59:59.999999Z")
    run = api.get(f"/v1/runs/{receipt['run_id']}")
    assert (run["state"], run["not_before"]) == ("scheduled", "9999-12-31T23:59:59.999999Z")
    assert (run["queued_at"], run["started_at"]) == (None, None)
    assert api.get("/v1/runs", state="scheduled", flow="add")["items"][0]["id"] == run["id"]
    assert api.post(f"/v1/runs/{run['id']}/cancel")["state"] == "cancelled"


@pytest.mark.parametrize(
    "bad",
    [
        "", "soon", "1", "2030-01-01", "2030-01-01T00:00:00", "2030-02-30T00:00:00Z", "2030-01-01T25:00:00Z",
        "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "10000-01-01T00:00:00Z", 1_900_000_000, True, [],
    ],
)  # fmt: skip
def test_a_time_that_is_none_is_refused(api: Api, bad: Any) -> None:
    body = {"flow": "add", "inputs": {"a": 1}, "not_before": bad}
    problem = refusal_of(api.http.post("/v1/runs", json=body), 422, "invalid_request")
    assert locations(problem) == [["not_before"]]
    assert api.get("/v1/runs"), "the list can still be shown"


@pytest.mark.parametrize("bad", [1001, -1001, 10**30, 1.5, "1", True, None])
def test_a_priority_has_limits(api: Api, bad: Any) -> None:
    problem = refusal_of(
        api.http.post("/v1/runs", json={"flow": "add", "inputs": {"a": 1}, "priority": bad}), 422, "invalid_request"
    )
    assert locations(problem) == [["priority"]]


def test_unknown_runs_and_requests(api: Api) -> None:
    for path in ("/v1/runs", "/v1/requests"):
        for name in (uuid4(), "x", "%00", "..%2f", "'; DROP TABLE runs; --", "\N{SNOWMAN}" * 500, "%ed%a0%80"):
            problem_of(api.http.get(f"{path}/{name}"), 404, "not_found")
