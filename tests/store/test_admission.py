"""Admission: ledger row, run and audit entry are one transaction, and on disk before anybody hears of it."""

from __future__ import annotations

import contextlib
import sqlite3

import psycopg
import pytest

from pullcord.core.errors import PullcordError
from pullcord.core.states import Outcome
from pullcord.store.commands.cancelling import CancelRun
from pullcord.store.queries.requests import get_request
from pullcord.store.queries.runs import load_runs, run_number
from pullcord.store.store import Store
from pullcord.store.transaction import ignore
from tests.store.harness import (
    LANE,
    NOON,
    ROOM,
    SECOND,
    Database,
    DrivenClock,
    Server,
    admit,
    entry,
    finished,
    note,
    spec,
)  # fmt: skip


def test_an_admitted_request_is_a_ledger_row_a_run_and_an_audit_entry(server: Server) -> None:
    command = admit("f", ledger={"inputs": '{"x":1}', "note": "because"}, inputs='{"x":1,"y":2}', priority=3, test=True)
    (decision,) = server.admit(command)
    (request,) = server.rows("SELECT * FROM requests")
    (run,) = server.rows("SELECT * FROM runs")
    (audit,) = server.rows("SELECT * FROM audit")
    assert decision.outcome is Outcome.ADMITTED
    assert (decision.request_uuid, decision.run_uuid) == (command.entry.uuid, command.run.uuid)
    assert decision.id == run["id"] == request["id"] == audit["subject_id"]
    assert (request["outcome"], request["inputs"], request["note"]) == ("admitted", '{"x":1}', "because")
    assert (run["state"], run["inputs"], run["priority"], run["test"]) == ("queued", '{"x":1,"y":2}', 3, 1)
    assert (run["attempt"], run["token"], run["losses"], run["takeovers"]) == (1, 0, 0, 0)
    assert (audit["action"], audit["invoker"]) == ("run.admit", "owner")
    assert request["at"] == run["queued_at"] == audit["at"] == server.clock.now()


def test_either_all_of_it_or_nothing(server: Server) -> None:
    taken = admit()
    server.admit(taken)
    before = {table: server.count(table) for table in ("requests", "runs", "audit", "keys")}
    with pytest.raises(Exception) as refused:
        server.admit(admit(key="k", uuid=taken.run.uuid))
    failure = server.connection.failure(refused.value)
    assert failure is not None and failure.of_the_values
    assert {table: server.count(table) for table in before} == before


async def test_what_was_answered_is_on_disk(database: Database, store: Store) -> None:
    decision = await store.write(lambda done: admit(key="k", done=done))
    other = database.reader()
    assert run_number(other, decision.run_uuid) == (decision.id, "queued", "f")
    other.close()


async def test_it_is_there_after_a_restart(database: Database, clock: DrivenClock) -> None:
    store = database.store(clock)
    store.start()
    decision = await store.write(lambda done: admit(done=done))
    await store.stop()
    again = database.store(clock)
    again.start()
    try:
        runs = await again.read(load_runs, [decision.run_uuid])
        request = await again.read(get_request, decision.request_uuid, "owner")
    finally:
        await again.stop()
    assert runs[decision.run_uuid]["state"] == "queued"
    assert runs[decision.run_uuid]["request_id"] == decision.request_uuid
    assert request is not None
    assert request["run_id"] == decision.run_uuid


def test_a_run_that_is_not_due_is_scheduled(server: Server) -> None:
    (decision,) = server.admit(admit(not_before=NOON + 60 * SECOND))
    assert decision.state == "scheduled"
    run = server.run(decision.id)
    assert (run["state"], run["not_before"], run["queued_at"]) == ("scheduled", NOON + 60 * SECOND, None)
    assert server.claim() == []


def test_a_dry_run_is_in_the_ledger_and_makes_no_run(server: Server) -> None:
    decisions = server.admit(admit(dry_run=True, key="k"), admit("free", limited=False, dry_run=True))
    assert [(d.outcome, d.run_uuid, d.state) for d in decisions] == [(Outcome.ADMITTED, None, "running")] * 2
    assert [row["dry_run"] for row in server.rows("SELECT dry_run FROM requests")] == [1, 1]
    assert (server.count("runs"), server.count("audit"), server.count("keys")) == (0, 0, 0)


def test_a_dry_run_foresees_the_queue(server: Server) -> None:
    server.begin(admit())
    server.admit(admit(), admit())
    (busy,) = server.admit(admit(dry_run=True))
    (later,) = server.admit(admit(dry_run=True, not_before=NOON + SECOND))
    assert (busy.state, busy.position) == ("queued", 3)
    assert (later.state, later.position) == ("scheduled", None)


