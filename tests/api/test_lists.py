"""The lists of runs and requests: vocabulary, order, filters, pages and hostile cursors."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest

from tests.api.server import Api, Json, locations, problem_of

RUN = {
    "id", "flow", "flow_version", "state", "inputs", "trigger", "invoker", "source", "reason", "request_id",
    "parent_id", "rerun_of", "scheduled_for", "queued_at", "started_at", "ended_at", "attempt", "takeovers",
    "resumed_from", "test", "cancel", "steps", "result", "error", "waiting_for", "partial",
}  # fmt: skip
"""The fields of a run that the contract names."""

RUN_MORE = {"priority", "not_before", "expires_at", "changes", "attempts", "progress"}
"""What we show besides."""

REQUEST = {
    "request_id", "flow", "inputs", "outcome", "reason", "run_id", "trigger", "invoker", "source", "idempotency_key",
    "at",
}  # fmt: skip
REQUEST_MORE = {
    "origin",
    "scheduled_for",
    "code",
    "errors",
    "state",
    "note",
    "dry_run",
    "last_at",
    "count",
    "run_pruned",
}

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def paged(api: Api, count: int) -> list[str]:
    """Run a flow that only these tests run, so many times, and return the ids of all its runs ever, newest first."""
    body = {"requests": [{"flow": "paged", "inputs": {"number": number}} for number in range(count)]}
    assert {receipt["code"] for receipt in api.post("/v1/runs/batch", body, 200)["receipts"]} <= {None}
    return [run["id"] for run in api.pages("/v1/runs", flow="paged")]


# --- vocabulary ----------------------------------------------------------------------------------------


def test_the_item_of_a_run(api: Api) -> None:
    run = api.run("steps", {"first": 3}, reason="to see it")
    assert set(run) == RUN | RUN_MORE
    assert run == api.get(f"/v1/runs/{run['id']}")
    unchanging = {
        name: value
        for name, value in run.items()
        if (name == "expires_at" or not name.endswith("_at")) and name not in ("id", "request_id")
    }
    assert unchanging | {"flow_version": "", "steps": [], "attempts": []} == {
        "flow": "steps", "flow_version": "", "state": "succeeded", "inputs": {"first": 3},
        "trigger": {"kind": "manual", "name": None}, "invoker": {"id": "owner", "kind": "local", "on_behalf_of": None},
        "source": "http", "reason": "to see it", "parent_id": None, "rerun_of": None, "scheduled_for": None,
        "attempt": 1, "takeovers": 0, "resumed_from": None, "test": False, "cancel": None, "steps": [], "result": 12,
        "error": None, "waiting_for": None, "partial": None, "priority": 0, "not_before": None,
        "expires_at": None, "changes": None, "attempts": [], "progress": {"done": 1.0, "total": 2.0, "text": "half"},
    }  # fmt: skip
    assert run["flow_version"]
    times = [run["queued_at"], run["started_at"], run["ended_at"]]
    assert all(TIME.fullmatch(time) for time in times)
    assert times == sorted(times)
    assert [step | {"started_at": "", "ended_at": ""} for step in run["steps"]] == [
        {"seq": number, "name": "double", "attempt": 1, "state": "succeeded", "started_at": "", "ended_at": "",
         "result": result, "error": None, "kept": False, "set_aside": None}
        for number, result in ((1, 6), (2, 12))
    ]  # fmt: skip
    assert all(TIME.fullmatch(step["started_at"]) and TIME.fullmatch(step["ended_at"]) for step in run["steps"])


def test_the_list_has_the_same_words_without_the_bulk(api: Api) -> None:
    run = api.run("fail", {"text": "with a traceback"})
    listed = api.get("/v1/runs", flow="fail", limit=1)
    assert set(listed) == {"items", "next"}
    item = listed["items"][0]
    assert set(item) == (RUN | RUN_MORE) - {"steps", "result", "attempts"}
    assert set(run["error"]) == {"type", "message", "traceback"}
    assert item["error"] == {name: run["error"][name] for name in ("type", "message")}
    without = {"steps": 0, "result": 0, "attempts": 0, "error": None}
    assert run | without == item | without


def test_a_child_names_its_parent(api: Api) -> None:
    run = api.run("parent", {"a": 4})
    assert run["result"] == 6
    child = next(item for item in api.get("/v1/runs", trigger="flow")["items"] if item["parent_id"] == run["id"])
    assert (child["flow"], child["source"], child["trigger"]) == (
        "add-async",
        "flow",
        {"kind": "flow", "name": "parent"},
    )
    row = api.get(f"/v1/requests/{child['request_id']}")
    assert (row["run_id"], row["trigger"], row["source"]) == (child["id"], child["trigger"], "flow")


def test_a_retry_is_another_attempt_of_the_same_run(api: Api) -> None:
    run = api.run("flaky")
    assert (run["state"], run["attempt"], run["takeovers"], run["result"], run["error"]) == ("succeeded", 2, 0, 2, None)


def test_the_item_of_a_request(api: Api, key: str) -> None:
    receipt = api.submit("paged", {"number": -1}, idempotency_key=key, reason="to see it")
    row = api.get(f"/v1/requests/{receipt['request_id']}")
    assert set(row) == REQUEST | REQUEST_MORE
    assert row == api.get("/v1/requests", flow="paged", limit=1)["items"][0] | {"state": row["state"]}
    assert TIME.fullmatch(row["at"])
    assert row | {"at": "", "last_at": "", "state": ""} == {
        "request_id": receipt["request_id"], "flow": "paged", "inputs": {"number": -1}, "outcome": "admitted",
        "reason": row["reason"], "run_id": receipt["run_id"], "trigger": {"kind": "manual", "name": None},
        "invoker": {"id": "owner", "kind": "local", "on_behalf_of": None}, "source": "http", "idempotency_key": key,
        "at": "", "code": None, "errors": None, "state": "", "note": "to see it", "dry_run": False,
        "last_at": "", "count": 1, "scheduled_for": None, "run_pruned": False, "origin": None,
    }  # fmt: skip
    assert row["reason"]


# --- order and pages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 7, 1000])
def test_pages_have_neither_gaps_nor_repeats(api: Api, limit: int) -> None:
    ids = paged(api, 8)
    assert [run["id"] for run in api.pages("/v1/runs", limit, flow="paged")] == ids
    times = [run["queued_at"] for run in api.pages("/v1/runs", limit, flow="paged")]
    assert times == sorted(times, reverse=True), "newest first"
    requests = [row["run_id"] for row in api.pages("/v1/requests", limit, flow="paged", outcome="admitted")]
    assert requests == ids


def test_what_comes_while_paging_moves_nothing(api: Api) -> None:
    ids = paged(api, 6)
    first = api.get("/v1/runs", flow="paged", limit=3)
    paged(api, 4)
    second = api.get("/v1/runs", flow="paged", limit=3, cursor=first["next"])
    assert [run["id"] for run in first["items"] + second["items"]] == ids[:6]


def test_a_list_has_fifty_items_unless_asked_otherwise(api: Api) -> None:
    paged(api, 60)
    for path in ("/v1/runs", "/v1/requests"):
        page = api.get(path)
        assert len(page["items"]) == 50
        assert page["next"] is not None


def test_a_list_ends(api: Api) -> None:
    count = len(paged(api, 2))
    page = api.get("/v1/runs", flow="paged", limit=count if count <= 1000 else 1000)
    assert (page["next"] is None) is (count <= 1000)
    assert api.get("/v1/runs", cursor="1") == api.get("/v1/runs", cursor="0") == {"items": [], "next": None}
    assert api.get("/v1/runs", flow="nothing") == {"items": [], "next": None}


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/requests", "/v1/flows"])
@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1.5", "1e3", "9" * 5000, "%00", "NaN", "0x10", "٣٣٣٣"])
def test_a_limit_has_limits(api: Api, path: str, limit: str) -> None:
    problem = problem_of(api.http.get(f"{path}?limit={limit}"), 422, "invalid_request")
    assert locations(problem) == [["query", "limit"]]


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/requests"])
@pytest.mark.parametrize(
    "cursor",
    [
        "-1",
        "",
        "x",
        "1.0",
        "1 OR 1=1",
        "9" * 19,
        "9" * 5000,
        "0x1",
        "%00",
        "1%00",
        "٣",
        "+1",
        "null",
        "1;DROP TABLE runs",
        "MTIz",
    ],
)
def test_a_cursor_that_no_list_gave_is_refused(api: Api, path: str, cursor: str) -> None:
    problem_of(api.http.get(path, params={"cursor": cursor.replace("%00", "\0")}), 422, "invalid_request")


def test_the_largest_cursor_is_the_beginning(api: Api) -> None:
    api.submit("add", {"a": 1})
    assert api.get("/v1/runs", cursor="9" * 18)["items"][0]["id"] == api.get("/v1/runs", limit=1)["items"][0]["id"]


# --- filters -------------------------------------------------------------------------------------------


def test_filters_of_runs(api: Api) -> None:
    good, bad = api.run("add", {"a": 1}), api.run("fail")
    waiting = api.submit("add", {"a": 1}, not_before="2990-01-01T00:00:00Z")["run_id"]

    def found(**query: Any) -> set[str]:
        return {run["id"] for run in api.get("/v1/runs", limit=1000, **query)["items"]} & {
            good["id"],
            bad["id"],
            waiting,
        }

    assert found() == {good["id"], bad["id"], waiting}
    assert found(flow="add") == {good["id"], waiting}
    assert found(state="failed") == {bad["id"]}
    assert found(state="succeeded") == {good["id"]}
    assert found(state="scheduled") == {waiting}
    assert found(state="succeeded", flow="fail") == set()
    assert found(trigger="manual", invoker="owner") == found()
    assert found(trigger="cron") == found(invoker="nobody") == set()
    assert found(tag="quick") == found(tag="sync") == {good["id"], waiting}
    assert found(tag="no such tag") == set()
    assert found(since=good["queued_at"]) == found()
    assert found(since=bad["queued_at"]) == {bad["id"], waiting}
    assert found(until=bad["queued_at"]) == {good["id"]}
    assert found(since=bad["queued_at"], until=bad["queued_at"]) == set()
    api.post(f"/v1/runs/{waiting}/cancel")
    assert found(state="cancelled") == {waiting}


def test_filters_of_requests(api: Api, key: str) -> None:
    admitted = api.submit("add", {"a": 1}, idempotency_key=key)["request_id"]
    rejected = api.submit("add", {"a": "x"}, 422)["request_id"]
    api.submit("add", {"a": 1}, 200, idempotency_key=key)
    rows = api.get("/v1/requests", flow="add", limit=3)["items"]
    assert [row["outcome"] for row in rows] == ["replayed", "rejected", "admitted"]

    def found(**query: Any) -> set[str]:
        return {row["request_id"] for row in api.get("/v1/requests", limit=1000, **query)["items"]} & {
            admitted,
            rejected,
        }

    assert found() == found(flow="add") == found(trigger="manual") == found(invoker="owner") == {admitted, rejected}
    assert found(outcome="admitted") == {admitted}
    assert found(outcome="rejected") == {rejected}
    assert found(outcome="rejected", flow="fail") == found(trigger="flow") == found(invoker="anonymous") == set()
    assert found(outcome="missed") == set()
    since, until = rows[1]["at"], rows[0]["at"]
    assert found(since=since, until=until) == found(since=since) == {rejected}
    assert found(until=since) == {admitted}


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/requests"])
def test_times_in_other_zones(api: Api, path: str) -> None:
    api.submit("add", {"a": 1})
    assert api.get(path, since="1970-01-01T05:30:00+05:30", limit=1)["items"]
    assert api.http.get(f"{path}?since=1970-01-01T05:30:00+05:30&limit=1").json()["items"], "a + that was not escaped"
    assert api.get(path, since="2990-01-01T00:00:00Z")["items"] == []
    assert api.get(path, until="0001-01-01T00:00:00Z")["items"] == []


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/requests"])
@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize(
    "bad",
    ["", "yesterday", "2030-01-01", "2030-02-30T00:00:00Z", "1", "x" * 201, "\0", "0001-01-01T00:00:00+23:59",
     "9999-12-31T23:59:59-23:59"],
)  # fmt: skip
def test_bad_times(api: Api, path: str, name: str, bad: str) -> None:
    problem_of(api.http.get(path, params={name: bad}), 422, "invalid_request")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/runs", {"state": "done"}),
        ("/v1/runs", {"state": ""}),
        ("/v1/runs", {"flow": ""}),
        ("/v1/runs", {"tag": "x" * 201}),
        ("/v1/requests", {"outcome": "lost"}),
        ("/v1/requests", {"outcome": "ADMITTED"}),
        ("/v1/requests", {"invoker": ""}),
        ("/v1/flows", {"cursor": ""}),
        # PostgreSQL has no such text, and SQLite would find nothing.
        ("/v1/runs", {"flow": "\0"}),
        ("/v1/runs", {"invoker": "a\0b"}),
        ("/v1/runs", {"trigger": "\0"}),
        ("/v1/runs", {"tag": "\0"}),
        ("/v1/requests", {"flow": "add\0"}),
        ("/v1/requests", {"invoker": "\0"}),
        ("/v1/triggers", {"flow": "\0"}),
        ("/v1/questions", {"to": "\0"}),
        ("/v1/notifications", {"channel": "\0"}),
    ],
)
def test_bad_filters(api: Api, path: str, query: dict[str, str]) -> None:
    problem = problem_of(api.http.get(path, params=query), 422, "invalid_request")
    assert locations(problem) == [["query", next(iter(query))]]


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/requests"])
@pytest.mark.parametrize("text", ["' OR '1'='1", "%", "_", "a\nb", "\N{PILE OF POO}", "[]", "{}", "null"])
def test_filters_are_compared_not_interpreted(api: Api, path: str, text: str) -> None:
    for row in api.pages(path, flow=text):
        assert row["flow"] == text, "somebody asked for a flow of just that name"
    for name in ("trigger", "invoker"):
        assert api.get(path, **{name: text}) == {"items": [], "next": None}


def test_all_ids_are_uuids_of_version_7(api: Api) -> None:
    api.submit("add", {"a": 1})
    items: list[Json] = api.get("/v1/runs")["items"]
    assert all(UUID(run["id"]).version == 7 for run in items)


@pytest.mark.parametrize(
    "path",
    ["/v1/runs?stat=failed", "/v1/runs?=", "/v1/requests?state=failed", "/v1/flows?tag=x", "/v1/flows/add?x",
     "/v1/runs?%00=1", "/v1/runs?Flow=add", "/v1/requests?limit=1&curser=2"],
)  # fmt: skip
def test_a_slip_in_a_parameter_does_not_widen_the_list(api: Api, path: str) -> None:
    problem = problem_of(api.http.get(path), 422, "invalid_request")
    assert [part for part, _ in locations(problem)] == ["query"]


@pytest.mark.parametrize(
    "path", ["/v1/runs?flow=add&flow=fail", "/v1/requests?trigger=&trigger=", "/v1/flows?limit=1&limit=1"]
)
def test_a_parameter_has_one_value(api: Api, path: str) -> None:
    problem = problem_of(api.http.get(path), 422, "invalid_request")
    assert [error["type"] for error in problem["errors"]] == ["repeated"]


def test_a_run_is_asked_for_with_one_deadline(api: Api) -> None:
    asked = api.http.post("/v1/runs?wait=1s&wait=2s", json={"flow": "add", "inputs": {"a": 1}})
    assert locations(problem_of(asked, 422, "invalid_request")) == [["query", "wait"]]
