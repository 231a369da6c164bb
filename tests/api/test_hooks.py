"""`POST /v1/hooks/{name}`: who sent it, whether it came before, and what became of it."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.api.server import PROBLEM, Api, Server

FLOWS = Path(__file__).with_name("hooked")
KEY, NEXT = b"0123456789abcdef0123456789abcdef", b"another key of thirty-two bytes!"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, which has the secrets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PULLCORD_TEST_HOOK", whsec(KEY))
        patch.setenv("PULLCORD_TEST_HOOK_NEXT", whsec(NEXT))
        with Server(tmp_path_factory.mktemp("hooks") / "data", FLOWS) as running:
            yield running


@pytest.fixture
def sender(server: Server) -> Iterator[Api]:
    """Somebody without a token."""
    with server.client("") as client:
        yield client


def whsec(key: bytes) -> str:
    return "whsec_" + base64.b64encode(key).decode()


def new_id() -> str:
    return f"msg_{uuid4().hex}"


def standard(body: bytes, identity: str, key: bytes = KEY, at: int | None = None) -> dict[str, str]:
    stamp = str(int(time.time()) if at is None else at)
    signature = base64.b64encode(hmac.digest(key, f"{identity}.{stamp}.".encode() + body, sha256)).decode()
    return {"webhook-id": identity, "webhook-timestamp": stamp, "webhook-signature": f"v1,{signature}"}


def deliver(
    sender: Api, name: str, content: Any, identity: str | None = None, status: int = 202, **signed: Any
) -> dict[str, Any]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = standard(body, identity or new_id(), **signed)
    return checked(sender.http.post(f"/v1/hooks/{name}", content=body, headers=headers), status)


def checked(response: httpx2.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    if status >= 300:
        assert response.headers["content-type"] == "application/problem+json"
        assert answer.keys() >= PROBLEM
        assert answer["status"] == status
    return answer


def rows(api: Api, outcome: str, flow: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = api.get("/v1/requests", outcome=outcome, flow=flow)["items"]
    return items


# --- taken -------------------------------------------------------------------------------------------


def test_a_signed_delivery_becomes_a_run(sender: Api, api: Api) -> None:
    receipt = deliver(sender, "plain", {"n": 3})
    assert (receipt["outcome"], receipt["flow"], receipt["code"]) == ("admitted", "plain-hook", None)
    run = api.get(f"/v1/runs/{receipt['run_id']}")
    assert run["inputs"] == {"n": 3}
    assert run["trigger"] == {"kind": "webhook", "name": "plain"}
    assert run["invoker"] == {"id": "trigger:plain", "kind": "trigger", "on_behalf_of": None}
    assert api.get(f"/v1/requests/{receipt['request_id']}")["source"] == "http"


def test_a_delivery_that_comes_again_gets_the_first_receipt(sender: Api, api: Api) -> None:
    identity = new_id()
    first = deliver(sender, "plain", {"n": 4}, identity)
    headers = standard(b'{"n": 4}', identity)
    again = sender.http.post("/v1/hooks/plain", content=b'{"n": 4}', headers=headers)
    assert again.status_code == 200
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["run_id"] == first["run_id"]
    assert again.json()["replayed"] is True


def test_the_same_id_with_another_body_is_a_conflict(sender: Api) -> None:
    identity = new_id()
    first = deliver(sender, "plain", {"n": 5}, identity)
    # It validates to the same inputs, and is another body all the same.
    refused = deliver(sender, "plain", b'{"n":5}', identity, status=409)
    assert refused["code"] == "duplicate_delivery"
    assert refused["run_id"] == first["run_id"]


def test_equal_bodies_are_different_deliveries(sender: Api) -> None:
    first, second = deliver(sender, "plain", {"n": 6}), deliver(sender, "plain", {"n": 6})
    assert first["run_id"] != second["run_id"]


def test_an_id_is_used_up_only_when_it_is_admitted(sender: Api) -> None:
    identity = new_id()
    assert deliver(sender, "plain", {"n": "many"}, identity, status=422)["code"] == "invalid_inputs"
    assert deliver(sender, "plain", {"n": 7}, identity)["outcome"] == "admitted"


def test_during_a_rotation_either_secret_will_do(sender: Api) -> None:
    for key in (KEY, NEXT):
        assert deliver(sender, "rotating", {"n": 1}, key=key)["outcome"] == "admitted"
    assert deliver(sender, "rotating", {}, key=b"a third one", status=401)["code"] == "invalid_signature"
    assert deliver(sender, "plain", {"n": 1}, key=NEXT, status=401)["code"] == "invalid_signature"


def test_github_signs_the_body_and_a_function_makes_the_inputs(sender: Api, api: Api) -> None:
    def push(content: dict[str, Any], event: str, status: int) -> dict[str, Any]:
        body = json.dumps(content).encode()
        signature = hmac.new(whsec(KEY).encode(), body, sha256).hexdigest()
        headers = {
            "x-hub-signature-256": f"sha256={signature}",
            "x-github-delivery": str(uuid4()),
            "x-github-event": event,
        }
        return checked(sender.http.post("/v1/hooks/pushes", content=body, headers=headers), status)

    receipt = push({"ref": "refs/heads/main"}, "push", 202)
    assert api.get(f"/v1/runs/{receipt['run_id']}")["inputs"] == {"branch": "main"}
    skipped = push({"zen": "…"}, "ping", 200)
    assert (skipped["outcome"], skipped["reason"]) == ("skipped", "a ping of GitHub's")
    assert rows(api, "skipped", "on-push")[0]["reason"] == "a ping of GitHub's"
    assert push({"no": "ref"}, "push", 500)["code"] == "mapping_failed"


def test_stripe_signs_with_a_time_and_its_event_has_the_id(sender: Api, api: Api) -> None:
    body = json.dumps({"id": f"evt_{uuid4().hex}", "data": {"amount": 12}}).encode()

    def pay(status: int, at: int, body: bytes = body) -> dict[str, Any]:
        signature = hmac.new(whsec(KEY).encode(), f"{at}.".encode() + body, sha256).hexdigest()
        headers = {"stripe-signature": f"t={at},v1={'0' * 64},v1={signature}"}
        return checked(sender.http.post("/v1/hooks/payments", content=body, headers=headers), status)

    now = int(time.time())
    receipt = pay(202, now)
    assert api.get(f"/v1/runs/{receipt['run_id']}")["inputs"] == {"amount": 12}
    assert pay(200, now - 5)["run_id"] == receipt["run_id"]
    assert pay(401, now - 400)["code"] == "timestamp_out_of_window"


def test_fixed_parameters_are_added(sender: Api, api: Api) -> None:
    receipt = deliver(sender, "small", {"n": 1})
    assert api.get(f"/v1/runs/{receipt['run_id']}")["inputs"] == {"fixed": 7, "n": 1}


# --- refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-400, 400, -301, 301])
def test_an_old_or_early_signature_is_refused(sender: Api, seconds: int) -> None:
    refused = deliver(sender, "plain", {"n": 1}, at=int(time.time()) + seconds + (5 if seconds > 0 else 0), status=401)
    assert refused["code"] == "timestamp_out_of_window"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"webhook-id": "a", "webhook-timestamp": "1", "webhook-signature": "v1,"},
        {"webhook-id": "a", "webhook-timestamp": "1e400", "webhook-signature": "v1,AAAA"},
        {"webhook-id": "a", "webhook-timestamp": "-5", "webhook-signature": "v1,AAAA v2,BBBB"},
        {"webhook-id": "x" * 300, "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"},
        {"webhook-id": "é\x85", "webhook-timestamp": "²", "webhook-signature": "v1,é"},
        {"authorization": "Bearer nonsense"},
    ],
)
def test_a_delivery_without_a_good_signature_is_refused(sender: Api, headers: dict[str, str]) -> None:
    encoded = {key: value.encode("latin-1") for key, value in headers.items()}
    refused = checked(sender.http.post("/v1/hooks/plain", content=b"{}", headers=encoded), 401)
    assert refused["code"] == "invalid_signature"
    assert "whsec" not in refused["detail"]


def test_a_header_that_comes_twice_fits_no_signature(sender: Api) -> None:
    headers = standard(b'{"n": 1}', "twice")
    doubled = [*headers.items(), ("webhook-id", "twice")]
    assert checked(sender.http.post("/v1/hooks/plain", content=b'{"n": 1}', headers=doubled), 401)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b'{"n": NaN}', 400, "invalid_json"),
        (b"[1]", 422, "invalid_inputs"),
        (b'"\\u0000"', 422, "invalid_inputs"),
        (b'{"n": 1, "\\u0000": 2}', 422, "invalid_inputs"),
        (b"[" * 100_000, 400, "invalid_json"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(sender: Api, body: bytes, status: int, code: str) -> None:
    assert deliver(sender, "plain", body, status=status)["code"] == code


@pytest.mark.parametrize("size", [101, 10_000_000])
def test_a_body_that_is_too_long_is_refused_before_it_is_read_to_its_end(sender: Api, size: int) -> None:
    assert deliver(sender, "small", b" " * size, status=413)["code"] == "too_large"


def test_equal_refusals_share_a_row_and_a_line(sender: Api, api: Api, server: Server) -> None:
    for _ in range(5):
        checked(sender.http.post("/v1/hooks/unset", content=b"{}"), 503)
    found = rows(api, "rejected", "unset-hook")
    assert [(row["code"], row["count"]) for row in found] == [("secret_missing", 5)]
    assert "PULLCORD_TEST_HOOK_THAT_NOBODY_SETS" in found[0]["reason"]
    assert found[0]["trigger"] == {"kind": "webhook", "name": "unset"}


def test_a_disabled_webhook_says_so_to_those_who_may_know(sender: Api, api: Api) -> None:
    assert checked(sender.http.post("/v1/hooks/silent", content=b"{}"), 401)["code"] == "invalid_signature"
    refused = deliver(sender, "silent", {}, status=503)
    assert refused["code"] == "trigger_disabled"
    assert "not enabled in the code" in refused["detail"]


def test_an_unknown_webhook_leaves_no_row(sender: Api, api: Api) -> None:
    before = api.get("/v1/requests", limit=1)["items"]
    for name in ("nobody", "plain/more", "%00", "%ff", "x" * 5000, ""):
        assert checked(sender.http.post(f"/v1/hooks/{name}", content=b"{}"), 404)["code"] == "not_found"
    assert api.get("/v1/requests", limit=1)["items"] == before


def test_a_webhook_takes_posts_only(sender: Api) -> None:
    response = sender.http.get("/v1/hooks/plain")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
