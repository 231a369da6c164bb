"""Lists and items: pages, filters and the vocabulary that runs and requests are shown in."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pullcord.clock import rfc3339
from pullcord.core.errors import UsageError
from pullcord.core.states import Outcome
from pullcord.store.queries.limits import explain_waiting, list_limits
from pullcord.store.queries.page import Page
from pullcord.store.queries.requests import RequestFilter, get_request, list_requests
from pullcord.store.queries.runs import RunFilter, has_ended, list_runs, load_runs, run_number, run_states
from tests.store.harness import NOON, SECOND, Server, admit, finished, note, spec, step

List = Callable[[sqlite3.Connection, Any, Page], dict[str, Any]]


@dataclass
class Ledger:
    """A server with a history, and what that was: `(number, time, facts)` of each request and run."""

    server: Server
    requests: list[tuple[int, int, dict[str, Any]]]
    runs: list[tuple[int, int, dict[str, Any]]]


@pytest.fixture
def history(server: Server) -> Ledger:
    """Make 24 requests in 8 transactions, one in three of which became no run."""
    requests: list[tuple[int, int, dict[str, Any]]] = []
    runs: list[tuple[int, int, dict[str, Any]]] = []
    for batch in range(8):
        server.clock.advance(SECOND)
        commands: list[Any] = []
        for number in range(3):
            facts: dict[str, Any] = {
                "flow": ["f", "g"][batch % 2], "trigger_kind": ["manual", "cron"][number % 2],
                "invoker": ["ada", "bob", "cy"][(batch + number) % 3],
            }  # fmt: skip
            if number == 2:
                commands.append(note(**facts))
            else:
                commands.append(admit(facts["flow"], limited=False, invoker=facts["invoker"], ledger=facts))
        server.transact(*commands, room={"etl#sync": 1})
    for row in server.rows("SELECT * FROM requests ORDER BY id"):
        requests.append((row["id"], row["at"], row))
    for row in server.rows("SELECT r.*, q.at FROM runs r JOIN requests q ON q.id = r.id ORDER BY r.id"):
        runs.append((row["id"], row["at"], row))
    assert (len(requests), len(runs)) == (24, 16)
    return Ledger(server, requests, runs)


def walk(server: Server, query: List, which: Any, limit: int) -> list[dict[str, Any]]:
    """Return all items, page by page."""
    items: list[dict[str, Any]] = []
    page = Page(limit)
    for _ in range(100):
        answer = query(server.connection, which, page)
        assert len(answer["items"]) <= limit
        items += answer["items"]
        if answer["next"] is None:
            return items
        assert len(answer["items"]) == limit
        page = replace(page, cursor=answer["next"])
    raise AssertionError("the pages do not come to an end")


@pytest.mark.parametrize("limit", [1, 3, 7, 8, 24, 25, 1000])
def test_pages_show_everything_once_newest_first(history: Ledger, limit: int) -> None:
    requests = walk(history.server, list_requests, RequestFilter(), limit)
    assert [item["request_id"] for item in requests] == [row["uuid"] for _, _, row in reversed(history.requests)]
    runs = walk(history.server, list_runs, RunFilter(), limit)
    assert [item["id"] for item in runs] == [row["uuid"] for _, _, row in reversed(history.runs)]


def test_a_page_is_not_disturbed_by_what_is_new(history: Ledger) -> None:
    connection = history.server.connection
    first = list_runs(connection, RunFilter(), Page(5))
    history.server.admit(admit(), admit("g"))
    second = list_runs(connection, RunFilter(), Page(5, first["next"]))
    expected = [row["uuid"] for _, _, row in reversed(history.runs)]
    assert [item["id"] for item in first["items"] + second["items"]] == expected[:10]


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "1" * 19, "\uff11", " 1", "1; DROP TABLE runs"])
def test_a_cursor_that_no_list_gave_is_refused(server: Server, cursor: str) -> None:
    with pytest.raises(UsageError, match="not a cursor"):
        list_runs(server.connection, RunFilter(), Page(5, cursor))


def test_filters_alone_and_together(history: Ledger) -> None:
    names = {"flow": "flow", "state": "state", "trigger": "trigger_kind", "invoker": "invoker", "outcome": "outcome"}
    some: dict[str, Any] = {"flow": "f", "trigger": "cron", "invoker": "ada"}
    for mask in range(8):
        wanted = {name: value for bit, (name, value) in enumerate(some.items()) if mask >> bit & 1}
        for rows, query, which, extra in (
            (history.requests, list_requests, RequestFilter, {"outcome": "admitted"}),
            (history.runs, list_runs, RunFilter, {"state": "queued"}),
        ):
            for asked in (wanted, wanted | extra):
                shown = walk(history.server, query, which(**asked), 4)
                expected = [
                    row["uuid"]
                    for _, _, row in reversed(rows)
                    if all(row[names[name]] == value for name, value in asked.items())
                ]
                assert [item.get("id") or item["request_id"] for item in shown] == expected
                assert expected or len(asked) > 1


def test_several_flows_at_once_and_none(history: Ledger) -> None:
    assert len(walk(history.server, list_runs, RunFilter(flows=("f", "g", "x")), 5)) == 16
    assert len(walk(history.server, list_runs, RunFilter(flows=("g",)), 5)) == 8
    assert walk(history.server, list_runs, RunFilter(flows=()), 5) == []


@pytest.mark.parametrize("gone", [range(0), range(1, 6), range(8, 18), range(22, 25), range(1, 25)], ids=str)
def test_a_window_of_time_includes_its_beginning_and_not_its_end(history: Ledger, gone: range) -> None:
    for table in ("runs", "requests"):
        bounds = {"start": gone.start, "stop": gone.stop}
        history.server.connection.execute(f"DELETE FROM {table} WHERE id >= :start AND id < :stop", bounds)
    times = sorted({at for _, at, _ in history.requests})
    edges = [None, NOON - SECOND, *times, *[at + 1 for at in times], times[-1] + SECOND]
    for since in edges:
        for until in edges:
            expected = [
                row["uuid"]
                for number, at, row in reversed(history.requests)
                if number not in gone and (since is None or at >= since) and (until is None or at < until)
            ]
            requests = list_requests(history.server.connection, RequestFilter(since=since, until=until), Page(100))
            assert [item["request_id"] for item in requests["items"]] == expected
            admitted = [item["request_id"] for item in requests["items"] if item["outcome"] == "admitted"]
            runs = list_runs(history.server.connection, RunFilter(since=since, until=until), Page(100))
            assert [item["request_id"] for item in runs["items"]] == admitted


def test_nothing_is_an_empty_page(server: Server) -> None:
    assert list_runs(server.connection, RunFilter(flow="x"), Page()) == {"items": [], "next": None}
    assert list_requests(server.connection, RequestFilter(outcome="missed"), Page()) == {"items": [], "next": None}


# --- items -----------------------------------------------------------------------------------------------------------


def test_the_item_of_a_run_tells_its_story(server: Server) -> None:
    command = admit(
        inputs='{"day":"2026-01-01","n":9007199254740993}', priority=2,
        ledger={"note": "why", "on_behalf_of": '["bob"]', "trigger_name": "t"},
    )  # fmt: skip
    (run,) = server.begin(command)
    server.record(
        step(run, "b", seq=2, state="failed", error='{"type":"E","message":"m","traceback":"tb"}'),
        step(run, "a", seq=1),
    )
    server.finish(finished(run, "failed", error='{"type":"E","message":"m","traceback":"tb","again":["x"]}'))
    item = load_runs(server.connection, [run.uuid])[run.uuid]
    assert item["inputs"] == {"day": "2026-01-01", "n": 9007199254740993}
    assert (item["flow"], item["flow_version"], item["state"], item["attempt"]) == ("f", "v1", "failed", 1)
    assert item["trigger"] == {"kind": "manual", "name": "t"}
    assert item["invoker"] == {"id": "owner", "kind": "local", "on_behalf_of": ["bob"]}
    assert (item["request_id"], item["reason"], item["priority"]) == (command.entry.uuid, "why", 2)
    assert item["error"] == {"type": "E", "message": "m", "traceback": "tb"}
    assert [(s["seq"], s["name"], s["state"], s["result"]) for s in item["steps"]] == [
        (1, "step", "succeeded", "done"), (2, "step", "failed", None),
    ]  # fmt: skip
    assert item["steps"][1]["error"] == {"type": "E", "message": "m", "traceback": "tb"}
    assert item["steps"][0]["started_at"] == rfc3339(NOON)
    assert item["ended_at"] == rfc3339(server.clock.now())
    assert has_ended(item)


def test_the_list_speaks_the_items_words_but_leaves_out_what_is_long(server: Server) -> None:
    (run,) = server.begin(admit())
    server.finish(finished(run, "failed", error='{"type":"E","message":"m","traceback":"tb"}'))
    (shown,) = list_runs(server.connection, RunFilter(), Page())["items"]
    item = load_runs(server.connection, [run.uuid])[run.uuid]
    assert set(item) - set(shown) == {"steps", "result", "attempts"}
    assert shown["error"] == {"type": "E", "message": "m"}
    assert {name: value for name, value in shown.items() if name != "error"} == {
        name: value for name, value in item.items() if name in shown and name != "error"
    }


def test_a_run_names_its_relatives_by_their_ids(server: Server) -> None:
    (parent,) = server.begin(admit("free", limited=False))
    (old,) = server.begin(admit("free", limited=False))
    (run,) = server.begin(admit("free", limited=False, parent_id=parent.id, rerun_of=old.id))
    item = load_runs(server.connection, [run.uuid])[run.uuid]
    assert (item["parent_id"], item["rerun_of"], item["resumed_from"]) == (parent.uuid, old.uuid, None)


def test_many_runs_are_loaded_at_once_and_unknown_ones_left_out(server: Server) -> None:
    runs = server.begin(*[admit("free", limited=False) for _ in range(5)])
    server.record(*[step(run, f"s{run.id}", result=str(run.id)) for run in runs])
    found = load_runs(server.connection, [*(run.uuid for run in runs), "no-such-run"])
    assert set(found) == {run.uuid for run in runs}
    assert [found[run.uuid]["steps"][0]["result"] for run in runs] == [run.id for run in runs]
    assert load_runs(server.connection, []) == {}
    server.finish(finished(runs[0]))
    states = run_states(server.connection, [*(run.uuid for run in runs), "no-such-run"])
    assert states == {runs[0].uuid: "succeeded"} | {run.uuid: "running" for run in runs[1:]}
    assert run_number(server.connection, "no-such-run") is None


def test_the_item_of_a_request_says_what_became_of_it(server: Server) -> None:
    (admitted,) = server.begin(admit(key="k", ledger={"inputs": '{"a":1}'}))
    _, (again,) = server.claim(), server.admit(admit(key="k"))
    rejected = note(code="invalid_inputs", reason="the inputs are not valid", errors='[{"loc":["inputs","a"]}]')
    server.transact(rejected)
    items = {item["outcome"]: item for item in list_requests(server.connection, RequestFilter(), Page())["items"]}
    assert items["admitted"]["inputs"] == {"a": 1}
    assert items["admitted"]["run_id"] == items["replayed"]["run_id"] == again.run_uuid == admitted.uuid
    assert items["admitted"]["state"] == "running"
    assert items["admitted"]["idempotency_key"] == "k"
    assert items["rejected"]["run_id"] is None
    assert (items["rejected"]["code"], items["rejected"]["reason"]) == ("invalid_inputs", "the inputs are not valid")
    assert items["rejected"]["errors"] == [{"loc": ["inputs", "a"]}]
    assert items["replayed"]["count"] == 1
    assert all(item["reason"] for item in items.values()), "the ledger always says why"


def test_a_request_is_found_by_its_id_the_invokers_own_first(server: Server) -> None:
    server.admit(admit(request_id="r", invoker="ada"), admit("g", request_id="r", invoker="bob"))
    mine, theirs, anybodys = (get_request(server.connection, "r", who) for who in ("ada", "bob", "cy"))
    assert mine is not None
    assert theirs is not None
    assert anybodys is not None
    assert (mine["flow"], theirs["flow"]) == ("f", "g")
    assert get_request(server.connection, "unknown", "ada") is None


def test_an_admitted_request_is_found_before_a_refused_one_of_the_same_id(server: Server) -> None:
    server.transact(note(uuid="r", code="queue_full"))
    server.admit(admit(request_id="r"))
    server.transact(note(uuid="r", code="unknown_flow"))
    found = get_request(server.connection, "r", "owner")
    assert found is not None
    assert found["outcome"] == Outcome.ADMITTED


def waits(server: Server, *uuids: str | None) -> list[Any]:
    """Return what runs say that they wait for."""
    items = load_runs(server.connection, [uuid or "" for uuid in uuids])
    explain_waiting(server.connection, items.values())
    return [items[uuid or ""]["waiting_for"] for uuid in uuids]


def test_a_queued_run_says_what_it_waits_for_and_who_is_before_it(server: Server) -> None:
    commands = [admit(), admit(), admit()]
    (running,) = server.begin(*commands)
    held = f"waits for a slot of f: run {running.uuid} has the one slot"
    assert waits(server, *[command.run.uuid for command in commands]) == [
        None, {"kind": "slot", "text": f"{held}, it is next"}, {"kind": "slot", "text": f"{held}, 1 run is before it"},
    ]  # fmt: skip
    (urgent,) = server.admit(admit(priority=1))
    assert waits(server, urgent.run_uuid) == [{"kind": "slot", "text": f"{held}, it is next"}]
    server.register(spec("f", 4), spec("g"), spec("free", None))
    assert waits(server, urgent.run_uuid) == [{"kind": "worker", "text": "waits for a worker"}]


def test_of_many_queued_runs_only_the_holder_is_said(server: Server) -> None:
    (running,) = server.begin(*[admit() for _ in range(60)])
    items = list_runs(server.connection, RunFilter(state="queued"), Page(60))["items"]
    explain_waiting(server.connection, items)
    words = {item["waiting_for"]["text"] for item in items}
    assert words == {f"waits for a slot of f: run {running.uuid} has the one slot"}


def test_a_run_that_waits_for_its_group_says_so(server: Server) -> None:
    grouped = {"concurrency": {"limit": None, "key": None, "on_conflict": "queue", "group": {"name": "db", "limit": 2}}}
    server.register(spec("f", settings=grouped), spec("g", settings=grouped))
    commands = [admit(name, shared="group:db") for name in ("f", "g", "f")]
    server.begin(*commands)
    (words,) = waits(server, commands[-1].run.uuid)
    assert words["text"] == "waits for a slot of the group db: all 2 slots are taken, it is next"
    shown = {item["name"]: (item["limit"], item["held"], item["queued"]) for item in list_limits(server.connection)}
    assert shown == {"group:db": (2, 2, 1)}


def test_a_malformed_repeat_shares_a_row_with_first_last_and_count(server: Server) -> None:
    for _ in range(3):
        server.transact(*[note(flow=None, code="malformed", repeat_key="m") for _ in range(4)], note(repeat_key="n"))
        server.clock.advance(SECOND)
    shared, other = list_requests(server.connection, RequestFilter(), Page())["items"][::-1]
    assert (shared["count"], other["count"]) == (12, 3)
    assert shared["at"] < shared["last_at"]


@pytest.mark.parametrize("together", [True, False])
def test_a_repeat_is_told_the_id_of_the_row_it_shares(server: Server, together: bool) -> None:
    first, again, other = note(uuid="u1", repeat_key="m"), note(uuid="u2", repeat_key="m"), note(uuid="u3")
    if together:
        told, _ = server.transact(first, again, other)
    else:
        told = [server.write(command) for command in (first, again, other)]
    assert told == ["u1", "u1", "u3"]
    assert all(get_request(server.connection, uuid, "owner") for uuid in told)
