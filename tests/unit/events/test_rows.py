"""Which rows fire, over SQLite and PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pullcord as pc
from pullcord.core.errors import DefinitionError
from pullcord.events import NewRows
from tests.unit.events.tables import Tables

QUERY = "SELECT id, customer FROM orders WHERE id > :cursor ORDER BY id"
BY_TIME = "SELECT id, at FROM orders WHERE at > :cursor ORDER BY at"

Make = Callable[..., NewRows]


@pytest.fixture
def watch(tables: Tables) -> Iterator[Make]:
    made: list[NewRows] = []

    def make(query: str = QUERY, address: str | None = None, **how: Any) -> NewRows:
        made.append(NewRows(address or tables.address, query, **how))
        return made[-1]

    yield make
    for event in made:
        event.teardown()


def fired(event: NewRows, state: pc.Cursor) -> list[Any]:
    """Poll; return the ids of the rows that were fired for."""
    seen = event.poll(state)
    assert json.loads(json.dumps(state.value)) == state.value
    return [] if isinstance(seen, pc.Skip) else [fire.context["id"] for fire in seen]


def test_each_row_fires_once(tables: Tables, watch: Make, state: pc.Cursor) -> None:
    event = watch()
    assert event.poll(state) == pc.Skip("no new rows")
    tables.order(1, 2)
    assert event.poll(state) == [pc.Fire({"id": 1, "customer": "c1"}), pc.Fire({"id": 2, "customer": "c2"})]
    assert fired(event, state) == []
    tables.order(7)
    assert fired(watch(), state) == [7]
    assert state.value == 7


def test_a_batch_is_one_fire(tables: Tables, watch: Make, state: pc.Cursor) -> None:
    tables.order(1, 2, 3)
    event = watch(batch=True, limit=2)
    assert event.poll(state) == [pc.Fire({"rows": [{"id": 1, "customer": "c1"}, {"id": 2, "customer": "c2"}]})]
    assert event.poll(state) == [pc.Fire({"rows": [{"id": 3, "customer": "c3"}]})]
    assert event.poll(state) == pc.Skip("no new rows")


def test_it_can_begin_later(tables: Tables, watch: Make, state: pc.Cursor) -> None:
    tables.order(1, 2, 3)
    assert fired(watch(start=2), state) == [3]


def test_a_time_can_be_the_cursor(tables: Tables, watch: Make, state: pc.Cursor) -> None:
    event = watch(BY_TIME, column="at", start="1970-01-01 00:00:00")
    tables.order(2, at="2026-01-02 03:04:05.678901")
    tables.order(1, at="2026-01-03 03:04:05")
    assert fired(event, state) == [2, 1]
    assert fired(event, state) == []
    tables.order(3, at="2026-01-03 03:04:06")
    assert fired(event, state) == [3]


def test_rows_at_one_position_stay_together(tables: Tables, watch: Make, state: pc.Cursor) -> None:
    tables.order(1, at="2026-01-01 00:00:00")
    tables.order(2, 3, 4, at="2026-01-01 00:00:01")
    tables.order(5, at="2026-01-01 00:00:02")
    event = watch(BY_TIME, column="at", start="1970-01-01 00:00:00", limit=3)
    assert fired(event, state) == [1]
    assert sorted(fired(event, state)) == [2, 3, 4]
    assert fired(event, state) == [5]
    small = watch(BY_TIME, column="at", start="2026-01-01 00:00:00", limit=2)
    with pytest.raises(pc.PollError, match="more than 2 rows have the same at") as caught:
        small.poll(pc.Cursor())
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("query", "how", "message"),
    [
        ("SELECT id FROM orders WHERE id > :cursor ORDER BY id DESC", {}, "not in order; write ORDER BY id"),
        ("SELECT id FROM orders WHERE id >= :cursor ORDER BY id", {"start": 1}, "write id > :cursor"),
        (QUERY, {"column": "number"}, "gives no column 'number'"),
        ("SELECT CASE id WHEN 1 THEN 1 END AS id FROM orders WHERE id > :cursor ORDER BY 1", {}, "has no order"),
        ("SELECT id FROM invoices WHERE id > :cursor", {}, "invoices"),
        ("SELECT id FORM orders WHERE id > :cursor", {}, "syntax error"),
        (
            "SELECT id FROM orders WHERE id > :cursor AND id < :most",
            {},
            "the query cannot be asked: A value is required for",
        ),
    ],
)
def test_a_query_that_cannot_work_is_permanent(
    tables: Tables, watch: Make, state: pc.Cursor, query: str, how: dict[str, Any], message: str
) -> None:
    tables.order(1, 2)
    with pytest.raises(pc.PollError, match=message) as caught:
        watch(query, **how).poll(state)
    assert caught.value.permanent
    assert state.value is None


def test_what_a_query_changes_is_rolled_back(tables: Tables, watch: Make, state: pc.Cursor) -> None:
    tables.order(1)
    changing = watch("UPDATE orders SET customer = 'x' WHERE id > :cursor RETURNING id")
    if tables.is_postgres:  # where it is refused at once: such a statement cannot be read through a cursor
        with pytest.raises(pc.PollError):
            changing.poll(state)
    else:
        assert fired(changing, state) == [1]
    assert tables.execute("SELECT customer FROM orders") == "c1"


def test_a_connection_that_was_lost_is_made_anew(tables: Tables, watch: Make, state: pc.Cursor) -> None:
    event = watch()
    tables.order(1)
    assert fired(event, state) == [1]
    if tables.is_postgres:
        tables.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid != pg_backend_pid()"
        )
    else:
        event.teardown()
    tables.order(2)
    assert fired(event, state) == [2]


def test_a_database_that_is_away_is_asked_again(watch: Make, state: pc.Cursor, closed_port: int) -> None:
    away = watch(address=f"postgresql+psycopg://ada@127.0.0.1:{closed_port}/orders")
    with pytest.raises(pc.PollError, match=r"the database says: .*refused") as caught:
        away.poll(state)
    assert not caught.value.permanent


def test_the_address_may_be_a_variable(
    tables: Tables, watch: Make, state: pc.Cursor, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables.order(1)
    event = watch(address="env:ORDERS_DATABASE")
    monkeypatch.delenv("ORDERS_DATABASE", raising=False)
    with pytest.raises(pc.PollError, match="the variable ORDERS_DATABASE is not set") as caught:
        event.poll(state)
    assert caught.value.permanent
    monkeypatch.setenv("ORDERS_DATABASE", tables.address)
    assert fired(event, state) == [1]


@pytest.mark.parametrize(
    "address", ["nonsense://ada:hush@host/orders", "oracle+hush://x/y", "postgresql+psycopg2://x/"]
)
def test_an_unknown_kind_or_a_missing_driver_is_permanent(
    address: str, state: pc.Cursor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERS_DATABASE", address)
    with pytest.raises(pc.PollError, match=r"cannot be asked|driver of the database is missing") as caught:
        NewRows("env:ORDERS_DATABASE", QUERY).poll(state)
    assert caught.value.permanent
    assert "hush" not in caught.value.message


@pytest.mark.parametrize(
    "address", ["postgresql://ada:hush@host/x", "postgresql://host/x?user=a&password=hush", "mysql://a:hush@[/x"]
)
def test_a_password_in_the_declaration_is_refused(address: str) -> None:
    with pytest.raises(DefinitionError, match="write 'env:VARIABLE'") as caught:
        pc.events.rows(address, QUERY, flow="load")
    assert "hush" not in caught.value.message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"address": "orders.db"}, "is no database address"),
        ({"query": "SELECT 1"}, "needs :cursor"),
        ({"limit": 0}, "limit is 1 to 10000"),
        ({"limit": 10_001}, "limit is 1 to 10000"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        pc.events.rows(**({"address": "sqlite:///x.db", "query": QUERY, "flow": "load"} | arguments))


def test_the_function_declares_an_event() -> None:
    event = pc.events.rows("env:ORDERS", QUERY, flow=["load", "more"], batch=True)
    assert (event.name, event.flows) == ("load-rows", ["load", "more"])
    assert event.parameters == {
        "address": "env:ORDERS", "query": QUERY, "column": "id", "start": 0, "batch": True, "limit": 500,
    }  # fmt: skip


def test_a_declaration_does_not_load_sqlalchemy() -> None:
    code = (
        "import sys, pullcord as pc\n"
        f"pc.events.rows('postgresql://host/x', {QUERY!r}, flow='load')\n"
        "assert not {'sqlalchemy', 'psycopg'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
