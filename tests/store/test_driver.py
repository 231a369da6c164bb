"""Which index a list walks along: the one that is through first; and whichever it is, the list is the same."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullcord.store.queries import driver as driver_module
from pullcord.store.queries.driver import TABLE, choose, driver
from pullcord.store.queries.page import Page
from pullcord.store.queries.requests import RequestFilter, list_requests
from pullcord.store.queries.runs import RunFilter, list_runs
from tests.store.harness import Server, admit, finished, note

FLOWS = ("f", "g", "free")


@pytest.mark.parametrize(
    ("counts", "size", "way"),
    [
        ({"flow": 3, "state": 500}, 1_000_000, "flow"),
        ({"flow": 500, "state": 3}, 1_000_000, "state"),
        ({"flow": 0, "state": 500}, 1_000_000, "flow"),
        ({"flow": 20_000, "state": 4_000}, 1_000_000, "state"),
        ({"flow": 900, "state": 950}, 1_000, TABLE),
        ({"flow": 20_000, "state": 20_000}, 21_000, TABLE),
    ],
)
def test_the_way_with_the_fewest_rows_to_look_at(counts: dict[str, int], size: int, way: str) -> None:
    assert choose(counts, size, 51) == way


@given(st.integers(0, 20_000), st.integers(0, 20_000), st.integers(0, 10**7), st.integers(2, 1001))
def test_there_is_always_a_way(flow: int, state: int, size: int, wanted: int) -> None:
    assert choose({"flow": flow, "state": state}, size, wanted) in (TABLE, "flow", "state")


def test_nothing_is_counted_for_a_single_filter(server: Server) -> None:
    way = driver(server.connection, {"t": "runs"}, {"t.flow": "t.flow = :flow"}, {}, range(0, 2**62), 51)
    assert way == (TABLE if server.connection.keeps_statistics else "t.flow")
    assert driver(server.connection, {"t": "runs"}, {}, {}, range(0, 2**62), 51) == TABLE


def test_where_counts_tie_the_runs_of_several_flows_are_not_sorted() -> None:
    filters, _, _ = RunFilter(flows=("f", "g"), state="failed", invoker="ada").conditions()
    assert list(filters)[-1] == "t.flow"
    assert choose(dict.fromkeys(filters, 8_000), 1_000_000, 51) != "t.flow"


@pytest.fixture
def mixed(server: Server) -> Server:
    """Make runs and requests of every mixture."""
    for index in range(120):
        flow, who = FLOWS[index % 3], ("ada", "bob")[index % 7 == 0]
        server.clock.advance(1_000_000)
        run = admit(flow, limited=False, invoker=who)
        for work in server.begin(run):
            if index % 2:
                server.finish(finished(work, "succeeded" if index % 5 else "failed"))
        if index % 4 == 0:
            server.write(note(flow=flow, invoker=who))
    return server


RUN_CHOICES = {
    "flow": [None, "f", "never"],
    "flows": [None, (), ("f", "g"), ("free",)],
    "state": [None, "failed", "running"],
    "invoker": [None, "ada", "bob"],
    "trigger": [None, "manual", "cron"],
    "half": [None, "since", "until"],
}


@pytest.mark.parametrize("bounds", [(1, 2), (500, 8_000)], ids=["all seem many", "all are few"])
def test_every_mixture_of_filters_lists_the_right_runs(
    mixed: Server, bounds: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "BOUNDS", (0, *bounds))
    rows = mixed.rows("SELECT r.*, q.at FROM runs r JOIN requests q ON q.id = r.id ORDER BY r.id DESC")
    middle = rows[60]["at"]
    for flow, flows, state, invoker, trigger, half in itertools.product(*RUN_CHOICES.values()):
        window = {} if half is None else {half: middle}
        which = RunFilter(flow, flows, state, trigger, invoker, **window)  # type: ignore[arg-type]
        wanted = [
            row["uuid"]
            for row in rows
            if flow in (None, row["flow"])
            and (flows is None or row["flow"] in flows)  # type: ignore[operator]
            and state in (None, row["state"])
            and invoker in (None, row["invoker"])
            and trigger in (None, row["trigger_kind"])
            and (half != "since" or row["at"] >= middle)
            and (half != "until" or row["at"] < middle)
        ]
        first = list_runs(mixed.connection, which, Page(10))
        rest = list_runs(mixed.connection, which, Page(1000, first["next"])) if first["next"] else {"items": []}
        assert [item["id"] for item in first["items"] + rest["items"]] == wanted, which


def test_every_mixture_of_filters_lists_the_right_requests(mixed: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "BOUNDS", (0, 5, 20))
    rows = mixed.rows("SELECT * FROM requests ORDER BY id DESC")
    for flow, outcome, invoker in itertools.product((None, "f"), (None, "admitted", "rejected"), (None, "ada", "bob")):
        which = RequestFilter(flow, outcome, None, invoker)
        wanted = [
            row["uuid"]
            for row in rows
            if flow in (None, row["flow"]) and outcome in (None, row["outcome"]) and invoker in (None, row["invoker"])
        ]
        listed = list_requests(mixed.connection, which, Page(1000))
        assert [item["request_id"] for item in listed["items"]] == wanted, which
