"""Triggers over HTTP: looking at them, changing them, trying them, and having them ask again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pullcord.client import AsyncClient, Client
from pullcord.core.errors import NotFoundError, UsageError
from tests.api.server import Api, Json, Server, checked, problem_of, receipt_of

TIMED = Path(__file__).with_name("timed")
NAMES = ["cleared-completion", "drop", "nightly", "once", "seldom"]
TRIGGER = {
    "id", "name", "kind", "flow", "flows", "location", "place", "description", "enabled", "health", "settings",
    "parameters", "declared", "override", "next_due", "last_poll_at", "last_fired_at", "consecutive_errors", "error",
    "cursor", "registered_at", "removed_at",
}  # fmt: skip


@pytest.fixture(scope="module")
def timed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own: what one trigger is changed to must not surprise other tests."""
    with Server(tmp_path_factory.mktemp("timed") / "data", TIMED) as running:
        yield running


@pytest.fixture
def timed(timed_server: Server) -> Iterator[Api]:
    """A client, before which all triggers are as in the code again."""
    with timed_server.client() as client:
        for name in NAMES:
            patch(client, name, {"enabled": None, "settings": None, "parameters": None})
        yield client


def patch(api: Api, name: str, changes: Any, status: int = 200) -> Any:
    """Change a trigger."""
    return checked(api.http.patch(f"/v1/triggers/{name}", json=changes), status)


def line(api: Api, name: str, outcome: str) -> Json:
    """Wait until the newest line of a trigger's history that is no skip says this; return it."""
    while True:
        lines = [each for each in api.get(f"/v1/triggers/{name}/history")["items"] if each["outcome"] != "skipped"]
        if lines and lines[0]["outcome"] == outcome:
            found: Json = lines[0]
            return found


# --- looking ---------------------------------------------------------------------------------------


def test_the_list_of_triggers(timed: Api) -> None:
    page = timed.get("/v1/triggers")
    assert [item["name"] for item in page["items"]] == NAMES
    assert page["next"] is None
    assert all(set(item) == TRIGGER for item in page["items"])
    assert [item["kind"] for item in page["items"]] == ["completion", "event", "cron", "at", "interval"]


@pytest.mark.parametrize("limit", [1, 2, 5, 1000])
def test_pages_of_triggers(timed: Api, limit: int) -> None:
    assert [item["name"] for item in timed.pages("/v1/triggers", limit)] == NAMES


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"flow": "timed"}, ["nightly", "once", "seldom"]),
        ({"flow": "timed", "enabled": "true"}, ["nightly", "once"]),
        ({"enabled": "false"}, ["seldom"]),
        ({"kind": "event"}, ["drop"]),
        ({"kind": "nothing-of-the-kind"}, []),
        ({"flow": "nowhere"}, []),
        ({"cursor": "zzz"}, []),
    ],
)
def test_a_list_of_some(timed: Api, query: dict[str, str], names: list[str]) -> None:
    assert [item["name"] for item in timed.get("/v1/triggers", **query)["items"]] == names


@pytest.mark.parametrize("query", [{"enabled": "perhaps"}, {"limit": "0"}, {"colour": "red"}, {"cursor": ""}])
def test_a_list_that_cannot_be(timed: Api, query: dict[str, str]) -> None:
    problem_of(timed.http.get("/v1/triggers", params=query), 422, "invalid_request")


def test_a_trigger_by_name_and_by_id(timed: Api) -> None:
    item = timed.get("/v1/triggers/nightly")
    assert timed.get(f"/v1/triggers/{item['id']}") == item
    assert (item["flow"], item["flows"], item["health"], item["override"]) == ("timed", ["timed"], "ok", None)
    assert item["settings"]["expression"] == "0 2 * * *"
    assert item["parameters"] == {"day": "today"}
    assert item["declared"] == {
        "enabled": True, "settings": item["settings"], "parameters": {"day": "today"}
    }  # fmt: skip
    assert item["next_due"] > datetime.now(UTC).isoformat()
    assert item["place"].startswith(str(TIMED / "clock.py"))


