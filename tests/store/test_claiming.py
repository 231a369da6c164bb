"""Claiming: order, priority, limits, room, and that no run is forgotten (design rule 8)."""

from __future__ import annotations

from typing import Any

import pytest

from pullcord.store.commands.claim import Claimed
from tests.store.harness import LANE, LOCATION, NOON, ROOM, Server, admit, finished, spec

OTHER = "other#async"
ISOLATED = f"{LOCATION}#isolated"
FREE: dict[str, Any] = {"flow": "free", "limited": False}


def numbers(claimed: list[Claimed]) -> list[int]:
    """Return the numbers of claimed runs."""
    return [run.id for run in claimed]


def test_a_claim_has_all_that_a_worker_needs(server: Server) -> None:
    command = admit(
        inputs='{"x":1}', flow_version="v7", test=True, request_id="r",
        ledger={"trigger_kind": "cron", "trigger_name": "nightly", "invoker_kind": "user", "on_behalf_of": '["a"]'},
    )  # fmt: skip
    (run,) = server.begin(command)
    assert (run.token, run.uuid, run.flow, run.inputs, run.attempt) == (1, command.run.uuid, "f", '{"x":1}', 1)
    assert (run.lane, run.flow_version, run.test, run.request_uuid) == (LANE, "v7", 1, "r")
    assert (run.invoker, run.invoker_kind, run.on_behalf_of) == ("owner", "user", '["a"]')
    assert (run.trigger_kind, run.trigger_name) == ("cron", "nightly")
    row = server.run(run.id)
    assert (row["state"], row["owner"], row["started_at"]) == ("running", server.owner, server.clock.now())


def test_the_first_come_are_the_first_served(server: Server) -> None:
    ids = [server.admit(admit(**FREE))[0].id for _ in range(5)]
    assert numbers(server.claim({LANE: 2})) == ids[:2]
    assert numbers(server.claim({LANE: 2})) == ids[2:4]
    assert numbers(server.claim({LANE: 2})) == ids[4:]


def test_a_higher_priority_goes_first_and_equals_go_in_order(server: Server) -> None:
    priorities = [0, 5, -3, 5, 0]
    low, high, last, high_too, low_too = (d.id for d in server.admit(*[admit(**FREE, priority=p) for p in priorities]))
    order = [server.claim({LANE: 1})[0].id for _ in priorities]
    assert order == [high, high_too, low, low_too, last]


def test_priority_counts_among_flows_with_and_without_a_limit(server: Server) -> None:
    asked = [admit(priority=1), admit(**FREE, priority=2), admit("g", priority=3), admit(**FREE)]
    ids = [decision.id for decision in server.admit(*asked)]
    assert [server.claim({LANE: 1})[0].id for _ in ids] == [ids[2], ids[1], ids[0], ids[3]]


def test_priority_counts_before_turns(server: Server) -> None:
    """The second run of a flow goes before the first of another where it is more urgent."""
    server.register(spec("f", 3), spec("g", 2))
    asked = [
        admit(priority=5),
        admit("g"),
        admit(priority=5),
        admit("g", priority=1),
        admit(priority=-1),
        admit(**FREE),
    ]
    ids = [decision.id for decision in server.admit(*asked)]
    assert numbers(server.claim({LANE: 2})) == [ids[0], ids[2]]
    assert numbers(server.claim({LANE: 2})) == [ids[1], ids[3]]
    assert numbers(server.claim({LANE: 1})) == [ids[5]]
    assert numbers(server.claim()) == [ids[4]]


def test_priority_counts_among_the_runs_of_one_slot(server: Server) -> None:
    (first,) = server.begin(admit())
    low, high = (d.id for d in server.admit(admit(), admit(priority=1)))
    server.finish(finished(first))
    (run,) = server.claim()
    assert run.id == high
    server.finish(finished(run))
    assert numbers(server.claim()) == [low]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_more_runs_than_the_limit(server: Server, limit: int) -> None:
    server.register(spec("f", limit))
    ids = [d.id for d in server.admit(*[admit() for _ in range(7)])]
    active = server.claim()
    assert numbers(active) == ids[:limit]
    assert server.claim() == []
    for expected in ids[limit:]:
        server.finish(finished(active.pop(0)))
        (run,) = server.claim()
        assert run.id == expected
        active.append(run)


