"""Overlap over HTTP: keys, policies, groups, and limits that are changed under the runs."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from pullcord.client import AsyncClient, Client
from pullcord.core.errors import NotFoundError
from pullcord.gate.request import OWNER
from pullcord.gate.retrying import Wanted
from tests.api.server import Api, Hold, Server, checked, problem_of, receipt_of, refusal_of

CROWDED = Path(__file__).with_name("crowded")


async def gathered(work: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    return await asyncio.gather(*work)


@pytest.fixture(scope="module")
def crowded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own: its limits are changed."""
    with Server(tmp_path_factory.mktemp("crowded") / "data", CROWDED) as running:
        yield running


@pytest.fixture
def crowded(crowded_server: Server) -> Iterator[Api]:
    with crowded_server.client() as client:
        yield client


def test_each_key_has_its_own_limit_and_the_queue_says_so(crowded: Api, hold: Hold) -> None:
    first = crowded.submit("each-region", {"port": hold.port, "region": "DE"})["run_id"]
    held = hold.begun()
    second = crowded.submit("each-region", {"port": hold.port, "region": "DE"})
    assert (second["state"], second["position"]) == ("queued", 1)
    other = crowded.submit("each-region", {"port": hold.port, "region": "FR"})["run_id"]
    also = hold.begun()
    waits = crowded.get(f"/v1/runs/{second['run_id']}")["waiting_for"]
    words = f"waits for a slot of each-region/DE: run {first} has the one slot, it is next"
    assert waits == {"kind": "slot", "text": words}
    (listed,) = crowded.get("/v1/runs", flow="each-region", state="queued")["items"]
    assert listed["waiting_for"] == waits
    held.release()
    hold.begun().release()
    also.release()
    for run_id in (first, second["run_id"], other):
        assert crowded.ended(run_id)["state"] == "succeeded"