@pytest.mark.parametrize("name", ["nobody", "%00", "a b", "0" * 5000, "1e400"])
@pytest.mark.parametrize("what", ["", "/history"])
def test_there_is_no_such_trigger(timed: Api, name: str, what: str) -> None:
    problem_of(timed.http.get(f"/v1/triggers/{name}{what}"), 404, "not_found")


def test_a_flow_shows_its_triggers_and_its_next_runs(timed: Api) -> None:
    flow = timed.get("/v1/flows/timed")
    assert [item["name"] for item in flow["triggers"]] == ["nightly", "once", "seldom"]
    nightly = timed.get("/v1/triggers/nightly")
    assert flow["triggers"][0] == {
        name: nightly[name] for name in ("id", "name", "kind", "enabled", "health", "next_due")
    }
    assert flow["triggers"][2]["next_due"] is None
    assert flow["next_runs"][0] == nightly["next_due"]
    assert len(flow["next_runs"]) == 5
    assert flow["next_runs"] == sorted(flow["next_runs"])
    assert flow in timed.get("/v1/flows")["items"]
    watched = timed.get("/v1/flows/watched")
    assert ([item["name"] for item in watched["triggers"]], watched["next_runs"]) == (["drop"], [])


def test_next_runs_are_those_of_enabled_schedules(timed: Api) -> None:
    patch(timed, "nightly", {"enabled": False})
    assert timed.get("/v1/flows/timed")["next_runs"] == ["2060-01-01T12:00:00.000000Z"]
    item = patch(timed, "seldom", {"enabled": True})
    times = timed.get("/v1/flows/timed")["next_runs"]
    first = datetime.fromisoformat(item["next_due"])
    assert [datetime.fromisoformat(at) - first for at in times] == [timedelta(hours=1000 * n) for n in range(5)]


# --- changing --------------------------------------------------------------------------------------


def test_a_trigger_is_disabled_with_a_reason(timed: Api) -> None:
    item = patch(timed, "nightly", {"enabled": False, "reason": "the press is broken"})
    assert (item["enabled"], item["health"], item["next_due"]) == (False, "disabled", None)
    assert item["declared"]["enabled"] is True
    override = item["override"]
    assert (override["enabled"], override["by"], override["reason"]) == (False, "owner", "the press is broken")
    assert timed.get("/v1/triggers/nightly") == item
    newest = timed.get("/v1/triggers/nightly/history", limit=1)["items"][0]
    assert (newest["outcome"], newest["reason"]) == ("changed", "disabled: the press is broken")
    assert newest["detail"]["by"] == "owner"


def test_a_pause_has_an_end(timed: Api) -> None:
    item = patch(timed, "nightly", {"enabled": False, "until": "2990-01-01T00:00:00+01:00"})
    assert item["override"]["until"] == "2989-12-31T23:00:00.000000Z"
    ticks = timed.post("/v1/triggers/nightly/preview", {"n": 2}, 200)["ticks"]
    assert [tick["fires"] for tick in ticks] == [False, False]
    assert "owner disabled it until 2989-12-31T23:00:00.000000Z" in ticks[0]["notes"]


def test_another_schedule_and_the_codes_again(timed: Api) -> None:
    before = timed.get("/v1/triggers/nightly")
    item = patch(timed, "nightly", {"schedule": "30 4 * * *", "settings": {"tz": "UTC"}})
    assert (item["settings"]["expression"], item["settings"]["tz"]) == ("30 4 * * *", "UTC")
    assert item["declared"] == before["declared"]
    assert item["override"]["settings"] == {"expression": "30 4 * * *", "tz": "UTC"}
    assert item["next_due"].endswith("T04:30:00.000000Z")
    item = patch(timed, "nightly", {"schedule": None, "settings": None})
    assert (item["settings"], item["override"]) == (before["settings"], None)


def test_another_cadence_of_an_event(timed: Api) -> None:
    assert patch(timed, "drop", {"schedule": "2h", "settings": {"timeout": "1m"}})["override"]["settings"] == {
        "every": 7200.0,
        "timeout": 60.0,
    }


