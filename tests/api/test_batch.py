"""`POST /v1/runs/batch`: in order, each by itself, whatever its neighbours are."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx2
import pytest

from pullcord.core.errors import StoreError
from pullcord.gate.request import Receipt, TriggerRequest
from tests.api.server import RECEIPT, Api, Json, Server, checked, locations, problem_of, refusal_of

GOOD = b'{"flow":"add","inputs":{"a":1}}'


def receipts_of(response: httpx2.Response) -> list[Json]:
    """Return the receipts of a batch."""
    answer = checked(response, 200)
    assert set(answer) == {"receipts"}
    receipts: list[Json] = answer["receipts"]
    for receipt in receipts:
        assert set(receipt) - {"errors"} == RECEIPT
    return receipts


def batch(api: Api, requests: list[Any]) -> list[Json]:
    """Ask for many runs."""
    return receipts_of(api.http.post("/v1/runs/batch", json={"requests": requests}))


def test_receipts_come_in_order(api: Api) -> None:
    receipts = batch(api, [{"flow": flow, "inputs": {"a": a}} for a in range(50) for flow in ("add", "add-async")])
    assert [receipt["flow"] for receipt in receipts] == ["add", "add-async"] * 50
    assert {receipt["outcome"] for receipt in receipts} == {"admitted"}
    runs = [api.ended(receipt["run_id"]) for receipt in receipts[:10]]
    assert [run["inputs"]["a"] for run in runs] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert len({receipt["run_id"] for receipt in receipts}) == 100


def test_each_is_decided_on_by_itself(api: Api, key: str) -> None:
    request_id = str(uuid4())
    wanted: list[Any] = [
        {"flow": "add", "inputs": {"a": 1}, "idempotency_key": key},
        {"flow": "nothing"},
        {"flow": "add", "inputs": {"a": "x", "c": 1}},
        {"flow": "add", "inputs": {"a": 1}, "priority": "high", "unknown": 1},
        None,
        [],
        "add",
        {},
        {"flow": "add", "inputs": {"a": 1}, "request_id": request_id, "dry_run": True},
        {"flow": "add", "inputs": [1]},
        {"flow": "add", "inputs": {"a": 9}, "test": True},
    ]
    receipts = batch(api, wanted)
    assert [receipt["code"] for receipt in receipts] == [
        None, "unknown_flow", "invalid_inputs", "invalid_request", "invalid_request", "invalid_request",
        "invalid_request", "invalid_request", None, "invalid_inputs", None,
    ]  # fmt: skip
    for receipt in receipts:
        assert receipt["outcome"] == ("admitted" if receipt["code"] is None else "rejected")
        assert receipt["reason"]
        if receipt["flow"]:
            assert api.get(f"/v1/requests/{receipt['request_id']}")["code"] == receipt["code"]
    assert locations(receipts[2]) == [["inputs", "a"], ["inputs", "c"]]
    assert locations(receipts[3]) == [["priority"], ["unknown"]]
    assert locations(receipts[4]) == [[]]
    assert locations(receipts[7]) == [["flow"]]
    assert (receipts[8]["request_id"], receipts[8]["run_id"]) == (request_id, None)
    assert locations(receipts[9]) == [["inputs"]]
    assert api.ended(receipts[10]["run_id"])["test"] is True


def test_one_key_twice_in_a_batch(api: Api, key: str) -> None:
    same = {"flow": "add", "inputs": {"a": 1}, "idempotency_key": key}
    receipts = batch(api, [same] * 20 + [same | {"inputs": {"a": 2}}])
    outcomes = [receipt["outcome"] for receipt in receipts[:20]]
    if outcomes.count("admitted") == 1:
        assert outcomes.count("replayed") == 19
        assert receipts[20]["code"] == "idempotency_conflict"
    else:  # the other one came first
        assert receipts[20]["outcome"] == "admitted"
        assert {receipt["code"] for receipt in receipts[:20]} == {"idempotency_conflict"}
    assert len({receipt["run_id"] for receipt in receipts}) == 1


def test_a_batch_again_is_replayed(api: Api) -> None:
    wanted = [{"flow": "add", "inputs": {"a": a}, "request_id": str(uuid4())} for a in range(20)]
    first = batch(api, wanted)
    again = batch(api, wanted)
    assert [receipt["run_id"] for receipt in again] == [receipt["run_id"] for receipt in first]
    assert {receipt["outcome"] for receipt in again} == {"replayed"}


def test_a_thousand_is_the_limit(api: Api) -> None:
    wanted = [{"flow": "add", "inputs": {"a": a}, "dry_run": True} for a in range(1000)]
    assert {receipt["outcome"] for receipt in batch(api, wanted)} == {"admitted"}
    for too_many in ([wanted[0]] * 1001, []):
        response = api.http.post("/v1/runs/batch", json={"requests": too_many})
        assert locations(refusal_of(response, 422, "invalid_request")) == [["requests"]]


@pytest.mark.parametrize(
    "poison",
    [
        b'{"flow":"echo","inputs":{"value":"\\ud800"}}',
        b'{"flow":"echo","inputs":{"\\udfff":1}}',
        b'{"flow":"echo","inputs":{"value":"\xff\xfe"}}',
        b'{"flow":"echo","inputs":{"value":"\xed\xa0\x80"}}',
        b'{"flow":"echo","inputs":{"value":"\x00"}}',
        b'{"flow":"echo","inputs":{"value":' + b"9" * 5000 + b"}}",
        b'{"flow":"echo","inputs":{"value":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"flow":"echo","inputs":{"value":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}}",
        b'{"flow":"echo","inputs":{"value":"],{\\"flow\\":\\"echo\\"},\\ud800"}}',
        b'{"flow":"echo","inputs":{"value":nonsense}}',
        b'{"flow":"echo"; "inputs":1}',
        b"\xf0\x9f\x98",
    ],
    ids=range(12),
)
def test_what_cannot_be_read_harms_no_neighbour(api: Api, poison: bytes) -> None:
    body = b'{ "requests" :[' + GOOD + b" ,\n" + poison + b"," + GOOD + b"] }"
    receipts = receipts_of(api.http.post("/v1/runs/batch", content=body))
    assert [receipt["outcome"] for receipt in receipts] == ["admitted", "rejected", "admitted"]
    assert receipts[1]["code"] == "invalid_json"
    assert api.ended(receipts[0]["run_id"])["result"] == api.ended(receipts[2]["run_id"])["result"] == 2


@pytest.mark.parametrize("poison", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
def test_what_json_does_not_know_harms_no_neighbour(api: Api, poison: bytes) -> None:
    bad = b'{"flow":"echo","inputs":{"value":[' + poison + b"]}}"
    receipts = receipts_of(
        api.http.post("/v1/runs/batch", content=b'{"requests":[' + GOOD + b"," + bad + b"," + GOOD + b"]}")
    )
    assert [receipt["code"] for receipt in receipts] == [None, "invalid_inputs", None]
    assert locations(receipts[1]) == [["inputs"]]


def test_inputs_over_their_limit_harm_no_neighbour(api: Api) -> None:
    good = {"flow": "add", "inputs": {"a": 1}}
    # The limit is in bytes: half a million snowmen are one and a half million.
    for value in ("x" * (1 << 20), "\N{SNOWMAN}" * (1 << 19)):
        receipts = batch(api, [good, {"flow": "echo", "inputs": {"value": value}}, good])
        assert [receipt["code"] for receipt in receipts] == [None, "too_large", None]
        row = api.get(f"/v1/requests/{receipts[1]['request_id']}")
        assert (row["flow"], row["code"], row["inputs"]) == ("echo", "too_large", None)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b'{"requests":[' + GOOD, "invalid_json"),
        (b'{"requests":[' + GOOD + b",]}", "invalid_json"),
        (b'{"requests":[' + GOOD + b"]", "invalid_json"),
        (b'{"requests":[' + GOOD + b"}]}", "invalid_json"),
        (b'{"requests":[' + GOOD + b"]} and more", "invalid_json"),
        (b'{"requests":["' + b"\\" * 99_999, "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"requests":[\xff]', "invalid_json"),
        (b"[" + GOOD + b"]", "invalid_request"),
        (GOOD, "invalid_request"),
        (b'{"requests":{}}', "invalid_request"),
        (b'{"requests":null}', "invalid_request"),
        (b'{"requests":[' + GOOD + b'],"flow":"add"}', "invalid_request"),
        (b"null", "invalid_request"),
    ],
    ids=range(15),
)
def test_a_batch_that_is_none_is_refused_as_a_whole(api: Api, body: bytes, code: str) -> None:
    """And leaves a row, as every refused intent does; equal ones share it."""
    status = {"invalid_json": 400, "invalid_request": 422}[code]
    first = refusal_of(api.http.post("/v1/runs/batch", content=body), status, code)
    before = api.count(first)
    refusal_of(api.http.post("/v1/runs/batch", content=body), status, code)
    assert api.count(first) == before + 1


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [(StoreError("it does not fit"), "store_error", 503), (RuntimeError("unforeseen"), "internal_error", 500)],
)
def test_a_request_that_cannot_be_written_harms_no_neighbour(
    server: Server, api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str, status: int
) -> None:
    submit = server.app.gate.submit

    async def failing(request: TriggerRequest) -> Receipt:
        if request.priority == 13:
            raise error
        return await submit(request)

    good, bad = {"flow": "add", "inputs": {"a": 1}}, {"flow": "echo", "priority": 13}
    with monkeypatch.context() as patched:
        patched.setattr(server.app.gate, "submit", failing)
        receipts = batch(api, [good, bad, good])
        problem_of(api.http.post("/v1/runs/batch", json={"requests": [bad, bad]}), status, code)
    assert [receipt["code"] for receipt in receipts] == [None, code, None]
    assert (receipts[1]["outcome"], receipts[1]["flow"], receipts[1]["run_id"]) == ("errored", "echo", None)
    assert api.ended(receipts[2]["run_id"])["result"] == 2