def test_one_flows_limit_is_not_anothers(server: Server) -> None:
    ids = [d.id for d in server.admit(admit("f"), admit("g"), admit("f"), admit(**FREE))]
    assert numbers(server.claim()) == [ids[0], ids[1], ids[3]]


def test_a_flow_that_is_not_registered_never_starts(server: Server) -> None:
    server.admit(admit("unknown"))
    assert server.claim() == []
    server.register(spec("unknown"))
    assert len(server.claim()) == 1


@pytest.mark.parametrize("room", [{}, {LANE: 0}, {LANE: -3}, {"elsewhere#sync": 9}])
@pytest.mark.parametrize("kind", ["limited", "free"])
def test_what_found_no_room_is_not_forgotten(server: Server, room: dict[str, int], kind: str) -> None:
    (decision,) = server.admit(admit() if kind == "limited" else admit(**FREE))
    for _ in range(3):
        assert server.claim(room) == []
    assert numbers(server.claim()) == [decision.id]


@pytest.mark.parametrize("room", [{}, {LANE: 0}, {LANE: -3}, {"elsewhere#sync": 9}])
@pytest.mark.parametrize("restart", [True, False])
def test_a_lost_run_that_found_no_room_is_not_forgotten(server: Server, room: dict[str, int], restart: bool) -> None:
    """Workers come and go: a lane may have no room at all at the moment when its runs are looked for."""
    (run,) = server.begin(admit(**FREE))
    if restart:
        server.restart()
    else:
        server.lose(run, blame=0)
    for _ in range(3):
        assert server.claim(room) == []
    assert numbers(server.claim()) == [run.id]


def test_a_full_lane_does_not_hold_up_another(server: Server) -> None:
    stuck, other = (d.id for d in server.admit(admit(**FREE), admit(**FREE, lane=OTHER)))
    assert numbers(server.claim({LANE: 0, OTHER: 1})) == [other]
    assert numbers(server.claim({LANE: 1, OTHER: 1})) == [stuck]


def test_a_run_waits_for_room_without_taking_a_slot(server: Server) -> None:
    first, second = (d.id for d in server.admit(admit(lane=OTHER), admit(lane=OTHER)))
    assert server.claim() == []
    assert numbers(server.claim({OTHER: 5})) == [first]
    assert server.states()[second] == "queued"


def test_a_run_whose_room_went_to_others_is_not_forgotten(server: Server) -> None:
    ids = [decision.id for decision in server.admit(admit("f"), admit("g"), admit(**FREE))]
    assert numbers(server.claim({LANE: 2})) == ids[:2]
    assert numbers(server.claim({LANE: 1})) == ids[2:]


def test_rooms_are_counted_by_lane(server: Server) -> None:
    server.admit(*[admit(**FREE) for _ in range(4)], *[admit(**FREE, lane=OTHER) for _ in range(4)])
    lanes = [run.lane for run in server.claim({LANE: 1, OTHER: 3})]
    assert sorted(lanes) == sorted([LANE, OTHER, OTHER, OTHER])


def test_lost_runs_go_before_all_that_wait(server: Server) -> None:
    (lost,) = server.begin(admit(**FREE))
    server.admit(admit(**FREE, priority=1000))
    server.lose(lost, blame=0)
    assert numbers(server.claim({LANE: 1})) == [lost.id]


def test_lost_runs_keep_their_slots(server: Server) -> None:
    (lost,) = server.begin(admit(), admit(priority=9))
    server.lose(lost, blame=0)
    assert numbers(server.claim()) == [lost.id]
    assert server.claim() == []