def test_other_parameters(timed: Api) -> None:
    item = patch(timed, "nightly", {"parameters": {"day": "sunday"}})
    assert (item["parameters"], item["declared"]["parameters"]) == ({"day": "sunday"}, {"day": "today"})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        [],
        "text",
        {"colour": "red"},
        {"enabled": "yes"},
        {"enabled": 1},
        {"enabled": False, "until": "tomorrow"},
        {"enabled": False, "until": "2990-01-01T00:00:00"},
        {"enabled": False, "until": "2000-01-01T00:00:00Z"},
        {"until": 3},
        {"enabled": True, "until": "2990-01-01T00:00:00Z"},
        {"reason": "only a reason"},
        {"enabled": False, "reason": "nul \0"},
        {"enabled": False, "reason": "x" * 2000},
        {"schedule": "\0"},
        {"schedule": "61 * * * *"},
        {"schedule": "0 0 30 2 *"},
        {"schedule": 5},
        {"schedule": []},
        {"schedule": {"every": 3}},
        {"settings": {"tz": "../../etc/passwd"}},
        {"settings": {"tz": "\0"}},
        {"settings": {"jitter": 10**30}},
        {"settings": {"blackout": [{}]}},
        {"settings": {"colour": "red"}},
        {"settings": []},
        {"parameters": 3},
        {"cursor": 10**30},
        {"cursor": "2990-01-01T00:00:00Z"},
        {"cursor": "0001-01-01T00:00:00+23:00"},
        {"cursor": None},
    ],
    ids=str,
)
def test_changes_that_cannot_be(timed: Api, changes: Any) -> None:
    before = timed.get("/v1/triggers/nightly")
    problem_of(timed.http.patch("/v1/triggers/nightly", json=changes), 422, "invalid_request")
    assert timed.get("/v1/triggers/nightly") == before


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("drop", {"schedule": "often"}),
        ("cleared-completion", {"schedule": "5s"}),
        ("drop", {"settings": {"every": 10**60}}),
        ("drop", {"settings": {"every": 0.001}}),
        ("seldom", {"schedule": 1e300}),
        ("seldom", {"schedule": "5 minutes or so"}),
        ("once", {"schedule": "0001-01-01"}),
        ("cleared-completion", {"settings": {"on": [{}]}}),
        ("cleared-completion", {"settings": {"on": [[]]}}),
        ("cleared-completion", {"settings": {"of": ["timed"]}}),
        ("cleared-completion", {"cursor": 3}),
    ],
    ids=str,
)
def test_changes_that_the_kind_does_not_know(timed: Api, name: str, changes: Any) -> None:
    before = timed.get(f"/v1/triggers/{name}")
    problem_of(timed.http.patch(f"/v1/triggers/{name}", json=changes), 422, "invalid_request")
    assert timed.get(f"/v1/triggers/{name}")["override"] == before["override"]


def test_infinity_is_no_cursor(timed: Api) -> None:
    headers = {"content-type": "application/json"}
    answer = timed.http.patch("/v1/triggers/drop", content='{"cursor": 1e400}', headers=headers)
    assert answer.status_code in (400, 422)


def test_a_stranger_changes_nothing(timed_server: Server) -> None:
    with timed_server.client("") as stranger:
        problem_of(stranger.http.patch("/v1/triggers/nightly", json={"enabled": False}), 401, "unauthenticated")
        problem_of(stranger.http.get("/v1/triggers"), 401, "unauthenticated")


# --- asking ----------------------------------------------------------------------------------------


def test_again_from_an_earlier_time(timed: Api) -> None:
    start = datetime.now(UTC) - timedelta(days=3)
    patch(timed, "nightly", {"settings": {"tz": "UTC"}})
    known = len(timed.pages("/v1/requests", flow="timed"))
    item = patch(timed, "nightly", {"cursor": start.isoformat(), "reason": "the data was wrong"})
    assert item["override"]["settings"] == {"tz": "UTC"}
    while len(rows := timed.pages("/v1/requests", flow="timed")) < known + 3:
        pass
    asked = sorted(row["scheduled_for"] for row in rows[: len(rows) - known])
    assert len(asked) == 3
    assert all(at.endswith("T02:00:00.000000Z") for at in asked)
    run = timed.ended(rows[0]["run_id"])
    assert run["scheduled_for"] == rows[0]["scheduled_for"]
    assert timed.get("/v1/triggers/nightly")["last_fired_at"] is not None


