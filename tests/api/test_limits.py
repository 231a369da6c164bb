"""Over HTTP and from Python: flows are paused and resumed, too much is refused with 429, runs expire."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import pullcord
from pullcord.clock import microseconds
from pullcord.core.errors import NotFoundError, UsageError
from pullcord.gate.policy import LocalPolicy
from pullcord.gate.request import RefusedError
from tests.api.server import Api, Server, checked, locations, problem_of, refusal_of
from tests.system.processes import poll

FLOWS = Path(__file__).with_name("limited")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of its own, whose limits nobody else uses up."""
    with Server(tmp_path / "data", FLOWS) as running:
        yield running


def pause(api: Api, flow: str, **fields: Any) -> Any:
    return api.post(f"/v1/flows/{flow}/pause", {"reason": "month's end"} | fields, status=200)


def test_a_flow_is_paused_and_resumed(api: Api) -> None:
    first = api.submit("plain", idempotency_key="k")
    api.ended(first["run_id"])
    paused = pause(api, "plain")["paused"]
    assert paused == {"by": "owner", "at": paused["at"], "reason": "month's end", "until": None}
    assert api.get("/v1/flows/plain")["paused"] == paused
    assert [flow["paused"] for flow in api.get("/v1/flows")["items"] if flow["paused"]] == [paused]
    problem = refusal_of(api.http.post("/v1/runs", json={"flow": "plain"}), 409, "flow_paused")
    assert problem["detail"] == "plain is paused by owner: month's end"
    assert api.get(f"/v1/requests/{problem['request_id']}")["code"] == "flow_paused"
    replayed = api.submit("plain", idempotency_key="k", status=200)
    assert (replayed["replayed"], replayed["run_id"]) == (True, first["run_id"])
    (receipt,) = api.post("/v1/runs/batch", {"requests": [{"flow": "plain"}]}, status=200)["receipts"]
    assert receipt["code"] == "flow_paused"
    assert api.post("/v1/flows/plain/resume", status=200)["paused"] is None
    assert api.post("/v1/flows/plain/resume", status=200)["paused"] is None
    assert api.run("plain")["state"] == "succeeded"


def test_a_pause_has_an_end(server: Server, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    paused = pause(api, "plain", until=until)["paused"]
    assert datetime.fromisoformat(paused["until"]) == datetime.fromisoformat(until)
    now = datetime.now(UTC)
    with monkeypatch.context() as patched:
        # The clock stands still until the pause is there: on a slow machine it would have ended before it began.
        patched.setattr(server.app.clock, "now", lambda: microseconds(now))
        assert pause(api, "plain", until=(now + timedelta(seconds=0.3)).isoformat())["paused"] is not None
    poll(lambda: api.get("/v1/flows/plain")["paused"] is None)
    assert api.run("plain")["state"] == "succeeded"


def test_a_run_that_a_flow_calls_waits_for_the_end_of_the_pause(api: Api) -> None:
    pause(api, "plain")
    parent = api.submit("caller")["run_id"]
    poll(lambda: api.get("/v1/runs", flow="plain", state="queued")["items"] != [])
    (child,) = api.get("/v1/runs", flow="plain")["items"]
    assert child["waiting_for"] == {
        "kind": "pause", "text": "waits to be resumed: plain is paused by owner: month's end",
    }  # fmt: skip
    api.post("/v1/flows/plain/resume", status=200)
    assert api.ended(parent)["result"] == "done"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, ["reason"]),
        ({"reason": ""}, ["reason"]),
        ({"reason": 7}, ["reason"]),
        ({"reason": "x" * 1001}, ["reason"]),
        ({"reason": "x", "until": "tomorrow"}, ["until"]),
        ({"reason": "x", "why": "y"}, ["why"]),
    ],
)
def test_what_no_pause_can_be(api: Api, body: Any, where: list[str]) -> None:
    problem = problem_of(api.http.post("/v1/flows/plain/pause", json=body), 422, "invalid_request")
    assert locations(problem) == [where]


