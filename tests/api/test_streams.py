"""The news of a run: order, ids, resuming without gaps or repeats, and the end."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest

from pullcord.api import stream as streaming
from pullcord.engine.watch import Watch
from tests.api.server import PATIENCE, Api, Event, Hold, Server, events_of, stream

RANK = ["scheduled", "queued", "running", "waiting", "cancelling", "succeeded"]


def told(events: list[Event]) -> list[tuple[str, Any]]:
    """Return what events say, but for progress: only the latest is ever told."""
    return [(event.kind, event.told) for event in events if event.kind != "progress"]


def cursor(event: Event) -> list[int]:
    """Return the parts of an event's id."""
    return [int(part) for part in event.id.split(".")]


def test_a_run_that_has_ended_is_told_from_the_beginning(api: Api) -> None:
    run = api.run("steps", {"first": 2})
    events = events_of(api, run["id"])
    assert told(events) == [
        ("run", "queued"), ("run", "running"), ("step", 1), ("step", 2),
        ("log", "before the steps"), ("log", "between the steps"), ("run", "succeeded"), ("end", "succeeded"),
    ]  # fmt: skip
    assert [event.data for event in events if event.kind == "step"] == run["steps"]
    runs = [event.data for event in events if event.kind == "run"]
    assert runs[-1] == api.get(f"/v1/runs/{run['id']}")
    for past in runs[:-1]:
        assert set(past) == set(run)
        assert (past["ended_at"], past["result"], past["error"], past["steps"]) == (None, None, None, [])
    assert runs[0]["started_at"] is None
    assert runs[1]["started_at"] == run["started_at"]
    assert events[-1].data == {"state": "succeeded"}


@pytest.mark.parametrize(
    ("flow", "inputs", "state"), [("add", {"a": 1}, "succeeded"), ("fail", {}, "failed"), ("flaky", {}, "succeeded")]
)
def test_every_run_has_one_end(api: Api, flow: str, inputs: dict[str, Any], state: str) -> None:
    run = api.run(flow, inputs)
    events = events_of(api, run["id"])
    assert [event.kind for event in events].count("end") == 1
    assert told(events)[-2:] == [("run", state), ("end", state)]
    assert [event.data["text"] for event in events if event.kind == "log"] == (
        ["attempt 1", "attempt 2"] if flow == "flaky" else []
    )


def test_ids_only_grow(api: Api) -> None:
    ids = [cursor(event) for event in events_of(api, api.run("steps", {"first": 1})["id"])]
    assert all(later[part] >= earlier[part] for earlier, later in itertools.pairwise(ids) for part in range(3))
    assert len({tuple(id) for id in ids[:-1]}) == len(ids) - 1, "each but the end has one of its own"


@pytest.mark.parametrize("what", ["events", "logs"])
@pytest.mark.parametrize(
    ("flow", "inputs"), [("steps", {"first": 1}), ("fail", {}), ("flaky", {}), ("laps", {"count": 0})]
)
def test_resuming_anywhere_neither_repeats_nor_leaves_out(
    api: Api, hold: Hold, what: str, flow: str, inputs: dict[str, Any]
) -> None:
    run = api.run(flow, inputs | ({"port": hold.port} if flow == "laps" else {}))
    whole = events_of(api, run["id"], what)
    for number, event in enumerate(whole[:-1]):
        assert told(events_of(api, run["id"], what, event.id)) == told(whole[number + 1 :])
    assert told(events_of(api, run["id"], what, whole[-1].id)) == told(whole[-1:])


def test_a_live_run_is_told_as_it_happens_and_across_connections(api: Api, hold: Hold) -> None:
    """The client loses its connection at each lap and comes back with the id of the last event it saw."""
    run_id = api.submit("laps", {"port": hold.port, "count": 4})["run_id"]
    seen: list[Event] = []
    for lap in range(4):
        held = hold.begun()
        for event in stream(api, run_id, last=seen[-1].id if seen else None):
            seen.append(event)
            if (event.kind, event.told) == ("log", f"lap {lap}"):
                break
        held.release()
    seen += events_of(api, run_id, last=seen[-1].id)
    assert sorted(told(seen)) == sorted(told(events_of(api, run_id)))
    assert [event.told for event in seen if event.kind == "run"] == ["queued", "running", "succeeded"]
    assert [event.told for event in seen if event.kind == "step"] == [1, 2, 3, 4]
    assert [event.told for event in seen if event.kind == "log"] == [f"lap {lap}" for lap in range(4)]
    ids = [cursor(event) for event in seen]
    assert ids == sorted(ids)


def test_several_readers_of_one_run(api: Api, hold: Hold) -> None:
    run_id = api.submit("hold", {"port": hold.port})["run_id"]
    held = hold.begun()
    readers = [stream(api, run_id) for _ in range(5)]
    first = [[next(reader), next(reader)] for reader in readers]
    held.release()
    for reader, beginning in zip(readers, first, strict=True):
        assert told(beginning + list(reader)) == [
            ("run", "queued"), ("run", "running"), ("run", "succeeded"), ("end", "succeeded"),
        ]  # fmt: skip