def test_an_event_goes_on_from_a_cursor_fires_and_is_replayed(timed: Api) -> None:
    patch(timed, "drop", {"cursor": 7})
    line(timed, "drop", "fired")
    row = timed.get("/v1/requests", invoker="trigger:drop", limit=1)["items"][0]
    assert (row["inputs"], row["scheduled_for"]) == ({"file": "file-7"}, None)
    body = {"request_id": row["request_id"]}
    receipt = receipt_of(timed.http.post("/v1/triggers/drop/replay", json=body), 202)
    run = timed.ended(receipt["run_id"])
    assert (run["result"], run["invoker"]["id"]) == ("file-7", "owner")
    assert run["reason"] == f"replay of request {row['request_id']}"
    assert run["trigger"] == {"kind": "event", "name": "drop"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"request_id": "01234567-89ab-7def-8123-456789abcdef"}, 404),
        ({"request_id": "none"}, 422),
        ({"request_id": 3}, 422),
        ({}, 422),
        ({"request_id": "01234567-89ab-7def-8123-456789abcdef", "more": 1}, 422),
    ],
    ids=str,
)
def test_replays_that_cannot_be(timed: Api, body: Json, status: int) -> None:
    code = "not_found" if status == 404 else "invalid_request"
    problem_of(timed.http.post("/v1/triggers/drop/replay", json=body), status, code)


def test_a_replay_is_of_the_triggers_own_requests(timed: Api) -> None:
    run = timed.run("watched", {"file": "by hand"})
    body = {"request_id": run["request_id"]}
    problem_of(timed.http.post("/v1/triggers/drop/replay", json=body), 404, "not_found")


def test_a_preview_of_an_event_fires_nothing(timed: Api) -> None:
    def newest() -> list[Json]:
        # The run of an earlier test may still go on.
        return [row | {"state": None} for row in timed.get("/v1/requests", limit=1)["items"]]

    before = newest()
    seen = timed.post("/v1/triggers/drop/preview", {"cursor": 9}, 200)
    assert (seen["outcome"], seen["cursor"]) == ("fire", None)
    assert seen["fires"] == [{"context": {"file": "file-9"}, "key": None}]
    assert timed.post("/v1/triggers/drop/preview", None, 200)["reason"] == "nothing is there"
    failed = timed.post("/v1/triggers/drop/preview", {"cursor": "broken"}, 200)
    assert (failed["outcome"], failed["error"]["message"]) == ("failed", "the share is away")
    assert newest() == before
    assert timed.get("/v1/triggers/drop")["consecutive_errors"] == 0


def test_a_preview_of_a_schedule_tells_what_clocks_do(timed: Api) -> None:
    preview = timed.post("/v1/triggers/nightly/preview", {"n": 370}, 200)
    assert (preview["trigger"], preview["kind"], len(preview["ticks"])) == ("nightly", "cron", 370)
    notes = [tick["notes"] for tick in preview["ticks"] if tick["notes"]]
    assert len(notes) >= 2, "a year has two changes of clocks"
    assert len(timed.post("/v1/triggers/nightly/preview", None, 200)["ticks"]) == 10


def test_a_preview_of_an_interval_counts_from_its_last_tick(timed: Api) -> None:
    item = patch(timed, "seldom", {"enabled": True})
    ticks = timed.post("/v1/triggers/seldom/preview", {"n": 2}, 200)["ticks"]
    assert ticks[0]["at"] == item["next_due"]


@pytest.mark.parametrize("body", [{"n": 0}, {"n": 1001}, {"n": 10**30}, {"n": "3"}, {"m": 3}, [], 3], ids=str)
def test_previews_that_cannot_be(timed: Api, body: Any) -> None:
    problem_of(timed.http.post("/v1/triggers/nightly/preview", json=body), 422, "invalid_request")


