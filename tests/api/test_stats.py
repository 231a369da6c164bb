"""Figures of flows over HTTP, and how far runs were when they ended."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.server import Api, Hold, events_of, problem_of

COUNTS = {"succeeded", "failed", "cancelled"}


def window_of(api: Api, flow: str, window: str = "1h") -> Any:
    """Return the figures of one window."""
    (found,) = api.get(f"/v1/flows/{flow}/stats", window=window)["windows"]
    return found


def test_a_flow_that_never_ran(api: Api) -> None:
    stats = api.get("/v1/flows/idle/stats")
    assert [found["window"] for found in stats.pop("windows")] == ["24h", "7d", "30d"]
    assert stats == {
        "flow": "idle", "since": None, "last_success": None, "last_failure": None, "streak": None,
        "usual_duration": None,
    }  # fmt: skip
    found = window_of(api, "idle")
    assert (found["runs"], found["success_rate"], found["records"]) == (0, None, None)
    assert found["duration"]["sample"] == found["queue_time"]["sample"] == 0


def test_runs_count_when_they_have_ended_and_tests_never(api: Api) -> None:
    api.settle("add")
    before = window_of(api, "add")
    run = api.run("add", {"a": 1})
    api.run("add", {"a": 1}, test=True)
    found = window_of(api, "add")
    assert found["runs"] == before["runs"] + 1
    assert found["states"] == before["states"] | {"succeeded": before["states"]["succeeded"] + 1}
    assert sum(period["succeeded"] for period in found["series"]) == found["states"]["succeeded"]
    assert found["duration"]["longest"] >= found["duration"]["p95"] >= found["duration"]["median"] >= 0
    stats = api.get("/v1/flows/add/stats")
    assert stats["last_success"] == {"id": run["id"], "ended_at": run["ended_at"]}
    assert stats["streak"]["state"] == "succeeded"
    assert stats["since"] <= run["ended_at"]


def test_failures_and_a_streak_of_them(api: Api) -> None:
    api.settle("fail")
    for _ in range(2):
        run = api.run("fail")
    stats = api.get("/v1/flows/fail/stats", window="1h")
    assert stats["last_failure"]["id"] == run["id"]
    assert (stats["last_success"], stats["usual_duration"]) == (None, None)
    assert stats["streak"]["state"] == "failed"
    assert stats["streak"]["count"] >= 2
    assert stats["windows"][0]["success_rate"] == 0
    assert stats["windows"][0]["duration"]["median"] is None


def test_retries_are_counted(api: Api) -> None:
    before = window_of(api, "flaky")["retries"]
    run = api.run("flaky")
    assert run["attempt"] == 2
    assert window_of(api, "flaky")["retries"] == before + 1


def test_all_flows(api: Api) -> None:
    api.run("add", {"a": 1})
    names = [flow["name"] for flow in api.get("/v1/flows")["items"]]
    page = api.get("/v1/stats")
    assert [item["flow"] for item in page["items"]] == names
    assert {item["window"] for item in page["items"]} == {"7d"}
    assert [item["flow"] for item in api.pages("/v1/stats", 4)] == names
    (item,) = (item for item in api.get("/v1/stats", window="1h")["items"] if item["flow"] == "add")
    assert item["runs"] >= 1
    assert set(item["series"][0]) == {"at", "median"} | COUNTS


def test_refusals(api: Api) -> None:
    problem_of(api.http.get("/v1/flows/nobody/stats"), 404, "unknown_flow")
    for window in ("x", "1s", "400d", "1h,", "1h,2h,3h,4h,5h,6h"):
        problem_of(api.http.get("/v1/flows/add/stats", params={"window": window}), 422, "invalid_request")
    problem_of(api.http.get("/v1/stats", params={"window": "1h,2h"}), 422, "invalid_request")


def test_the_last_progress_is_kept_with_a_run(api: Api, hold: Hold) -> None:
    before = window_of(api, "laps")["records"] or 0
    run_id = api.submit("laps", {"port": hold.port, "count": 2})["run_id"]
    for _ in range(2):
        hold.begun().release()
    run = api.ended(run_id)
    assert run["progress"] == {"done": 1.0, "total": 2.0, "text": None}
    (listed,) = api.get("/v1/runs", flow="laps", limit=1)["items"]
    assert listed["progress"] == run["progress"]
    assert window_of(api, "laps")["records"] == before + 1
    assert api.run("add", {"a": 1})["progress"] is None


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ([["nan", 5], [3, "inf"], ["inf", 4]], {"done": 3.0, "total": None}),
        ([[1e300, None], [2, 1e300]], {"done": 2.0, "total": None}),
        ([["nan", None]], None),
        ([[4, "ten"], ["7", 10], [None, 9], [[8], 9], ["complex", 1], ["signalling", 1]], {"done": 4.0, "total": None}),
        ([[True, "complex"]], {"done": 1.0, "total": None}),
    ],
)
def test_what_is_no_number_is_no_progress(api: Api, said: Any, kept: Any) -> None:
    run_id = api.submit("counting", {"said": said})["run_id"]
    run = api.ended(run_id)
    assert run["state"] == "succeeded"
    assert run["progress"] == (None if kept is None else kept | {"text": "a\N{REPLACEMENT CHARACTER}b"})
    # Each event is JSON that any reader takes.
    assert all(event.data["done"] < 10 for event in events_of(api, run_id) if event.kind == "progress")