def test_lost_runs_come_back_in_portions(server: Server) -> None:
    lost = server.begin(*[admit(**FREE) for _ in range(5)])
    server.lose(*lost, blame=0)
    claimed = [numbers(server.claim({LANE: 2})) for _ in range(4)]
    assert claimed == [[lost[0].id, lost[1].id], [lost[2].id, lost[3].id], [lost[4].id], []]


def test_a_suspect_goes_to_its_own_lane_only(server: Server) -> None:
    (lost,) = server.begin(admit(**FREE))
    server.lose(lost, blame=1)
    assert numbers(server.claim({LANE: 9})) == []
    assert numbers(server.claim({LANE: 9, ISOLATED: 1})) == [lost.id]


def test_below_the_floor_nothing_is_touched(server: Server) -> None:
    (old,) = server.begin(admit(**FREE))
    queued = server.admit(admit(**FREE), admit())[-1].id
    server.restart()
    new = [d.id for d in server.admit(admit(**FREE), admit("g"))]
    assert numbers(server.claim(ROOM, floor=queued)) == new
    assert server.states()[old.id] == "running"
    assert server.run(old.id)["owner"] is None


def test_a_changed_limit_holds_at_once(server: Server) -> None:
    server.register(spec("f", 3))
    active = server.begin(*[admit() for _ in range(6)])
    assert len(active) == 3
    server.register(spec("f", 1))
    server.finish(finished(active[0]))
    assert server.claim() == []
    server.finish(finished(active[1]))
    assert server.claim() == []
    server.finish(finished(active[2]))
    assert len(server.claim()) == 1
    server.register(spec("f", 3))
    assert len(server.claim()) == 2


def test_a_limit_that_is_new_counts_the_runs_that_are_active_already(server: Server) -> None:
    """Rule 8: overlap limits hold always, through a changed limit."""
    server.begin(*[admit(**FREE) for _ in range(3)])
    server.admit(admit(**FREE))
    server.register(spec("f"), spec("g"), spec("free", 2))
    assert server.claim() == []


def test_a_limit_that_is_gone_holds_nobody_up(server: Server) -> None:
    server.begin(admit(), admit(), admit())
    server.register(spec("f", None), spec("g"), spec("free", None))
    assert len(server.claim()) == 2


def test_a_restart_does_not_lose_the_queue(server: Server) -> None:
    ids = [d.id for d in server.admit(admit(), admit(**FREE), admit(**FREE, lane=OTHER), admit("g", not_before=NOON))]
    server.restart()
    assert numbers(server.claim({LANE: 9, OTHER: 9})) == ids[:3]
    server.queue_due()
    assert numbers(server.claim()) == [ids[3]]


# --- flows come and go ---------------------------------------------------------------------------------------------


def test_queued_runs_follow_their_flow_to_another_location(server: Server) -> None:
    (decision,) = server.admit(admit(**FREE))
    (later,) = server.admit(admit(**FREE, not_before=NOON * 2))
    server.register(spec("free", None, location="new", is_async=True), location="new")
    assert server.claim() == []
    assert numbers(server.claim({"new#async": 5})) == [decision.id]
    assert server.run(later.id)["lane"] == "new#async"


def test_lost_runs_follow_their_flow_unless_they_are_suspects(server: Server) -> None:
    innocent, suspect = server.begin(admit(**FREE), admit(**FREE))
    server.lose(innocent, blame=0)
    server.lose(suspect, blame=1)
    server.register(spec("free", None, location="new"), location="new")
    assert server.run(innocent.id)["lane"] == "new#sync"
    assert server.run(suspect.id)["lane"] == ISOLATED


def test_a_run_in_a_worker_stays_where_it_is(server: Server) -> None:
    (run,) = server.begin(admit(**FREE))
    server.register(spec("free", None, location="new"), location="new")
    row = server.run(run.id)
    assert (row["lane"], row["state"], row["owner"]) == (LANE, "running", server.owner)