def test_numbers_go_on_after_a_restart(server: Server) -> None:
    (first,) = server.admit(admit())
    server.restart()
    (second,) = server.admit(admit())
    assert second.id == first.id + 1


def test_requests_that_became_no_run_have_rows_too(server: Server) -> None:
    server.transact(
        note(flow="nowhere", code="unknown_flow", reason="there is no flow 'nowhere'"),
        admit(),
        note(flow=None, inputs=None, code="too_large"),
    )
    rows = server.rows("SELECT flow, outcome, code, reason FROM requests ORDER BY id")
    assert {(row["flow"], row["outcome"], row["code"]) for row in rows} == {
        ("f", "admitted", None), ("nowhere", "rejected", "unknown_flow"), (None, "rejected", "too_large"),
    }  # fmt: skip
    assert server.count("runs") == 1


@pytest.mark.parametrize("text", ["ü€😀", "quote ' \" \\", "tab\tnew\nline", "[1]", "null", "1", "true", " ", ""])
def test_any_text_comes_back_as_it_was(server: Server, text: str) -> None:
    server.admit(admit(ledger={"note": text, "trigger_name": text, "inputs": text}, inputs=text))
    (row,) = server.rows("SELECT note, trigger_name, inputs FROM requests")
    assert (row["note"], row["trigger_name"], row["inputs"]) == (text, text, text)
    assert server.rows("SELECT inputs FROM runs") == [{"inputs": text}]


@pytest.mark.parametrize("text", ["a\0b", "\0", "a\ud800b"])
def test_text_that_a_database_may_not_hold_is_kept_or_refused_but_never_changed(server: Server, text: str) -> None:
    with contextlib.suppress(ValueError, PullcordError, sqlite3.Error, psycopg.Error):
        server.transact(note(note=text, flow=text))
    assert server.rows("SELECT note, flow FROM requests") in ([], [{"note": text, "flow": text}])


# --- child runs --------------------------------------------------------------------------------------------------


def test_a_child_that_would_wait_for_its_ancestor_is_refused(server: Server) -> None:
    (parent,) = server.begin(admit())
    (child,) = server.begin(admit("g", parent_id=parent.id))
    (direct, grand) = server.admit(admit(parent_id=parent.id), admit(parent_id=child.id, request_id="r", key="k"))
    for decision in (direct, grand):
        assert (decision.outcome, decision.code, decision.run_uuid) == (Outcome.REJECTED, "would_deadlock", None)
        assert decision.reason is not None
    assert server.count("keys") == 0, "a refused request does not use up its keys"
    rows = server.rows("SELECT code, reason FROM requests WHERE outcome = 'rejected'")
    assert [row["code"] for row in rows] == ["would_deadlock"] * 2


def test_a_child_of_the_same_flow_runs_where_there_is_a_slot_for_it(server: Server) -> None:
    server.register(spec("f", 2))
    (parent,) = server.begin(admit())
    (child,) = server.begin(admit(parent_id=parent.id))
    (decision,) = server.admit(admit(parent_id=child.id))
    assert decision.code == "would_deadlock", "now its ancestors hold both"


def test_a_child_is_refused_when_its_ancestor_holds_one_slot_and_others_the_rest(server: Server) -> None:
    """Rule 8: a run never waits for a slot that its own ancestor holds. Two parents must not wait for each other."""
    server.register(spec("f", 2))
    parents = server.begin(admit(), admit())
    decisions = server.admit(*[admit(parent_id=parent.id) for parent in parents])
    assert [decision.code for decision in decisions] == ["would_deadlock"] * 2


@pytest.mark.parametrize("together", [True, False])
def test_a_child_that_is_asked_for_again_is_replayed_not_refused(server: Server, together: bool) -> None:
    """Rule 4 comes first: the child has its slot, and its parent, going on elsewhere, asks for it once more."""
    server.register(spec("f", 2))
    (parent,) = server.begin(admit())
    first, again = (admit(parent_id=parent.id, request_id="r") for _ in range(2))
    decisions = server.admit(first, again) if together else [*server.admit(first), *server.admit(again)]
    assert [decision.outcome for decision in decisions] == [Outcome.ADMITTED, Outcome.REPLAYED]
    assert {decision.run_uuid for decision in decisions} == {first.run.uuid}


def test_a_request_that_becomes_no_run_takes_no_slot_from_a_child(server: Server) -> None:
    server.register(spec("f", 3))
    (parent,) = server.begin(admit(key="k"))
    *_, child = server.admit(admit(key="k"), admit(dry_run=True), admit(parent_id=parent.id))
    assert child.outcome is Outcome.ADMITTED
    assert [run.id for run in server.claim()] == [child.id]