def test_there_is_nothing_to_preview_of_a_completion(timed: Api) -> None:
    problem_of(timed.http.post("/v1/triggers/cleared-completion/preview"), 422, "invalid_request")


def test_pages_of_a_history(timed: Api) -> None:
    for reason in ("one", "two", "three", "four"):
        patch(timed, "once", {"enabled": False, "reason": reason})
    whole = timed.pages("/v1/triggers/once/history")
    assert [each["reason"] for each in whole[:4]] == [f"disabled: {word}" for word in ("four", "three", "two", "one")]
    assert timed.pages("/v1/triggers/once/history", limit=2) == whole
    assert timed.get("/v1/triggers/once/history", limit=2, offset=1)["items"] == whole[1:3]
    assert timed.get("/v1/triggers/once/history", offset=1_000_000)["items"] == []


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"offset": -1}, {"offset": 10**30}, {"cursor": "x"}, {"cursor": "9" * 19}]
)
def test_a_history_that_cannot_be(timed: Api, query: Json) -> None:
    problem_of(timed.http.get("/v1/triggers/once/history", params=query), 422, "invalid_request")


def test_metrics_of_triggers(timed: Api) -> None:
    text = timed.http.get("/metrics").text
    assert 'pullcord_triggers{health="disabled",kind="interval"} 1.0' in text
    assert 'pullcord_polls_total{outcome="skip"}' in text
    assert "pullcord_poll_lateness_seconds_count" in text
    assert "pullcord_schedule_lateness_seconds_count" in text


# --- the clients -----------------------------------------------------------------------------------


def test_the_client(timed: Api, timed_server: Server) -> None:
    with Client(timed_server.url, timed_server.token) as client:
        triggers = client.triggers
        assert [item["name"] for item in triggers.list(flow="timed")] == ["nightly", "once", "seldom"]
        assert [item["name"] for item in triggers.list(enabled_only=True, flow="timed")] == ["nightly", "once"]
        assert [item["name"] for item in triggers.iter(kind="event")] == ["drop"]
        assert triggers.get("once") == timed.get("/v1/triggers/once")
        until = datetime(2990, 1, 1, tzinfo=UTC)
        item = triggers.set_enabled("once", False, reason="later", until=until)
        assert (item["enabled"], item["override"]["until"]) == (False, "2990-01-01T00:00:00.000000Z")
        assert triggers.set_enabled("once", None)["override"] is None
        item = triggers.update("nightly", schedule="@daily", reason="as everybody does")
        assert item["override"]["settings"] == {"expression": "@daily"}
        lines = triggers.history("nightly", limit=3)
        assert lines[0]["reason"] == "settings changed: as everybody does"
        assert triggers.history("nightly", limit=2, offset=1) == lines[1:]
        assert len(triggers.preview("nightly", n=3)["ticks"]) == 3
        assert triggers.preview("drop", cursor=4)["fires"][0]["context"] == {"file": "file-4"}
        triggers.update("drop", cursor=5)
        line(timed, "drop", "fired")
        asked = client.requests.list(invoker="trigger:drop", limit=1)[0]
        assert triggers.replay("drop", asked["request_id"]).run_id is not None
        with pytest.raises(NotFoundError):
            triggers.get("nobody")
        with pytest.raises(UsageError):
            triggers.update("nightly", colour="red")


async def test_the_asynchronous_client(timed: Api, timed_server: Server) -> None:
    async with AsyncClient(timed_server.url, timed_server.token) as client:
        triggers = client.triggers
        assert [item["name"] for item in await triggers.list(flow="timed")] == ["nightly", "once", "seldom"]
        assert [item["name"] async for item in triggers.iter()] == NAMES
        assert not (await triggers.set_enabled("once", False, "later"))["enabled"]
        assert (await triggers.history("once", 1))[0]["reason"] == "disabled: later"
        assert (await triggers.preview("nightly", n=1))["ticks"][0]["fires"]
        assert (await triggers.update("once", enabled=None))["override"] is None
        assert (await triggers.get("once"))["enabled"]
        with pytest.raises(NotFoundError):
            await triggers.replay("drop", "01234567-89ab-7def-8123-456789abcdef")
