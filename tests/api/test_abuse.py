"""Hostile bodies, headers and addresses: a clear refusal each time, and a server that goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.server import Api, Server, checked, problem_of, receipt_of, refusal_of

BIG = b'{"flow":"echo","inputs":{"value":"' + b"x" * 20_000_000 + b'"}}'
LIMIT = 8 * 1024 * 1024

ASKING = ["/v1/runs", "/v1/runs/batch", "/v1/runs/{run}/rerun", "/v1/runs/{run}/resume"]
"""Calls that ask for runs: whatever they refuse leaves a row."""

TARGETS = [*ASKING, "/v1/runs/{run}/cancel", "/v1/flows/echo/validate"]


@pytest.fixture(autouse=True)
def alive(api: Api) -> Iterator[None]:
    """The server goes on as if nothing had been."""
    yield
    assert api.get("/healthz") == {"status": "ok"}
    assert api.run("add", {"a": 1})["result"] == 2


@pytest.fixture
def run(api: Api) -> str:
    """The id of a run that has ended."""
    run_id: str = api.run("add", {"a": 1})["id"]
    return run_id


def check(api: Api, path: str, body: Any, status: int, code: str, headers: dict[str, str] | None = None) -> None:
    """Send a body twice: both are refused alike, and the ledger counts them where a run was asked for."""
    response = api.http.post(path, content=body() if callable(body) else body, headers=headers)
    if not (path in ASKING or path.endswith(("/rerun", "/resume"))):
        problem_of(response, status, code)
        return
    first = refusal_of(response, status, code)
    before = api.count(first)
    second = refusal_of(api.http.post(path, content=body() if callable(body) else body, headers=headers), status, code)
    assert (second["reason"], second.get("errors")) == (first["reason"], first.get("errors"))
    assert api.count(first) == before + 1


def chunks() -> Iterator[bytes]:
    """Yield a body whose length nobody announces."""
    for start in range(0, len(BIG), 1 << 16):
        yield BIG[start : start + (1 << 16)]


# --- bodies --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", TARGETS)
@pytest.mark.parametrize("body", [BIG, chunks], ids=["announced", "chunked"])
def test_twenty_megabytes(api: Api, run: str, path: str, body: Any) -> None:
    check(api, path.format(run=run), body, 413, "too_large")


def test_the_limit_of_a_body_is_exact(api: Api) -> None:
    body = b'{"flow":"add","inputs":{"a":1}}'
    receipt_of(api.http.post("/v1/runs", content=body.ljust(LIMIT)), 202)
    refusal_of(api.http.post("/v1/runs", content=body.ljust(LIMIT + 1)), 413, "too_large")
    receipt_of(api.http.post("/v1/runs", content=iter([body, b" " * (LIMIT - len(body))])), 202)
    refusal_of(api.http.post("/v1/runs", content=iter([body, b" " * (LIMIT - len(body) + 1)])), 413, "too_large")


UNREADABLE = {
    "empty": b"",
    "blank": b" \r\n\t ",
    "text": b"flow=add&a=1",
    "half": b'{"flow":"add","inputs":{"a":1}',
    "two": b'{"flow":"add","inputs":{"a":1}}{}',
    "comma": b'{"flow":"add",}',
    "comment": b'{"flow":"add"} // please',
    "quotes": b"{'flow':'add'}",
    "brackets": b"[" * 100_000,
    "balanced brackets": b"[" * 100_000 + b"]" * 100_000,
    "braces": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "invalid UTF-8": b'{"flow":"\xff\xfe"}',
    "overlong": b'{"flow":"\xc0\xaf"}',
    "Latin-1": '{"flow":"caf\xe9"}'.encode("latin-1"),
    "UTF-16": '{"flow":"add"}'.encode("utf-16"),
    "UTF-32": '{"flow":"add"}'.encode("utf-32"),
    "byte order mark": b'\xef\xbb\xbf{"flow":"add","inputs":{"a":1}}',
    "raw NUL": b'{"flow":"add\x00"}',
    "NULs": b"\x00" * 1000,
    "raw surrogate": b'{"flow":"\xed\xa0\x80"}',
    "lone high surrogate": b'{"flow":"\\ud800"}',
    "lone low surrogate": b'{"\\udc00":1}',
    "swapped surrogates": b'{"flow":"\\udc00\\ud800"}',
    "half an escape": b'{"flow":"\\u12"}',
    "unknown escape": b'{"flow":"\\x41"}',
    "5,000 digits": b'{"flow":' + b"9" * 5000 + b"}",
    "-5,000 digits": b'{"inputs":{"a":-' + b"9" * 5000 + b"}}",
    "leading zero": b'{"priority":01}',
    "plus": b'{"priority":+1}',
    "hexadecimal": b'{"priority":0x1}',
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94.",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
}


@pytest.mark.parametrize("path", TARGETS)
@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_json(api: Api, run: str, path: str, name: str) -> None:
    if name == "empty" and path.startswith("/v1/runs/{run}"):
        return  # there the body is optional
    check(api, path.format(run=run), UNREADABLE[name], 400, "invalid_json")


@pytest.mark.parametrize("path", TARGETS)
@pytest.mark.parametrize(
    "body", [b"null", b"true", b"0", b"-1.5e300", b'""', b'"flow"', b"[]", b"[{}]", b"NaN", b"Infinity"]
)
def test_what_is_no_object(api: Api, run: str, path: str, body: bytes) -> None:
    check(api, path.format(run=run), body, 422, "invalid_request")


@pytest.mark.parametrize("path", TARGETS)
@pytest.mark.parametrize("value", [None, True, 0, -1, 1.5, "", "x", [], [{}], {"": {}}, "\0", 10**100])
def test_unknown_fields_of_any_type(api: Api, run: str, path: str, value: Any) -> None:
    body = json.dumps({"unknown": value, "__proto__": value, "\0": value}).encode()
    check(api, path.format(run=run), body, 422, "invalid_request")


@pytest.mark.parametrize(
    "field",
    ["flow", "request_id", "idempotency_key", "reason", "not_before", "priority", "on_behalf_of", "test", "dry_run"],
)
@pytest.mark.parametrize(
    "value", [b"{}", b"[]", b"[1]", b"NaN", b"-Infinity", b"1e999", b"1.5", b'"\\u0000"', b'{"$ref":"#"}']
)
def test_wrong_types_everywhere(api: Api, field: str, value: bytes) -> None:
    fields = {b"flow": b'"add"', b"inputs": b'{"a":1}', field.encode(): value}
    body = b"{" + b",".join(b'"%b":%b' % pair for pair in fields.items()) + b"}"
    check(api, "/v1/runs", body, 422, "invalid_request")


def test_of_a_field_that_is_there_twice_the_last_counts(api: Api) -> None:
    """JSON leaves it open; what matters is that ledger, run and result agree."""
    body = b'{"flow":"nothing","flow":"add","inputs":{"a":1},"inputs":{"a":5,"b":1,"a":7}}'
    receipt = receipt_of(api.http.post("/v1/runs?wait=30s", content=body), 200)
    assert receipt["flow"] == "add"
    assert (receipt["run"]["inputs"], receipt["run"]["result"]) == ({"a": 7, "b": 1}, 8)
    assert api.get(f"/v1/requests/{receipt['request_id']}")["inputs"] == {"a": 7, "b": 1}


@pytest.mark.parametrize("digits", [4299, 4300])
def test_long_integers_that_can_be_kept(api: Api, digits: int) -> None:
    for value in (10**digits - 1, -(10 ** (digits - 1))):
        body = b'{"flow":"echo","inputs":{"value":%d}}' % value
        receipt = receipt_of(api.http.post("/v1/runs?wait=30s", content=body), 200)
        assert receipt["run"]["inputs"] == {"value": value} == {"value": receipt["run"]["result"]}


@pytest.mark.parametrize(
    "text",
    ["\0", "\x1b[2J", "\u202e", "\ufffe", "\N{PILE OF POO}" * 1000, "'; DROP TABLE requests; --", "{{7*7}}", "${jndi:ldap://x}",
     "<script>", "../../etc/passwd", "%s%n", "__class__"],
)  # fmt: skip
def test_hostile_keys_and_values_in_inputs(api: Api, text: str) -> None:
    run = api.run("echo", {"value": {text: [text]}})
    assert run["result"] == {text: [text]}
    problem = refusal_of(
        api.http.post("/v1/runs", json={"flow": "echo", "inputs": {text: text}}), 422, "invalid_inputs"
    )
    assert problem["errors"][0]["loc"] == ["inputs", text]
    row = api.get(f"/v1/requests/{problem['request_id']}")
    assert (row["inputs"], row["reason"], row["errors"]) == ({text: text}, problem["detail"], problem["errors"])
    assert api.get("/v1/requests", limit=1)["items"] == [row]


# --- content types and headers -------------------------------------------------------------------------


@pytest.mark.parametrize("path", TARGETS)
@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", "json"],
)
def test_other_content_types(api: Api, run: str, path: str, kind: str) -> None:
    """What a form of another site can send is refused, even when it looks like JSON."""
    body = b'{"flow":"add","inputs":{"a":1}}'
    check(api, path.format(run=run), body, 415, "unsupported_media_type", {"content-type": kind})


@pytest.mark.parametrize(
    "kind", ["application/json", "APPLICATION/JSON; charset=utf-8", "application/vnd.api+json", "application/json;", ""]
)
def test_ways_to_say_json(api: Api, kind: str) -> None:
    body = b'{"flow":"add","inputs":{"a":1}}'
    receipt_of(api.http.post("/v1/runs", content=body, headers={"content-type": kind}), 202)


@pytest.mark.parametrize("size", [10_000, 1_000_000])
def test_huge_headers(api: Api, size: int) -> None:
    body = b'{"flow":"add","inputs":{"a":1}}'
    refusal_of(api.http.post("/v1/runs", content=body, headers={"idempotency-key": "k" * size}), 422, "invalid_request")
    receipt_of(api.http.post("/v1/runs", content=body, headers={"x-anything": "x" * size}), 202)
    checked(api.http.get("/v1/runs", headers={"x-anything": "x" * size}), 200)


def test_many_headers(api: Api) -> None:
    headers = {f"x-{number}": "1" for number in range(2_000)}
    receipt_of(api.http.post("/v1/runs", json={"flow": "add", "inputs": {"a": 1}}, headers=headers), 202)


@pytest.mark.parametrize("length", [b"-5", b"\xb2", b"5 5", b"0x10", b"9" * 5000, b"1e3"])
def test_lengths_that_are_none(server: Server, length: bytes) -> None:
    head = f"POST /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n".encode()
    assert server.raw(head + b"Content-Length: " + length + b"\r\n\r\n{}").startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/runs/batch", "/v1/flows/echo/validate"])
def test_an_announced_length_is_enough_to_be_refused(server: Server, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\n".encode()
    assert server.raw(head + b"Content-Length: 99999999999\r\n\r\n").startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET",
        b"\x16\x03\x01\x02\x00",
        b"GET /v1/\xff HTTP/1.1",
        b"BREW /v1/runs HTTP/1.1",
        b"GET /v1/runs HTTP/9.9",
        b"\x00" * 100,
    ],
)
def test_what_is_no_http(server: Server, request_line: bytes) -> None:
    assert server.raw(request_line + b"\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 400 ")


def test_a_body_that_never_comes(server: Server, api: Api) -> None:
    """The client goes away in the middle of its body: nothing is admitted."""
    before = [run["id"] for run in api.get("/v1/runs", limit=1)["items"]]
    head = f"POST /v1/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token}\r\nContent-Length: 500\r\n\r\n"
    with server.connect() as link:
        link.sendall(head.encode() + b'{"flow":"add","inputs":{"a":1}')
    assert [run["id"] for run in api.get("/v1/runs", limit=1)["items"]] == before