def test_a_child_without_a_limit_never_deadlocks(server: Server) -> None:
    (parent,) = server.begin(admit("free", limited=False))
    (decision,) = server.admit(admit("free", limited=False, parent_id=parent.id))
    assert decision.outcome is Outcome.ADMITTED


def test_an_ancestor_that_has_ended_holds_nothing(server: Server) -> None:
    (grandparent,) = server.begin(admit())
    (parent,) = server.begin(admit("free", limited=False, parent_id=grandparent.id))
    server.finish(finished(grandparent, "failed", error="{}"))
    (decision,) = server.admit(admit(parent_id=parent.id))
    assert decision.outcome is Outcome.ADMITTED


@pytest.mark.parametrize("end", ["cancelling", "cancelled", "failed", "succeeded"])
def test_a_run_that_stops_starts_nothing_more(server: Server, end: str) -> None:
    (parent,) = server.begin(admit("free", limited=False))
    if end.startswith("cancel"):
        server.cancel(parent.uuid)
    if end != "cancelling":
        server.finish(finished(parent, end, error="{}" if end == "failed" else None))
    assert server.run(parent.id)["state"] == end
    child = admit("free", limited=False, parent_id=parent.id, request_id="call")
    for _ in range(2):  # the refusal uses up no key: the answer is the same again, and no replay of a run
        (decision,) = server.admit(child)
        assert (decision.outcome, decision.code, decision.run_uuid) == (Outcome.REJECTED, "parent_stopped", None)
        assert end in (decision.reason or "")
    assert (server.count("runs"), server.count("keys")) == (1, 0)


def test_a_child_that_is_asked_for_while_its_parent_is_cancelled_does_not_escape(server: Server) -> None:
    (parent,) = server.begin(admit("free", limited=False))
    child = admit("free", limited=False, parent_id=parent.id)
    note = CancelRun(parent.uuid, "owner", None, False, "2026-01-01T00:00:00Z", ignore)
    (_, decision), claimed = server.transact(note, child, room=ROOM)
    assert decision.code == "parent_stopped", "in one transaction it comes after the cancel"
    assert claimed == []
    (parent,) = server.begin(admit("free", limited=False))
    child = server.begin(admit("free", limited=False, parent_id=parent.id))[0]
    grandchild = server.admit(admit("free", limited=False, parent_id=child.id))[0]
    changed = server.cancel(parent.uuid)
    assert [(ended.id, ended.state) for _, ended in changed] == [
        (parent.id, "cancelling"), (child.id, "cancelling"), (grandchild.id, "cancelled"),
    ]  # fmt: skip


# --- what the decision says at the end of the transaction, through the writer ---------------------------------------


class Everything:
    """Takes whatever may start."""

    floor = 0

    def __init__(self, room: dict[str, int]) -> None:
        self._room = room

    def room(self) -> dict[str, int]:
        return self._room

    def reserve(self, claimed: object) -> None:
        """Room is never used up here."""


async def test_the_answer_says_whether_it_runs_already_or_its_place(database: Database, clock: DrivenClock) -> None:
    setup = Server(database, clock)
    setup.register(spec("f"), spec("free", None))
    setup.close()
    store = database.store(clock)
    store.start()
    dispatched: list[int] = []
    store.serve(Everything(dict(ROOM)), lambda runs: dispatched.extend(run.id for run in runs))
    try:
        first = await store.write(lambda done: admit(done=done))
        second = await store.write(lambda done: admit(done=done))
        third = await store.write(lambda done: admit(done=done))
        urgent = await store.write(lambda done: admit(done=done, priority=5))
        free = await store.write(lambda done: admit("free", limited=False, done=done))
        homeless = await store.write(lambda done: admit("free", limited=False, lane=f"{LANE}2", done=done))
    finally:
        await store.stop()
    assert (first.state, first.position) == ("running", None)
    assert (second.state, second.position) == ("queued", 1)
    assert (third.state, third.position) == ("queued", 2)
    assert (urgent.state, urgent.position) == ("queued", 1), "it goes before those that wait with less priority"
    assert (free.state, free.position) == ("running", None)
    assert (homeless.state, homeless.position) == ("queued", None), "it waits for a worker, not for a slot"
    assert dispatched == [first.id, free.id]


def test_an_entry_that_becomes_something_else_keeps_the_rest() -> None:
    row = entry("f", note="n")
    changed = row.become(Outcome.SKIPPED, code="overlap_skipped")
    assert (changed.outcome, changed.code) == (Outcome.SKIPPED, "overlap_skipped")
    assert (changed.note, changed.uuid) == ("n", row.uuid)
    assert row.outcome is Outcome.ADMITTED