def test_progress_is_told_once_for_each_change(api: Api, hold: Hold) -> None:
    run_id = api.submit("laps", {"port": hold.port, "count": 3})["run_id"]
    live = stream(api, run_id)
    seen: list[Event] = []
    for lap in range(3):
        held = hold.begun()
        seen += itertools.takewhile(lambda event: event.told != f"lap {lap}", live)  # noqa: B023
        held.release()
    seen += live
    progress = [event.data for event in seen if event.kind == "progress"]
    assert all(set(value) >= {"done", "total"} for value in progress)
    assert [value["done"] for value in progress] == sorted({value["done"] for value in progress})


def test_a_run_that_ends_while_somebody_begins_to_follow(
    server: Server, api: Api, hold: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look and the subscription the run ends: the follower must not wait for news of it."""
    run_id = api.submit("hold", {"port": hold.port})["run_id"]
    held = hold.begun()
    look = Watch.run
    looks: list[str] = []

    async def stale(self: Watch, uuid: str) -> dict[str, Any]:
        item = await look(self, uuid)
        looks.append(item["state"])
        if len(looks) == 1:
            end = server.app.engine.hub.end_of(uuid)
            held.release()
            async with asyncio.timeout(PATIENCE):
                await end
        return item

    with monkeypatch.context() as patched:
        patched.setattr(Watch, "run", stale)
        # A follower that missed the end would learn of it only with the keep-alive, which does not come.
        patched.setattr(streaming, "KEEP_ALIVE", 3600.0)
        assert told(events_of(api, run_id))[-1] == ("end", "succeeded")
    assert looks[0] == "running"


@pytest.mark.parametrize(
    "last", ["", "x", "-1.0.0", "1.2", "1.2.3.4", "9" * 40, "1.1.x", "\xb2.1.1", "0.0.0", "1e3.0.0"]
)
def test_an_id_that_we_never_gave_means_from_the_beginning(api: Api, last: str) -> None:
    run = api.run("steps", {"first": 1})
    headers = [(b"last-event-id", last.encode("latin-1"))]
    with api.http.stream("GET", f"/v1/runs/{run['id']}/events", headers=headers) as response:
        text = response.read().decode()
    assert text.startswith("id: 2.0.0\nevent: run\ndata: {")
    assert text.count("event: step") == 2


def test_an_id_beyond_the_end_is_told_the_end(api: Api) -> None:
    run = api.run("steps", {"first": 1})
    assert told(events_of(api, run["id"], last="9.9999999999999999.999999999")) == [("end", "succeeded")]


# --- logs ----------------------------------------------------------------------------------------------


def test_the_stream_of_lines_has_lines_and_the_end_only(api: Api) -> None:
    run = api.run("steps", {"first": 2})
    events = events_of(api, run["id"], "logs")
    assert told(events) == [("log", "before the steps"), ("log", "between the steps"), ("end", "succeeded")]
    assert events[0].data | {"at": ""} == {"at": "", "level": "info", "logger": "shop", "text": "before the steps"}
    assert set(events[1].data) == {"at", "level", "logger", "text"}
    assert run["started_at"] <= events[0].data["at"] <= events[1].data["at"] <= run["ended_at"]


def test_lines_come_while_the_run_goes_on(api: Api, hold: Hold) -> None:
    run_id = api.submit("laps", {"port": hold.port, "count": 2})["run_id"]
    lines = stream(api, run_id, "logs")
    for lap in range(2):
        held = hold.begun()
        assert next(lines).told == f"lap {lap}"
        held.release()
    assert told(list(lines)) == [("end", "succeeded")]


@pytest.mark.parametrize("accept", ["application/x-ndjson", "application/x-ndjson; charset=utf-8, */*;q=0.1"])
def test_lines_as_json_lines(api: Api, accept: str) -> None:
    run = api.run("steps", {"first": 2})
    response = api.http.get(f"/v1/runs/{run['id']}/logs", headers={"accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert lines == [event.data for event in events_of(api, run["id"], "logs") if event.kind == "log"]


def test_json_lines_of_a_run_that_goes_on_are_what_there_is_now(api: Api, hold: Hold) -> None:
    run_id = api.submit("laps", {"port": hold.port, "count": 1})["run_id"]
    held = hold.begun()
    assert next(stream(api, run_id, "logs")).told == "lap 0"
    response = api.http.get(f"/v1/runs/{run_id}/logs", headers={"accept": "application/x-ndjson"})
    assert [json.loads(line)["text"] for line in response.text.splitlines()] == ["lap 0"]
    held.release()
    api.ended(run_id)


def test_a_run_without_lines_has_none(api: Api) -> None:
    run = api.run("add", {"a": 1})
    assert api.http.get(f"/v1/runs/{run['id']}/logs", headers={"accept": "application/x-ndjson"}).content == b""
    assert told(events_of(api, run["id"], "logs")) == [("end", "succeeded")]
