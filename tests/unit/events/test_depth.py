"""When a queue's depth fires, over SQLite and PostgreSQL, and for a subclass."""

from __future__ import annotations

from typing import Any

import pytest

import pullcord as pc
from pullcord.core.errors import DefinitionError
from pullcord.events import QueueDepth
from tests.unit.events.tables import Tables

COUNT = "SELECT count(*) FROM orders"


class Backlog(QueueDepth):
    """A queue in memory."""

    now = 0

    def depth(self) -> int:
        return self.now


def polls(event: Backlog, state: pc.Cursor, depths: list[int]) -> list[tuple[int, str | None]]:
    """Poll at each depth; return depth and key of the fires."""
    fires = []
    for event.now in depths:
        seen = event.poll(state)
        if isinstance(seen, pc.Fire):
            assert seen.context == {"depth": event.now}
            fires.append((event.now, seen.key))
    return fires


def test_it_fires_when_the_threshold_is_reached_and_again_after_a_rest(state: pc.Cursor) -> None:
    event = Backlog(threshold=10, low=5)
    assert polls(event, state, [0, 9, 10, 11, 10]) == [(10, "1")]
    assert polls(event, state, [9, 6, 10, 50]) == []
    assert polls(event, state, [5, 9]) == []
    assert polls(Backlog(threshold=10, low=5), state, [12, 12]) == [(12, "2")]


def test_half_the_threshold_is_low_unless_given(state: pc.Cursor) -> None:
    assert polls(Backlog(threshold=5), state, [5, 3, 5, 2, 5]) == [(5, "1"), (5, "2")]
    assert polls(Backlog(threshold=1), pc.Cursor(), [0, 1, 1, 0, 1]) == [(1, "1"), (1, "2")]


def test_skips_say_what_it_waits_for(state: pc.Cursor) -> None:
    event = Backlog(threshold=10, details=True)
    assert event.poll(state) == pc.Skip("below 10")
    assert state.value is None
    event.now = 10
    assert event.poll(state) == pc.Fire({"depth": 10, "threshold": 10}, key="1")
    assert event.poll(state) == pc.Skip("has fired already; waits for 5 or fewer")


def test_a_query_counts(tables: Tables, state: pc.Cursor) -> None:
    event = QueueDepth(2, address=tables.address, query=COUNT)
    assert event.poll(state) == pc.Skip("below 2")
    tables.order(1, 2, 3)
    assert event.poll(state) == pc.Fire({"depth": 3}, key="1")
    tables.execute("DELETE FROM orders")
    assert event.poll(state) == pc.Skip("below 2")
    tables.order(4, 5)
    assert event.poll(state) == pc.Fire({"depth": 2}, key="2")
    event.teardown()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT id FROM orders", "must give one whole number"),
        ("SELECT id FROM orders WHERE id < 0", "must give one whole number"),
        ("SELECT 1, 2", "must give one whole number"),
        ("SELECT 'many'", "must give one whole number"),
        ("SELECT count(*) FROM invoices", "invoices"),
    ],
)
def test_a_query_that_gives_no_number_is_permanent(tables: Tables, state: pc.Cursor, query: str, message: str) -> None:
    tables.order(1, 2)
    event = QueueDepth(2, address=tables.address, query=query)
    with pytest.raises(pc.PollError, match=message) as caught:
        event.poll(state)
    assert caught.value.permanent
    event.teardown()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0}, "low must be below the threshold"),
        ({"threshold": 5, "low": 5}, "low must be below the threshold"),
        ({"threshold": 5, "low": -1}, "low must be below the threshold"),
        ({"threshold": 5, "address": "sqlite:///x.db"}, "address and query go together"),
        ({"threshold": 5}, r"a subclass with a method depth\(\)"),
    ],
)
def test_what_cannot_work_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        QueueDepth(**arguments)


def test_the_function_declares_an_event() -> None:
    event = pc.events.depth("env:JOBS", COUNT, 100, flow="load", low=10)
    assert (event.name, event.parameters["threshold"], event.parameters["low"]) == ("load-depth", 100, 10)
    with pytest.raises(DefinitionError, match="low must be below"):
        pc.events.depth("env:JOBS", COUNT, 100, flow="load", low=100)