def test_a_pause_needs_a_reason_an_end_to_come_a_flow_and_a_permission(
    server: Server, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def post(flow: str, body: Any) -> Any:
        return api.http.post(f"/v1/flows/{flow}/pause", json=body)

    problem_of(post("plain", {"reason": " \n "}), 422, "invalid_request")
    problem_of(post("plain", {"reason": "x", "until": "2020-01-01T00:00:00Z"}), 422, "invalid_request")
    problem_of(post("nix", {"reason": "x"}), 404, "unknown_flow")
    problem_of(api.http.post("/v1/flows/nix/resume"), 404, "unknown_flow")
    with server.client("wrong") as stranger:
        problem_of(stranger.http.post("/v1/flows/plain/pause", json={"reason": "x"}), 401, "unauthenticated")
    monkeypatch.setattr(LocalPolicy, "may", lambda self, invoker, action, flow: action != "pause")
    problem_of(post("plain", {"reason": "x"}), 403, "forbidden")
    problem_of(api.http.post("/v1/flows/plain/resume"), 403, "forbidden")
    assert api.get("/v1/flows/plain")["paused"] is None


def test_a_flow_that_fails_is_suspended(api: Api) -> None:
    assert api.run("shaky")["state"] == "failed"
    poll(lambda: api.get("/v1/flows/shaky")["paused"] is not None)
    paused = api.get("/v1/flows/shaky")["paused"]
    assert (paused["by"], paused["until"]) == ("system", None)
    assert "ValueError: no luck" in paused["reason"]
    refusal_of(api.http.post("/v1/runs", json={"flow": "shaky"}), 409, "flow_paused")


def test_429_rate_limited_says_when_to_come_back(api: Api) -> None:
    api.submit("rare")
    response = api.http.post("/v1/runs", json={"flow": "rare"})
    problem = refusal_of(response, 429, "rate_limited")
    assert 3000 <= int(response.headers["retry-after"]) <= 3600
    assert problem["detail"] == "the rate of rare is used up: 1 in 1 h for everybody together"
    (receipt,) = api.post("/v1/runs/batch", {"requests": [{"flow": "rare"}]}, status=200)["receipts"]
    assert receipt["code"] == "rate_limited"
    (run,) = api.get("/v1/runs", flow="rare")["items"]
    again = api.http.post(f"/v1/runs/{run['id']}/rerun")
    assert refusal_of(again, 429, "rate_limited")
    assert "retry-after" in again.headers


def test_a_rate_may_delay_instead(api: Api) -> None:
    assert api.submit("late")["state"] in ("queued", "running")
    receipt = api.submit("late")
    assert receipt["state"] == "scheduled"
    assert receipt["reason"].startswith("delayed by the rate of late until ")
    run = api.get(f"/v1/runs/{receipt['run_id']}")
    assert datetime.fromisoformat(run["not_before"]) > datetime.now(UTC) + timedelta(minutes=59)
    assert api.get(f"/v1/requests/{receipt['request_id']}")["reason"] == receipt["reason"]


def test_429_queue_full(api: Api) -> None:
    api.submit("narrow")
    waiting = api.submit("narrow")
    response = api.http.post("/v1/runs", json={"flow": "narrow"})
    assert refusal_of(response, 429, "queue_full")["detail"] == "as many runs of narrow wait as may (max_queued=1)"
    run = api.get(f"/v1/runs/{waiting['run_id']}")
    wait = datetime.fromisoformat(run["expires_at"]) - datetime.fromisoformat(run["queued_at"])
    assert wait == timedelta(hours=1)


def test_a_run_expires(api: Api) -> None:
    api.submit("narrow")
    receipt = api.submit("narrow", expires_in="200ms", request_id=str(uuid4()))
    run = api.ended(receipt["run_id"])
    assert (run["state"], run["started_at"]) == ("cancelled", None)
    assert run["cancel"]["by"] == "system" and run["error"]["type"] == "expired"
    assert run["cancel"]["reason"] == f"it expired: it had not started by {run['expires_at']}"
    (row,) = api.get("/v1/requests", outcome="expired")["items"]
    assert (row["request_id"], row["reason"]) == (receipt["request_id"], f"it had not started by {run['expires_at']}")
    replayed = api.submit("narrow", request_id=receipt["request_id"], status=200)
    assert (replayed["replayed"], replayed["state"]) == (True, "cancelled")


@pytest.mark.parametrize("length", ["10m", 600, 600.0, "600"])
def test_a_length_of_time_is_written_in_many_ways(api: Api, length: Any) -> None:
    run = api.get(f"/v1/runs/{api.submit('plain', expires_in=length)['run_id']}")
    wait = datetime.fromisoformat(run["expires_at"]) - datetime.fromisoformat(run["queued_at"])
    assert wait == timedelta(minutes=10)


def test_a_wait_that_no_calendar_has_ends_with_the_calendar(api: Api) -> None:
    run = api.submit("narrow", not_before="9999-12-31T23:59:59Z")
    assert api.get(f"/v1/runs/{run['run_id']}")["expires_at"].startswith("9999-12-31T23:59:59")


@pytest.mark.parametrize("length", [0, -1, "-3", "soon", "", "1" * 41, True, [], {}])
def test_what_no_length_of_time_is(api: Api, length: Any) -> None:
    body = {"flow": "plain", "expires_in": length}
    problem = problem_of(api.http.post("/v1/runs", json=body), 422, "invalid_request")
    assert {location[0] for location in locations(problem)} == {"expires_in"}


LATER = {"flow": "plain", "not_before": "2990-01-01T00:00:00Z"}


def test_what_would_expire_before_it_may_start_is_refused(api: Api, server: Server) -> None:
    body = LATER | {"expires_in": 60, "idempotency_key": str(uuid4())}
    problem = refusal_of(api.http.post("/v1/runs", json=body), 422, "invalid_request")
    assert "would expire before it may start, at 2990-01-01" in problem["detail"]
    row = api.get(f"/v1/requests/{problem['request_id']}")
    assert (row["flow"], row["outcome"], row["code"]) == ("plain", "rejected", "invalid_request")
    (each,) = api.post("/v1/runs/batch", {"requests": [body]}, 200)["receipts"]
    assert each["code"] == "invalid_request"
    with pullcord.Client(server.url, server.token) as client, pytest.raises(RefusedError) as refused:
        client.run("plain", not_before=LATER["not_before"], expires_in="1m")
    assert refused.value.code == "invalid_request"
    receipt = api.submit(**body | {"not_before": "2020-01-01T00:00:00Z"})
    assert receipt["replayed"] is False, "a refused request leaves its key"


def test_a_request_that_came_before_is_known_also_when_its_time_is_over(api: Api) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=5)
    body = LATER | {"not_before": soon.isoformat(), "request_id": str(uuid4())}
    first = api.submit(**body | {"expires_in": "10m"})
    assert api.submit(**body | {"expires_in": "1s"}, status=200)["run_id"] == first["run_id"]


