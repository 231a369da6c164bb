"""Whatever is pruned: what has not ended stays with all that it refers to, and the store can account for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pullcord.core.states import ENDED, Outcome
from pullcord.store.commands.keys import RETENTION
from pullcord.store.commands.prune import Pruned, PruneHistory, PruneRequests, PruneRuns
from pullcord.store.commands.triggers import DropEndings, RegisterTriggers
from pullcord.store.queries.invariants.examine import examine
from pullcord.store.queries.page import Page
from pullcord.store.queries.requests import RequestFilter, find_originals, list_requests
from pullcord.store.queries.retention import (
    Kept,
    beyond,
    flows_with_runs,
    prunable_history,
    prunable_requests,
    prunable_runs,
    spared_runs,
)
from pullcord.store.queries.runs import RunFilter, list_runs
from pullcord.store.transaction import ignore
from tests.store.harness import DAY, SECOND, Database, Server, admit, finished, note, spec, step
from tests.store.test_triggers import declared, fire, line

EVERYTHING = 2**62
"""A time that everything is older than."""


def prune(server: Server, *ids: int, ledger: int = 0) -> Pruned:
    pruned: Pruned = server.write(PruneRuns(list(ids), ledger, ignore))
    return pruned


def broken(server: Server) -> list[str]:
    return [verdict.name for verdict in examine(server.connection) if verdict.broken]


def ended(server: Server, flow: str = "free", **how: Any) -> int:
    """Make a run that has ended; return its number."""
    (run,) = server.begin(admit(flow, limited=False, **how))
    server.record(step(run))
    server.finish(finished(run))
    return run.id


def test_a_run_goes_with_its_steps_and_its_request_says_so(server: Server) -> None:
    number = ended(server)
    uuid = server.run(number)["uuid"]
    pruned = prune(server, number)
    assert (pruned.runs, pruned.requests, pruned.rows) == ([uuid], 0, 1)
    assert (server.count("runs"), server.count("steps"), server.count("requests")) == (0, 0, 1)
    (row,) = list_requests(server.connection, RequestFilter(), Page())["items"]
    assert (row["outcome"], row["run_id"], row["state"], row["run_pruned"]) == ("admitted", uuid, None, True)
    assert broken(server) == []


def test_an_old_request_goes_with_its_run_and_no_number_is_given_twice(server: Server) -> None:
    first, last = ended(server), ended(server)
    assert prune(server, first, last, ledger=EVERYTHING).requests == 1
    assert [row["id"] for row in server.rows("SELECT id FROM requests")] == [last], "the newest stays"
    assert ended(server) > last
    assert broken(server) == []


@pytest.mark.parametrize("relation", ["parent_id", "rerun_of", "resumed_from"])
def test_what_an_unended_run_refers_to_stays(server: Server, relation: str) -> None:
    origin = ended(server)
    asked = admit("free", limited=False)
    (later,) = server.begin(asked)
    trigger = ", trigger_kind = 'flow'" if relation == "parent_id" else ""
    server.connection.execute(f"UPDATE runs SET {relation} = {origin}{trigger} WHERE id = {later.id}")
    if trigger:
        server.connection.execute(f"UPDATE requests SET trigger_kind = 'flow' WHERE id = {later.id}")
    assert prune(server, origin).rows == 0
    server.finish(finished(later))
    assert prune(server, origin).rows == 1
    assert broken(server) == []
    (run,) = list_runs(server.connection, RunFilter(), Page())["items"]
    assert {run["parent_id"], run["rerun_of"], run["resumed_from"]} == {None}
    assert prune(server, origin, later.id, ledger=EVERYTHING).rows == 1
    assert broken(server) == []


def test_a_child_stays_while_its_parent_may_ask_for_its_result(server: Server) -> None:
    (parent,) = server.begin(admit("free", limited=False))
    child = ended(server, parent_id=parent.id, ledger={"trigger_kind": "flow"})
    assert prune(server, child).rows == 0
    server.finish(finished(parent))
    assert prune(server, child, parent.id).rows == 2
    assert broken(server) == []


@pytest.mark.parametrize("state", ["scheduled", "queued", "running", "waiting", "cancelling"])
def test_what_has_not_ended_stays(server: Server, state: str) -> None:
    (decision,) = server.admit(
        admit("free", limited=False, not_before=server.clock.now() + DAY if state == "scheduled" else None)
    )
    for run in server.claim() if state not in ("scheduled", "queued") else []:
        if state == "waiting":
            server.wait(run, "x")
        elif state == "cancelling":
            server.cancel(run.uuid)
    assert server.states() == {decision.id: state}
    assert prune(server, decision.id, ledger=EVERYTHING) == Pruned(seconds=pytest.approx(0, abs=10))
    assert server.states() == {decision.id: state}


def test_an_end_that_is_still_to_start_others_stays(server: Server) -> None:
    server.write(RegisterTriggers("etl", None, [], [], [], ["free"], ignore))
    number = ended(server)
    assert prune(server, number).rows == 0
    server.write(DropEndings([number], ignore))
    assert prune(server, number).rows == 1


def test_a_key_is_answered_with_the_run_that_is_gone_until_it_expires(server: Server) -> None:
    asked = admit("free", limited=False, key="k")
    (run,) = server.begin(asked)
    server.finish(finished(run))
    ended(server)
    assert prune(server, run.id, ledger=EVERYTHING).requests == 0, "the key holds the request"
    original = find_originals(server.connection, list(asked.identities), server.clock.now())[asked.identities[0]]
    assert (original.run_uuid, original.state, original.matches) == (run.uuid, None, True)
    (decision,) = server.admit(replace(asked, run=replace(asked.run, uuid="another")))
    assert (decision.outcome, decision.run_uuid) == (Outcome.REPLAYED, run.uuid)
    assert broken(server) == []
    server.clock.advance(RETENTION + SECOND)
    assert server.write(PruneRequests([run.id], EVERYTHING, ignore)).rows == 1
    assert server.rows("SELECT * FROM keys WHERE key = 'k'") == []
    assert broken(server) == [], "a replay that is kept longer than what it repeats"


def test_requests_go_by_age_and_not_with_a_run(server: Server) -> None:
    run = ended(server)
    refused = [server.write(note(code="invalid_inputs", reason="n: is missing")) for _ in range(3)]
    assert len(refused) == 3
    old = server.clock.now() + 1
    server.clock.advance(DAY)
    server.write(note(code="invalid_inputs", reason="n: is missing"))
    part = prunable_requests(server.connection, old, 0, 0)
    assert part.after is None
    assert run not in part.ids
    assert len(part.ids) == 3
    assert server.write(PruneRequests([run, *part.ids, run + 4], old, ignore)).rows == 3
    assert broken(server) == []


def test_what_is_lost_is_still_found_when_something_was_pruned(server: Server) -> None:
    first, second, third = ended(server), ended(server), ended(server)
    prune(server, first, ledger=EVERYTHING)
    prune(server, second)
    assert broken(server) == []
    server.connection.execute(f"DELETE FROM steps WHERE run_id = {third}")
    server.connection.execute(f"DELETE FROM runs WHERE id = {third}")
    assert {
        "every admitted request has its run",
        "a run is gone because it was pruned",
        "every audit entry is about a run that exists",
    } <= set(broken(server))


def test_lost_below_the_watermark_is_found_by_the_count(server: Server) -> None:
    first, second, third = ended(server), ended(server), ended(server)
    ended(server)
    prune(server, second, third, ledger=EVERYTHING)
    server.connection.execute(f"DELETE FROM steps WHERE run_id = {first}")
    server.connection.execute(f"DELETE FROM runs WHERE id = {first}")
    server.connection.execute(f"DELETE FROM requests WHERE id = {first}")
    assert broken(server) == ["a run is gone because it was pruned"]


def test_the_newest_line_of_a_history_stays(server: Server) -> None:
    server.write(RegisterTriggers("etl", None, [declared(1), declared(2, "other")], [], [], [], ignore))
    for index in range(3):
        server.write(fire(number=1, history=line("failed", f"no. {index}")))
    server.write(fire(number=2, history=line("failed", "once")))
    before = server.clock.now() + DAY
    part = prunable_history(server.connection, before, 0)
    assert len(part.ids) == 2
    every = [row["id"] for row in server.rows("SELECT id FROM trigger_history")]
    assert server.write(PruneHistory(every, before, ignore)).rows == 2
    kept = server.rows("SELECT reason FROM trigger_history ORDER BY id")
    assert [row["reason"] for row in kept] == ["no. 2", "once"]


def test_the_last_run_and_the_last_success_are_spared_and_a_count_keeps_the_newest(server: Server) -> None:
    numbers = [ended(server) for _ in range(5)]
    (failing,) = server.begin(admit("free", limited=False))
    server.finish(finished(failing, "failed", error='{"type":"E","message":"m"}'))
    ended(server, "g")
    assert flows_with_runs(server.connection) == ["free", "g"]
    spared = spared_runs(server.connection, "free")
    assert spared == {numbers[-1], failing.id}
    by_count = beyond(server.connection, "free", 3)
    assert by_count == numbers[2]
    kept = Kept(0, 0, 0, by_count, spared)
    assert prunable_runs(server.connection, "free", kept, 0).ids == numbers[:3]
    server.clock.advance(DAY)
    late = ended(server)
    kept = Kept(server.clock.now() - DAY // 2, 0, 0, 0, spared)
    part = prunable_runs(server.connection, "free", kept, 0)
    assert part.ids == numbers[:4]
    assert late not in part.ids
    assert beyond(server.connection, "free", 100) == 0


FLOWS = ("free", "g")
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "child", "again", "claim", "end", "cancel", "refuse", "prune", "requests", "later"]),
        st.integers(0, 30),
        st.integers(0, 30),
    ),
    min_size=5,
    max_size=60,
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations=OPERATIONS)
def test_whatever_is_pruned_the_rules_hold_and_what_goes_on_stays(
    empty: Callable[[], Database], operations: list[tuple[str, int, int]]
) -> None:
    server = Server(empty())
    try:
        server.connection.execute("INSERT INTO meta (name, value) VALUES ('incarnation', '1')")
        server.register(spec("g", None), spec("free", None))
        working: list[Any] = []
        for what, one, other in operations:
            carry_out(server, working, what, one, other)
        assert broken(server) == []
        left = {run.id for run in working}
        assert left <= set(server.states()), "nothing that a worker has is gone"
        # It all comes to an end, and then everything may go.
        server.claim()
        for row in server.rows("SELECT uuid, state FROM runs"):
            if row["state"] not in ENDED:
                server.cancel(row["uuid"])
        server.restart()
        server.connection.execute("UPDATE meta SET value = '2' WHERE name = 'incarnation'")
        prune(server, *server.states(), ledger=EVERYTHING)
        assert server.states() == {}
        assert broken(server) == []
    finally:
        server.close()


def carry_out(server: Server, working: list[Any], what: str, one: int, other: int) -> None:
    numbers = sorted(server.states())
    unended = {number: state for number, state in server.states().items() if state not in ENDED}
    if what == "ask":
        server.admit(admit(FLOWS[one % 2], limited=False, key=str(one % 4), sent=str(other % 2), validated=str(other)))
    elif what == "child" and working:
        parent = working[one % len(working)]
        server.admit(admit("free", limited=False, parent_id=parent.id, ledger={"trigger_kind": "flow"}))
    elif what == "again" and numbers:
        server.admit(admit("free", limited=False, rerun_of=numbers[one % len(numbers)]))
    elif what == "claim":
        working += server.claim(dict.fromkeys(("etl#sync",), one))
    elif what == "end" and working:
        run = working.pop(one % len(working))
        server.record(step(run))
        server.finish(finished(run))
    elif what == "cancel" and numbers:
        uuid = server.run(numbers[one % len(numbers)])["uuid"]
        server.cancel(uuid)
    elif what == "refuse":
        server.write(note(code="invalid_inputs", reason="n: is missing"))
    elif what == "prune":
        prune(server, *numbers[one % 5 :], ledger=EVERYTHING if other % 2 else 0)
        assert unended.items() <= server.states().items()
    elif what == "requests":
        every = [row["id"] for row in server.rows("SELECT id FROM requests")]
        server.write(PruneRequests(every[one % 5 :], EVERYTHING, ignore))
        assert server.states().keys() >= unended.keys()
    elif what == "later":
        server.clock.advance(one * DAY)
