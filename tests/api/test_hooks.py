"""`POST /v1/hooks/{name}`: who sent it, whether it came before, and what became of it."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from pullcord.triggers import registry
from tests.api.server import PROBLEM, Api, Server
from tests.system.processes import poll

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
    refused = deliver(sender, "plain", {"n": 1}, at=int(time.time()) + seconds + (60 if seconds > 0 else 0), status=401)
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
    def newest() -> list[dict[str, Any]]:
        # The run of the last delivery may still go on.
        return [row | {"state": None} for row in api.get("/v1/requests", limit=1)["items"]]

    before = newest()
    for name in ("nobody", "plain/more", "%00", "%ff", "x" * 5000, ""):
        assert checked(sender.http.post(f"/v1/hooks/{name}", content=b"{}"), 404)["code"] == "not_found"
    assert newest() == before


def test_a_webhook_takes_posts_only(sender: Api) -> None:
    response = sender.http.get("/v1/hooks/plain")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


# --- again, at once, and for several flows -----------------------------------------------------------


def test_the_same_delivery_many_times_at_once_is_one_run(sender: Api) -> None:
    body, identity = b'{"n": 1}', new_id()

    def again(_: int) -> httpx2.Response:
        return sender.http.post("/v1/hooks/plain", content=body, headers=standard(body, identity))

    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(again, range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [202]
    assert len({answer.json()["run_id"] for answer in answers}) == 1


def test_what_was_taken_is_answered_again_while_the_webhook_is_disabled(sender: Api, api: Api) -> None:
    identity = new_id()
    first = deliver(sender, "paused", {"n": 1}, identity)
    checked(api.http.patch("/v1/triggers/paused", json={"enabled": False, "reason": "a test"}), 200)
    assert deliver(sender, "paused", {"n": 1}, identity, status=200)["run_id"] == first["run_id"]
    assert "a test" in deliver(sender, "paused", {"n": 1}, status=503)["detail"]


def test_while_a_secret_is_changed_one_of_them_may_be_missing(sender: Api) -> None:
    assert deliver(sender, "half", {"n": 1})["outcome"] == "admitted"
    refused = deliver(sender, "half", {"n": 1}, key=NEXT, status=503)
    assert refused["code"] == "secret_missing"
    assert "NOBODY_SETS" not in refused["detail"], "where it should be is not for whoever calls"


def test_each_flow_of_a_webhook_is_asked_until_it_takes_the_delivery(sender: Api, api: Api) -> None:
    both = deliver(sender, "both", {"n": 1})
    (other,) = both["others"]
    assert (both["flow"], other["flow"]) == ("first-of-both", "second-of-both")
    assert [api.get(f"/v1/runs/{one['run_id']}")["inputs"] for one in (both, other)] == [{"n": 1}] * 2

    identity = new_id()
    refused = deliver(sender, "both", {"n": "x"}, identity, status=422)
    assert (refused["code"], refused["flow"]) == ("invalid_inputs", "first-of-both")
    taken = refused["others"][0]
    assert (taken["outcome"], taken["flow"]) == ("admitted", "second-of-both")
    again = deliver(sender, "both", {"n": "x"}, identity, status=422)
    assert again["others"][0]["outcome"] == "replayed"
    assert again["others"][0]["run_id"] == taken["run_id"]


# --- the trigger's history ---------------------------------------------------------------------------


def settle(server: Server) -> None:
    """Wait until histories are written; nobody else does."""
    server.do(server.app.kinds.webhooks.stop())


def test_refusals_among_runs_do_not_change_when_a_webhook_last_fired(sender: Api, api: Api, server: Server) -> None:
    def some(number: int) -> None:
        if number % 2:
            deliver(sender, "remembered", {"n": number})
        else:
            checked(sender.http.post("/v1/hooks/remembered", content=b"{}"), 401)

    with ThreadPoolExecutor(8) as senders:
        list(senders.map(some, range(32)))
    settle(server)
    lines = api.get("/v1/triggers/remembered/history", limit=100)["items"]
    fired = [line for line in lines if line["outcome"] == "fired"]
    refused = [line for line in lines if line["outcome"] == "refused"]
    assert len(fired) == 16
    assert sum(line["count"] for line in refused) == 16
    assert {line["reason"] for line in refused} == {"invalid_signature"}
    assert api.get("/v1/triggers/remembered")["last_fired_at"] == max(line["at"] for line in fired)


def test_equal_refusals_at_once_are_one_line(sender: Api, api: Api, server: Server) -> None:
    settle(server)
    before = api.get("/v1/triggers/silent/history", limit=100)["items"]
    with ThreadPoolExecutor(8) as senders:
        list(senders.map(lambda _: sender.http.post("/v1/hooks/silent", content=b"{}"), range(40)))
    settle(server)
    lines = api.get("/v1/triggers/silent/history", limit=100)["items"]
    assert len(lines) <= len(before) + 1
    assert sum(line["count"] for line in lines) == sum(line["count"] for line in before) + 40


def test_skipped_deliveries_do_not_fill_the_store(
    sender: Api, api: Api, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "KEPT", 10)
    for number in range(100):
        deliver(sender, "skipping", {"n": number}, status=200)
    settle(server)
    # A request that is written after the trimming was asked for has the trimming behind it.
    skipped = deliver(sender, "skipping", {"n": 100}, status=200)
    assert len(api.get("/v1/triggers/skipping/history", limit=1000)["items"]) <= 11
    row = api.get(f"/v1/requests/{skipped['request_id']}")
    assert (row["outcome"], row["reason"]) == ("skipped", "nothing to do for 100\N{REPLACEMENT CHARACTER}")


def test_a_body_that_is_cut_off_is_no_wrong_signature(api: Api, server: Server) -> None:
    headers = "".join(f"{name}: {value}\r\n" for name, value in standard(b'{"n": 1}', new_id()).items())
    with server.connect() as link:
        link.sendall(f"POST /v1/hooks/rotating HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n{headers}\r\n{{".encode())
    causes = poll(lambda: [row for row in rows(api, "rejected", "rotating-hook") if "ended" in row["reason"]])
    assert causes[0]["code"] == "invalid_json"