def test_what_would_happen_is_said_without_using_anything_up(api: Api) -> None:
    assert api.submit("rare", dry_run=True)["reason"].startswith("dry run: it would be admitted")
    api.submit("rare")
    refusal_of(api.http.post("/v1/runs", json={"flow": "rare", "dry_run": True}), 429, "rate_limited")


def test_what_would_be_admitted_for_later_says_for_when(api: Api) -> None:
    later = api.submit("plain", dry_run=True, not_before="2099-01-01T00:00:00Z")
    words = "dry run: it would be admitted (scheduled for 2099-01-01T00:00:00.000000Z)"
    assert (later["state"], later["reason"]) == ("scheduled", words)
    api.submit("late")
    delayed = api.submit("late", dry_run=True)
    assert delayed["state"] == "scheduled"
    assert delayed["reason"].startswith("dry run: it would be admitted (delayed by the rate of late until ")


def test_a_flows_settings_are_shown(api: Api) -> None:
    settings = api.get("/v1/flows/late")["settings"]
    assert settings["rate"] == {"limit": 1, "per": 3600.0, "by": "invoker", "on_limit": "delay"}
    settings = api.get("/v1/flows/narrow")["settings"]
    assert (settings["max_queued"], settings["queue_ttl"], settings["suspend_after"]) == (1, 3600.0, None)


def test_from_python(server: Server) -> None:
    with pullcord.Client(server.url, server.token) as client:
        client.run("narrow")
        run = client.runs.wait(client.run("narrow", expires_in="100ms").run_id or "")
        assert run["state"] == "cancelled"
        until = datetime.now(UTC) + timedelta(hours=1)
        paused = client.flows.pause("plain", "a test", until)["paused"]
        assert datetime.fromisoformat(paused["until"]) == until
        with pytest.raises(RefusedError, match=r"plain is paused by owner until .*: a test") as refused:
            client.run("plain")
        assert refused.value.code == "flow_paused"
        assert client.flows.resume("plain")["paused"] is None
        client.run("rare")
        receipt = client.run("rare", raise_on_refusal=False)
        assert receipt.retry_after is not None and receipt.retry_after > 3000
        with pytest.raises(NotFoundError):
            client.flows.pause("nix", "a test")


async def test_from_python_on_a_loop(server: Server) -> None:
    async with pullcord.AsyncClient(server.url, server.token) as client:
        assert (await client.flows.pause("plain", "a test"))["paused"]["reason"] == "a test"
        assert (await client.flows.resume("plain"))["paused"] is None
        receipt = await client.run("plain", expires_in=60)
        assert (await client.runs.wait(receipt.run_id or ""))["expires_at"] is not None


async def test_embedded_with_a_rate_for_each_invoker(tmp_path: Path) -> None:
    async with pullcord.App([FLOWS], tmp_path / "data", workers=1, invoker_rate="2/1h") as app:
        await app.ready()
        assert await app.flows.resume("plain") is False
        paused = await app.flows.pause("plain", "a test", datetime.now(UTC) + timedelta(hours=1))
        assert paused is not None and paused == app.flows.paused("plain")
        with pytest.raises(RefusedError, match="paused"):
            await app.run("plain")
        assert await app.flows.resume("plain") is True
        await app.run("plain", wait=True)
        await app.run("caller", wait=True)
        with pytest.raises(RefusedError, match="the rate of any flow is used up: 2 in 1 h for owner") as refused:
            await app.run("plain", expires_in="1m")
        assert refused.value.code == "rate_limited"
        with pytest.raises(UsageError, match="longer than nothing"):
            await app.run("plain", expires_in=0)
        with pytest.raises(UsageError, match="no zone"):
            await app.flows.pause("plain", "a test", datetime(2100, 1, 1))


def test_a_body_is_read_before_anything_is_paused(api: Api) -> None:
    response = api.http.post("/v1/flows/plain/pause", content=b"{", headers={"content-type": "application/json"})
    problem_of(response, 400, "invalid_json")
    assert checked(api.http.get("/v1/flows/plain"), 200)["paused"] is None