def test_what_failed_and_was_cancelled_by_the_next_one_is_asked_for_again(
    crowded_server: Server, crowded: Api, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_have_looked = asyncio.Barrier(2)
    ask = crowded_server.app.retry_failed._ask

    async def ask_at_once(*arguments: Any) -> Any:
        """Ask when the other one has seen the same: afterwards there is something else to ask for."""
        await both_have_looked.wait()
        return await ask(*arguments)

    monkeypatch.setattr(crowded_server.app.retry_failed, "_ask", ask_at_once)

    def asked() -> list[str]:
        """Ask twice at once for one of those that failed; return the ids of the new runs."""
        retry = crowded_server.app.retry_failed.retry
        both = [retry(Wanted(0, flow="newest-done", limit=1), False, OWNER, "http") for _ in range(2)]
        answers = crowded_server.do(gathered(both))
        receipts = [it["receipt"] for answer in answers for it in answer["receipts"]]
        assert sorted(it["outcome"] for it in receipts) == ["admitted", "replayed"]
        return [it["run_id"] for it in receipts]

    failed = [crowded.submit("newest-done", {"port": hold.port, "number": 0})["run_id"]]
    hold.begun().release("fail")
    crowded.ended(failed[0])
    failed.append(crowded.submit("newest-done", {"port": hold.port, "number": 1})["run_id"])
    hold.begun().release("fail")
    crowded.ended(failed[1])
    (first,) = set(asked())
    hold.begun()
    (second,) = set(asked())
    assert crowded.ended(first)["state"] == "cancelled", "the second took its place"
    hold.begun().release()
    assert crowded.ended(second)["state"] == "succeeded"
    wanted = {"since": "2020-01-01T00:00:00Z", "flow": "newest-done"}
    plan = crowded.post("/v1/runs/retry-failed", wanted, 200)
    assert (plan["runs"], plan["cancelled"]) == (failed[:1], {failed[0]: first})
    assert plan["groups"][0]["skipped"] == {"already_retried": 1}
    (third,) = set(asked())
    hold.begun().release()
    assert crowded.ended(third)["resumed_from"] == failed[0]
    assert crowded.post("/v1/runs/retry-failed", wanted, 200)["runs"] == []


def test_a_key_may_have_a_value_that_no_database_holds(crowded: Api, hold: Hold) -> None:
    inputs = [{"port": hold.port, "region": region} for region in ("a\0b", "a\0b", "a\0c", "a" * 201, "")]
    runs = [crowded.submit("each-region", given)["run_id"] for given in inputs]
    holds = [hold.begun() for _ in range(4)]
    second = crowded.get(f"/v1/runs/{runs[1]}")
    assert second["inputs"] == inputs[1]
    assert second["waiting_for"]["text"].startswith("waits for a slot of each-region/")
    for held in holds:
        held.release()
    hold.begun().release()
    assert {crowded.ended(run)["state"] for run in runs} == {"succeeded"}


def test_nobody_is_told_of_a_test_that_is_skipped(crowded: Api, hold: Hold) -> None:
    def told() -> int:
        return sum(item["count"] for item in crowded.get("/v1/notifications", flow="skipping")["items"])

    run = crowded.submit("skipping", {"port": hold.port})["run_id"]
    held = hold.begun()
    before = told()
    assert crowded.submit("skipping", {"port": 1}, 200, test=True)["outcome"] == "skipped"
    assert told() == before
    assert crowded.submit("skipping", {"port": 1}, 200)["outcome"] == "skipped"
    assert told() == before + 1
    held.release()
    assert crowded.ended(run)["state"] == "succeeded"


def test_what_is_too_much_is_skipped_or_refused_and_in_the_ledger(crowded: Api, hold: Hold) -> None:
    runs, holds = [], []
    for flow in ("skipping", "rejecting"):
        runs.append(crowded.submit(flow, {"port": hold.port})["run_id"])
        holds.append(hold.begun())
    response = crowded.http.post("/v1/runs", json={"flow": "skipping", "inputs": {"port": 1}})
    skipped = receipt_of(response, 200)
    assert (skipped["outcome"], skipped["code"], skipped["run_id"]) == ("skipped", "overlap_skipped", None)
    assert runs[0] in skipped["reason"]
    response = crowded.http.post("/v1/runs", json={"flow": "rejecting", "inputs": {"port": 1}})
    refused = refusal_of(response, 409, "overlap_rejected")
    for receipt in (skipped, refused):
        row = crowded.get(f"/v1/requests/{receipt['request_id']}")
        assert (row["outcome"], row["reason"]) == (receipt["outcome"], receipt["reason"])
    for each in holds:
        each.release()
    for run_id in runs:
        assert crowded.ended(run_id)["state"] == "succeeded"


def test_the_newest_takes_the_place_of_the_one_that_runs(crowded: Api, hold: Hold) -> None:
    old = crowded.submit("newest", {"port": hold.port})["run_id"]
    hold.begun()
    new = crowded.submit("newest", {"port": hold.port})["run_id"]
    item = crowded.ended(old)
    assert item["state"] == "cancelled"
    assert item["cancel"]["reason"] == f"run {new} takes its place"
    hold.begun().release("new")
    assert crowded.ended(new)["result"] == "new"


def test_a_limit_is_changed_while_runs_wait_for_it(crowded: Api, hold: Hold) -> None:
    receipts = [crowded.submit("together", {"port": hold.port}) for _ in range(3)]
    words = "queued at position 2: the limit of group:shared, which other flows share, is reached"
    assert (receipts[2]["reason"], receipts[2]["position"]) == (words, 2)
    runs = [receipt["run_id"] for receipt in receipts]
    holds = [hold.begun()]
    limit = crowded.get("/v1/limits/group:shared")
    assert (limit["limit"], limit["held"], limit["queued"], limit["flows"]) == (1, 1, 2, ["together"])
    change = {"limit": 2, "reason": "catching up"}
    changed = checked(crowded.http.patch("/v1/limits/group:shared", json=change), 200)
    assert (changed["limit"], changed["override"]["by"], changed["override"]["reason"]) == (2, "owner", "catching up")
    holds.append(hold.begun())
    back = checked(crowded.http.patch("/v1/limits/group:shared", json={"reset": True}), 200)
    assert (back["limit"], back["override"]) == (1, None)
    assert crowded.get("/v1/limits")["items"] == sorted(crowded.get("/v1/limits")["items"], key=lambda it: it["name"])
    holds[0].release()
    holds[1].release()
    hold.begun().release()
    for run_id in runs:
        assert crowded.ended(run_id)["state"] == "succeeded"


def test_a_run_does_not_wait_for_its_parent_when_the_limit_is_lowered(crowded: Api, hold: Hold) -> None:
    parent = crowded.submit("nested", {"port": hold.port})["run_id"]
    held = hold.begun()
    checked(crowded.http.patch("/v1/limits/nested", json={"limit": 1}), 200)
    held.release("try again")
    assert crowded.ended(parent)["state"] == "failed"
    (child,) = [run for run in crowded.get("/v1/runs", flow="nested")["items"] if run["parent_id"] == parent]
    run = crowded.get(f"/v1/runs/{child['id']}")
    assert (run["state"], run["attempt"], run["error"]["type"]) == ("failed", 2, "would_deadlock")
    assert "an ancestor of this run holds the slot" in run["error"]["message"]
    reasons = [row["code"] for row in crowded.get("/v1/requests", flow="nested", outcome="rejected")["items"]]
    assert reasons == ["would_deadlock"], "the parent's next attempt asks in vain"


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 0}, {"limit": True}, {"limit": "2"}, {"limit": 2**31}, {"limits": 2}, [], 3,
        {}, {"reason": "just a word"}, {"reset": False}, {"limit": 5, "reset": True}, {"limit": None, "reset": True},
    ],
)  # fmt: skip
def test_a_limit_that_is_none_is_refused(crowded: Api, body: Any) -> None:
    problem_of(crowded.http.patch("/v1/limits/skipping", json=body), 422, "invalid_request")
    assert crowded.get("/v1/limits/skipping")["override"] is None


def test_the_clients_speak_of_limits(crowded_server: Server) -> None:
    with Client(crowded_server.url, crowded_server.token) as client:
        assert client.limits.set("skipping", None, "all of them")["limit"] is None
        assert client.limits.get("skipping")["override"]["reason"] == "all of them"
        assert client.limits.reset("skipping")["limit"] == 1
        assert "skipping" in {item["name"] for item in client.limits.list()}
        with pytest.raises(NotFoundError):
            client.limits.set("nothing", 3)

    async def alike() -> None:
        async with AsyncClient(crowded_server.url, crowded_server.token) as client:
            assert (await client.limits.set("skipping", 4))["limit"] == 4
            assert (await client.limits.get("skipping"))["limit"] == 4
            assert (await client.limits.reset("skipping"))["limit"] == 1
            assert len(await client.limits.list()) >= 5

    crowded_server.do(alike())
