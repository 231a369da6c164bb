"""What the store remembers of flows."""

from __future__ import annotations

from pullcord.core.retry import Retry
from pullcord.store.commands.catalog import RegisterFlows
from pullcord.store.queries.flows import counts, last_runs, removed_flows, stored_flows
from pullcord.store.transaction import ignore
from tests.store.harness import LOCATION, NOON, ROOM, Server, admit, finished, spec


def names(server: Server) -> set[str]:
    """Return the flows that are there."""
    return set(stored_flows(server.connection))


def test_a_flow_comes_back_as_it_was_registered(server: Server) -> None:
    flow = spec(
        "rich", 3, description="Ü\n*x*", input_schema={"properties": {"a": {"default": 2**63}}}, is_async=True,
        settings={"concurrency": 3, "retries": Retry(limit=2).as_json(), "tags": ["a"], "isolated": True},
    )  # fmt: skip
    server.register(flow, location="rich-location")
    stored = stored_flows(server.connection)["rich"]
    assert stored == flow
    assert stored.retry == Retry(limit=2)
    assert stored.concurrency.slot("rich", "{}") == "rich"


def test_a_flow_that_left_its_location_is_gone(server: Server) -> None:
    server.register(spec("f"), spec("g"))
    assert names(server) == {"f", "g"}
    server.register(spec("f"), spec("free", None))
    assert names(server) == {"f", "free"}, "it may come back"


def test_a_flow_that_is_missing_while_something_is_broken_is_kept(server: Server) -> None:
    server.register(spec("f"), complete=False)
    assert names(server) == {"f", "g", "free"}


def test_a_location_says_nothing_about_anothers_flows(server: Server) -> None:
    server.register(spec("h", location="two"), location="two")
    assert names(server) == {"f", "g", "free", "h"}
    server.register(location="two")
    assert names(server) == {"f", "g", "free"}


def test_a_flow_that_moved_is_not_removed_by_its_old_location(server: Server) -> None:
    server.register(spec("f", location="two"), location="two")
    server.register(spec("g"), spec("free", None), location=LOCATION)
    assert stored_flows(server.connection)["f"].location == "two"


def test_the_newest_run_of_each_flow(server: Server) -> None:
    (first,) = server.begin(admit())
    server.finish(finished(first))
    (second,) = server.begin(admit())
    found = last_runs(server.connection, ["f", "g"])
    assert set(found) == {"f"}
    assert (found["f"]["id"], found["f"]["state"], found["f"]["ended_at"]) == (second.uuid, "running", None)


def test_runs_are_counted_by_state(server: Server) -> None:
    server.begin(admit(), admit(), admit("g", not_before=NOON * 2))
    (done,) = server.begin(admit("free", limited=False))
    server.finish(finished(done))
    assert counts(server.connection) == {"running": 1, "queued": 1, "scheduled": 1}


def test_runs_that_are_admitted_beside_the_registration_of_a_limit_count_against_it(server: Server) -> None:
    register = RegisterFlows(LOCATION, [spec("f"), spec("g"), spec("free", 1)], True, ignore)
    _, claimed = server.transact(register, admit("free", limited=False), admit("free", limited=False), room=ROOM)
    assert [row["slot"] for row in server.rows("SELECT slot FROM runs")] == ["free", "free"]
    assert len(claimed) == 1


def test_the_size_of_the_database(server: Server) -> None:
    before = server.connection.size()
    assert before > 0
    for _ in range(20):
        server.admit(*[admit("free", limited=False, inputs=f'"{"x" * 1000}"') for _ in range(50)])
    assert server.connection.size() >= before + 1_000_000


THREE = {"location": "three"}


def test_queued_runs_of_a_removed_flow_wait_for_its_return(server: Server) -> None:
    gone, stays = spec("gone", **THREE), spec("stays", None, **THREE)
    server.register(gone, stays, **THREE)
    lane = {"lane": gone.lane}
    server.admit(admit("gone", **lane), admit("gone", **lane), admit("gone", not_before=NOON * 2, **lane))
    (active,) = server.claim({gone.lane: 9})
    server.register(stays, **THREE)

    assert set(removed_flows(server.connection)) >= {"gone"}
    waiting = [run for run in server.rows("SELECT * FROM runs WHERE flow = 'gone' ORDER BY id") if run["waiting_for"]]
    assert [run["state"] for run in waiting] == ["queued", "scheduled"], "what is in a worker goes on there"
    assert "it was removed from three" in waiting[0]["waiting_for"]
    server.finish(finished(active))
    assert server.claim({gone.lane: 9}) == []
    server.restart()
    server.register(stays, **THREE)
    assert server.claim({gone.lane: 9}) == []

    server.register(spec("gone", 2, location="four"), location="four")
    (claimed,) = server.claim({"four#sync": 9})
    assert (claimed.id, claimed.lane) == (waiting[0]["id"], "four#sync")
    for run in waiting:
        row = server.run(run["id"])
        assert (row["slot"], row["lane"], row["waiting_for"]) == ("gone", "four#sync", None)


def test_a_flow_that_is_back_is_not_among_the_removed(server: Server) -> None:
    server.register(spec("once", **THREE), **THREE)
    server.register(**THREE)
    stored, at = removed_flows(server.connection)["once"]
    assert (stored, at) == (spec("once", **THREE), server.clock.now())
    server.register(spec("once", **THREE), **THREE)
    assert "once" not in removed_flows(server.connection)
