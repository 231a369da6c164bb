"""Overlap: keys, groups, policies and limits that change, decided from the rows alone (design rule 8)."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_core import from_json

from pullcord.core.concurrency import Concurrency, Group, OnConflict
from pullcord.core.errors import NotFoundError
from pullcord.core.states import Outcome, RunState
from pullcord.store.commands.admit import Admit
from pullcord.store.commands.limits import ChangeLimit, ConfigureGroups
from pullcord.store.commands.pauses import PauseFlow, ResumeFlow
from pullcord.store.queries.limits import changed_limits, list_limits
from pullcord.store.transaction import ignore
from tests.store.harness import LANE, NOON, ROOM, SECOND, Server, admit, finished, spec, step


def ruled(name: str, rule: Concurrency) -> Any:
    """Make a flow with a rule."""
    return spec(name, settings={"concurrency": rule.as_json()})


def keyed(key: str, flow: str = "f", **changes: Any) -> Admit:
    """Ask for a run under a value of a key."""
    return admit(flow, slot=f"{flow}/{key}", inputs=f'{{"k":"{key}"}}', **changes)


def override(server: Server, name: str, limit: int | None) -> Any:
    """Change a limit as a person does."""
    return server.write(ChangeLimit(name, {"limit": limit, "by": "ann", "at": "", "reason": None}, "ann", None, ignore))


def limits(server: Server) -> dict[str, int | None]:
    return {item["name"]: item["limit"] for item in list_limits(server.connection)}


# --- keys --------------------------------------------------------------------------------------------------------


def test_each_key_has_a_limit_of_its_own(server: Server) -> None:
    server.register(ruled("f", Concurrency(2, "{k}")))
    server.admit(*[keyed(key) for key in "aaabbc"])
    claimed = server.claim()
    assert sorted(run.inputs for run in claimed) == sorted(f'{{"k":"{key}"}}' for key in "aabbc")
    server.finish(finished(claimed[0]))
    assert len(server.claim()) == 1


def test_keys_take_turns_when_there_is_little_room(server: Server) -> None:
    server.register(ruled("f", Concurrency(5, "{k}")))
    server.admit(*[keyed("busy") for _ in range(20)])
    server.admit(keyed("calm"), keyed("calm"), keyed("quiet"))
    order = [server.claim({LANE: 1})[0].inputs for _ in range(6)]
    keys = [text.split('"')[3] for text in order]
    assert keys == ["busy", "calm", "quiet", "busy", "calm", "busy"]


def test_priority_counts_among_keys(server: Server) -> None:
    server.register(ruled("f", Concurrency(1, "{k}")))
    low, high, _ = (d.id for d in server.admit(keyed("a"), keyed("b", priority=9), keyed("c", priority=1)))
    assert [run.id for run in server.claim({LANE: 1})] == [high]
    server.admit(keyed("d", priority=20))
    assert [run.inputs for run in server.claim({LANE: 1})] == ['{"k":"d"}']
    assert low in {run.id for run in server.claim()}


def test_no_limit_with_a_key_is_for_the_turns_alone(server: Server) -> None:
    server.register(ruled("f", Concurrency(None, "{k}")))
    server.admit(*[keyed("a") for _ in range(9)], keyed("b"))
    assert [run.inputs for run in server.claim({LANE: 2})] == ['{"k":"a"}', '{"k":"b"}']
    assert len(server.claim()) == 8


def test_a_changed_key_counts_all_runs_anew(server: Server) -> None:
    server.register(ruled("f", Concurrency(1, "{k}")))
    active = server.begin(*[keyed(key) for key in "abc"])
    assert len(active) == 3
    server.admit(keyed("d"))
    server.register(ruled("f", Concurrency(1)))
    assert server.claim() == [], "three runs hold the one slot"
    server.register(ruled("f", Concurrency(2, "{k}")))
    assert [run.inputs for run in server.claim()] == ['{"k":"d"}']
    assert {row["slot"] for row in server.rows("SELECT slot FROM runs")} == {"f/a", "f/b", "f/c", "f/d"}


def test_a_flow_that_was_removed_comes_back_with_its_keys(server: Server) -> None:
    server.register(ruled("f", Concurrency(1, "{k}")), spec("g"), spec("free", None))
    server.admit(keyed("a"), keyed("a"))
    server.register(spec("g"), spec("free", None))
    assert server.claim() == []
    server.register(ruled("f", Concurrency(1, "{k}")), spec("g"), spec("free", None))
    assert len(server.claim()) == 1


# --- groups ------------------------------------------------------------------------------------------------------


def grouped(server: Server, limit: int | None = 2, own: int | None = None) -> None:
    """Register two flows that share a limit."""
    rule = Concurrency(own, group=Group("db", limit))
    server.register(ruled("f", rule), ruled("g", rule), spec("free", None))


def member(flow: str, **changes: Any) -> Admit:
    return admit(flow, shared="group:db", **changes)


def test_priority_and_age_count_in_a_group_whatever_the_lane(server: Server) -> None:
    grouped(server, limit=1)
    (run,) = server.begin(member("f"))
    old, urgent = server.admit(member("g", lane="z#async"), member("f", lane="z#sync", priority=100))
    (young,) = server.admit(member("g", lane="a#async"))
    for expected in (urgent, old, young):
        server.finish(finished(run))
        (run,) = server.claim({"a#async": 9, "z#async": 9, "z#sync": 9})
        assert run.id == expected.id


@pytest.mark.parametrize("own", [None, 1, 3])
@pytest.mark.parametrize("room", [1, 9])
def test_keys_take_turns_in_a_group(own: int | None, room: int, server: Server) -> None:
    server.register(ruled("f", Concurrency(own, "{k}", group=Group("db", 1))))
    server.admit(*[keyed(key, shared="group:db") for key in "aaabbc"])
    order = ""
    for _ in range(6):
        (run,) = server.claim({LANE: room})
        order += from_json(run.inputs)["k"]
        server.finish(finished(run))
    assert order == "abcaba"


def test_a_group_is_one_limit_for_several_flows(server: Server) -> None:
    grouped(server)
    ids = [d.id for d in server.admit(member("f"), member("g"), member("f"), member("g"))]
    active = server.claim()
    assert [run.id for run in active] == ids[:2]
    assert server.claim() == []
    server.finish(finished(active[0]))
    assert len(server.claim()) == 1
    assert server.claim() == []


def test_both_limits_hold_the_groups_and_the_flows_own(server: Server) -> None:
    grouped(server, limit=2, own=1)
    server.admit(member("f"), member("f"), member("g"), member("g"))
    active = server.claim()
    assert sorted(run.flow for run in active) == ["f", "g"]
    server.finish(finished(active[0]))
    assert [run.flow for run in server.claim()] == [active[0].flow]


def test_a_full_group_holds_up_nobody_else(server: Server) -> None:
    grouped(server, limit=1)
    server.admit(member("f"), *[member("g", priority=9) for _ in range(5)], admit("free", limited=False))
    assert sorted(run.flow for run in server.claim()) == ["free", "g"]


def test_the_lowest_declared_limit_of_a_group_holds_and_settings_and_people_come_before_it(server: Server) -> None:
    rules = [Concurrency(None, group=Group("db", limit)) for limit in (3, 2, None)]
    server.register(*[ruled(name, rule) for name, rule in zip("fgh", rules, strict=True)])
    assert limits(server)["group:db"] == 2
    server.write(ConfigureGroups({"db": 7, "other": 4}, ignore))
    assert (limits(server)["group:db"], limits(server)["group:other"]) == (7, 4)
    assert override(server, "group:db", 1) is None
    assert limits(server)["group:db"] == 1
    server.write(ConfigureGroups({}, ignore))
    assert limits(server)["group:db"] == 1
    server.write(ChangeLimit("group:db", None, "ann", None, ignore))
    assert limits(server)["group:db"] == 2
    server.register(ruled("f", rules[0]))
    assert limits(server)["group:db"] == 3, "the flow with the lower one is gone"


def test_a_group_that_nobody_gives_a_limit_has_one_run_at_a_time(server: Server) -> None:
    grouped(server, limit=None)
    assert len(server.begin(member("f"), member("g"))) == 1


def test_a_child_is_refused_when_its_parent_holds_the_group(server: Server) -> None:
    grouped(server, limit=1)
    (parent,) = server.begin(member("f"))
    (decision,) = server.admit(member("g", parent_id=parent.id))
    assert (decision.outcome, decision.code) == (Outcome.REJECTED, "would_deadlock")


# --- policies ----------------------------------------------------------------------------------------------------


def with_policy(server: Server, policy: OnConflict, limit: int = 1) -> None:
    server.register(ruled("f", Concurrency(limit, on_conflict=policy)), spec("g"), spec("free", None))


def asked(policy: OnConflict, **changes: Any) -> Admit:
    return admit(on_conflict=policy, **changes)


@pytest.mark.parametrize(
    ("policy", "outcomes"),
    [
        (OnConflict.QUEUE, ["admitted"] * 4),
        (OnConflict.SKIP, ["admitted", "admitted", "skipped", "skipped"]),
        (OnConflict.REJECT, ["admitted", "admitted", "rejected", "rejected"]),
        (OnConflict.BUFFER_ONE, ["admitted", "admitted", "admitted", "skipped"]),
        (OnConflict.CANCEL_RUNNING, ["admitted"] * 4),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_what_becomes_of_requests_that_are_too_many(
    server: Server, policy: OnConflict, outcomes: list[str], together: bool
) -> None:
    with_policy(server, policy, limit=2)
    if together:
        decisions = server.admit(*[asked(policy) for _ in range(4)])
    else:
        decisions = []
        for _ in range(4):
            decisions += server.transact(asked(policy), room=ROOM)[0]
    assert [decision.outcome for decision in decisions] == outcomes
    codes = {"skipped": "overlap_skipped", "rejected": "overlap_rejected", "admitted": None}
    assert [decision.code for decision in decisions] == [codes[outcome] for outcome in outcomes]
    for decision in decisions:
        assert (decision.run_uuid is None) == (decision.outcome != Outcome.ADMITTED)
        assert decision.outcome == Outcome.ADMITTED or "limit of 2" in (decision.reason or "")
    rows = server.rows("SELECT outcome FROM requests ORDER BY id")
    assert [row["outcome"] for row in rows] == outcomes


def test_a_skipped_request_gives_its_key_back(server: Server) -> None:
    with_policy(server, OnConflict.SKIP)
    (run,) = server.begin(asked(OnConflict.SKIP))
    (decision,) = server.admit(asked(OnConflict.SKIP, key="k"))
    assert decision.outcome == Outcome.SKIPPED
    server.finish(finished(run))
    (decision,) = server.admit(asked(OnConflict.SKIP, key="k"))
    assert decision.outcome == Outcome.ADMITTED


def test_a_run_that_waits_for_its_next_attempt_is_in_the_way(server: Server) -> None:
    with_policy(server, OnConflict.SKIP)
    (run,) = server.begin(asked(OnConflict.SKIP))
    server.finish(finished(run, "failed", retry_at=server.clock.now() + 60 * SECOND))
    (decision,) = server.admit(asked(OnConflict.SKIP))
    assert decision.outcome == Outcome.SKIPPED


def test_a_run_for_a_later_time_is_in_nobodys_way(server: Server) -> None:
    with_policy(server, OnConflict.SKIP)
    (later,) = server.admit(asked(OnConflict.SKIP, not_before=NOON * 2))
    (now,) = server.admit(asked(OnConflict.SKIP))
    assert (later.outcome, now.outcome) == (Outcome.ADMITTED, Outcome.ADMITTED)


def test_the_newest_takes_the_place_of_the_oldest(server: Server) -> None:
    with_policy(server, OnConflict.CANCEL_RUNNING, limit=2)
    first, second = server.begin(asked(OnConflict.CANCEL_RUNNING), asked(OnConflict.CANCEL_RUNNING))
    (third,) = server.admit(asked(OnConflict.CANCEL_RUNNING))
    assert [(uuid, ended.state) for uuid, ended in third.superseded] == [(first.uuid, "cancelling")]
    assert server.claim() == [], "a run that is being cancelled has its slot until it has ended"
    assert third.run_uuid is not None and third.run_uuid in str(server.run(first.id)["cancel"])
    (fourth,) = server.admit(asked(OnConflict.CANCEL_RUNNING))
    assert [uuid for uuid, _ in fourth.superseded] == [second.uuid]
    (fifth,) = server.admit(asked(OnConflict.CANCEL_RUNNING))
    assert [(uuid, ended.state) for uuid, ended in fifth.superseded] == [(third.run_uuid, "cancelled")]
    server.finish(finished(first, "cancelled"), finished(second, "cancelled"))
    assert [run.uuid for run in server.claim()] == [fourth.run_uuid, fifth.run_uuid]


def test_a_run_that_cannot_start_takes_nobodys_place(server: Server) -> None:
    with_policy(server, OnConflict.CANCEL_RUNNING)
    first, caller = server.begin(asked(OnConflict.CANCEL_RUNNING), admit("free", limited=False))
    server.write(PauseFlow("f", "owner", "a test", None, ignore))
    (child,) = server.admit(called(caller, on_conflict=OnConflict.CANCEL_RUNNING))
    assert (child.state, child.superseded) == (RunState.QUEUED, [])
    server.write(ResumeFlow("f", "owner", ignore))
    assert (server.run(first.id)["state"], server.claim()) == ("running", [])
    (latest,) = server.admit(asked(OnConflict.CANCEL_RUNNING))
    assert [uuid for uuid, _ in latest.superseded] == [child.run_uuid, first.uuid]


def test_of_those_at_one_instant_the_last_runs(server: Server) -> None:
    with_policy(server, OnConflict.CANCEL_RUNNING)
    decisions = server.admit(*[asked(OnConflict.CANCEL_RUNNING) for _ in range(3)])
    assert [decision.state for decision in decisions] == [RunState.CANCELLED, RunState.CANCELLED, RunState.QUEUED]
    assert [run.uuid for run in server.claim()] == [decisions[-1].run_uuid]


def test_an_event_that_fires_again_and_again_is_told_once(server: Server) -> None:
    with_policy(server, OnConflict.SKIP)
    server.begin(asked(OnConflict.SKIP))
    event = {"trigger_kind": "event", "trigger_name": "inbox", "invoker_kind": "trigger"}
    for _ in range(5):
        (decision,) = server.admit(asked(OnConflict.SKIP, ledger=event))
        assert decision.outcome == Outcome.SKIPPED
    (row,) = server.rows("SELECT count FROM requests WHERE outcome = 'skipped'")
    assert row["count"] == 5


@pytest.mark.parametrize("state", ["queued", "scheduled", "in the group"])
def test_an_event_is_told_once_whatever_is_in_its_way(server: Server, state: str) -> None:
    rule = Concurrency(1, on_conflict="skip", group=Group("db", 1))
    server.register(ruled("f", rule), ruled("g", Concurrency(1, group=Group("db", 1))))
    if state == "in the group":
        server.begin(admit("g", shared="group:db"))
    else:
        server.admit(asked(OnConflict.SKIP))
    if state == "scheduled":
        (run,) = server.claim()
        server.finish(finished(run, "failed", retry_at=server.clock.now() + 60 * SECOND))
    event = {"trigger_kind": "event", "trigger_name": "inbox", "invoker_kind": "trigger"}
    for _ in range(3):
        server.admit(asked(OnConflict.SKIP, shared="group:db", ledger=event))
    (row,) = server.rows("SELECT count, reason FROM requests WHERE outcome = 'skipped'")
    assert row["count"] == 3
    assert (f"is {state})" in row["reason"]) == (state != "in the group")
    if state == "in the group":
        server.clock.advance(3600 * SECOND)
        server.admit(asked(OnConflict.SKIP, shared="group:db", ledger=event))
        assert len(server.rows("SELECT id FROM requests WHERE outcome = 'skipped'")) == 2, "once an hour"


@pytest.mark.parametrize("together", [True, False])
def test_one_run_is_buffered_while_other_flows_fill_the_group(server: Server, together: bool) -> None:
    rule = Concurrency(1, on_conflict="buffer_one", group=Group("db", 1))
    server.register(ruled("f", rule), ruled("g", Concurrency(1, group=Group("db", 1))))
    (other,) = server.begin(admit("g", shared="group:db"))
    commands = [asked(OnConflict.BUFFER_ONE, shared="group:db") for _ in range(2)]
    first, second = server.admit(*commands) if together else [server.admit(one)[0] for one in commands]
    assert (first.outcome, second.outcome) == (Outcome.ADMITTED, Outcome.SKIPPED)
    words = "the limit of group:db, which other flows share, is reached: one waits already, and the flow skips others"
    assert second.reason == words
    server.finish(finished(other))
    (run,) = server.claim()
    assert run.uuid == first.run_uuid
    outcomes = [decision.outcome for one in range(2) for decision in server.admit(asked(OnConflict.BUFFER_ONE))]
    assert outcomes == [Outcome.ADMITTED, Outcome.SKIPPED]
    server.finish(finished(run, "failed", retry_at=server.clock.now() + 60 * SECOND))
    assert server.admit(asked(OnConflict.BUFFER_ONE))[0].outcome == Outcome.SKIPPED


def test_a_dry_run_says_what_would_become_of_it(server: Server) -> None:
    with_policy(server, OnConflict.REJECT)
    server.begin(asked(OnConflict.REJECT))
    (decision,) = server.admit(asked(OnConflict.REJECT, dry_run=True))
    assert (decision.outcome, decision.code) == (Outcome.REJECTED, "overlap_rejected")


# --- limits that change ------------------------------------------------------------------------------------------


def test_a_changed_limit_holds_at_once_and_after_a_restart(server: Server) -> None:
    server.register(spec("f", 3), spec("g"), spec("free", None))
    active = server.begin(*[admit() for _ in range(9)])
    assert len(active) == 3
    override(server, "f", 5)
    assert len(server.claim()) == 2
    server.restart()
    server.register(spec("f", 3), spec("g"), spec("free", None))
    assert limits(server)["f"] == 5
    assert len(server.claim()) == 5, "those that lost their server go on"
    override(server, "f", None)
    assert limits(server)["f"] is None
    assert len(server.claim()) == 4
    server.write(ChangeLimit("f", None, "ann", "enough", ignore))
    assert limits(server)["f"] == 3
    audit = server.rows("SELECT detail FROM audit WHERE action = 'limit.change'")
    assert len(audit) == 3


def test_a_flow_without_a_limit_is_given_one_under_its_runs(server: Server) -> None:
    server.begin(*[admit("free", limited=False) for _ in range(3)])
    server.admit(admit("free", limited=False))
    override(server, "free", 3)
    assert changed_limits(server.connection) == {"free"}
    assert server.claim() == []
    assert {row["slot"] for row in server.rows("SELECT slot FROM runs")} == {"free"}
    server.write(ChangeLimit("free", None, "ann", None, ignore))
    assert len(server.claim()) == 1
    assert {row["slot"] for row in server.rows("SELECT slot FROM runs")} == {None}


def test_a_limit_that_nobody_knows_cannot_be_changed(server: Server) -> None:
    assert isinstance(override(server, "nothing", 3), NotFoundError)


# --- what would wait for ever ------------------------------------------------------------------------------------


def called(parent: Any, flow: str = "f", **changes: Any) -> Admit:
    """Ask for a run as a flow does."""
    return admit(flow, parent_id=parent.id, ledger={"trigger_kind": "flow"}, **changes)


def try_again(server: Server, *runs: Any) -> None:
    """Have runs fail, and wait for their next attempt."""
    at = server.clock.now() + SECOND
    server.finish(*[finished(run, "failed", error='{"type":"ValueError"}', retry_at=at) for run in runs])


def why(server: Server, number: int) -> tuple[str, str | None]:
    run = server.run(number)
    return run["state"], None if run["error"] is None else from_json(run["error"])["type"]


def lower(server: Server, how: str, limit: int) -> None:
    """Lower the limit of the flow, or of its group."""
    group = Group("db", limit)
    if how == "a person":
        override(server, "f", limit)
    elif how == "a deploy":
        server.register(ruled("f", Concurrency(limit)), spec("g"), spec("free", None))
    elif how == "a group":
        override(server, "group:db", limit)
    elif how == "settings":
        server.write(ConfigureGroups({"db": limit}, ignore))
    elif how == "a deployed group":
        server.register(ruled("f", Concurrency(None, group=group)), spec("g"), spec("free", None))


WAYS = ["a person", "a deploy", "a group", "settings", "a deployed group"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("state", ["queued", "scheduled"])
def test_no_run_waits_for_the_slot_of_its_ancestor_when_a_limit_is_lowered(
    server: Server, how: str, state: str
) -> None:
    rule = Concurrency(None, group=Group("db", 3)) if "group" in how or how == "settings" else Concurrency(3)
    server.register(ruled("f", rule), spec("g"), spec("free", None))
    shared = rule.shared
    (parent,) = server.begin(admit(shared=shared))
    (between,) = server.begin(called(parent, "free", limited=False))
    (decision,) = server.admit(called(between, shared=shared))
    (other,) = server.admit(admit(shared=shared))
    if state == "scheduled":
        (child,) = server.claim({LANE: 1})
        server.record(step(child, state="retrying"))
        try_again(server, child)
    lower(server, how, 1)
    if state == "scheduled":
        assert server.run(decision.id)["state"] == "scheduled", "it does not wait for a slot yet"
        server.clock.advance(2 * SECOND)
        server.queue_due()
        assert server.rows("SELECT state FROM steps") == [{"state": "failed"}]
    assert why(server, decision.id) == ("failed", "would_deadlock")
    assert [(uuid, ended.state) for uuid, ended in server.hints.failed] == [(decision.run_uuid, "failed")]
    assert server.run(other.id)["state"] == "queued"
    server.finish(finished(between), finished(parent))
    assert [run.id for run in server.claim()] == [other.id]


def test_none_of_several_families_waits_for_the_other_for_ever(server: Server) -> None:
    server.register(spec("f", 4))
    parents = server.begin(admit(), admit())
    children = server.begin(*map(called, parents))
    override(server, "f", 2)
    try_again(server, *children)
    server.clock.advance(2 * SECOND)
    server.queue_due()
    assert [why(server, child.id) for child in children] == [("failed", "would_deadlock")] * 2


def test_a_child_waits_for_a_slot_that_somebody_else_gives_back(server: Server) -> None:
    server.register(spec("f", 3))
    (parent,) = server.begin(admit())
    (child,) = server.begin(called(parent))
    (other,) = server.begin(admit())
    try_again(server, child)
    override(server, "f", 2)
    server.clock.advance(2 * SECOND)
    server.queue_due()
    assert server.claim() == []
    assert server.run(child.id)["state"] == "queued"
    server.finish(finished(other))
    assert [run.id for run in server.claim()] == [child.id]


def test_no_run_waits_for_those_that_nobody_executes_here(server: Server) -> None:
    server.register(ruled("f", Concurrency(2, group=Group("db", 2))), ruled("g", Concurrency(2, group=Group("db", 2))))
    (left,) = server.begin(admit(shared="group:db"))
    server.restart()
    assert len(server.transact(admit(shared="group:db", floor=left.id), room=ROOM, floor=left.id)[1]) == 1
    (waits,) = server.admit(admit("g", shared="group:db", floor=left.id))
    assert waits.outcome == Outcome.ADMITTED, "one slot is given back"
    override(server, "group:db", 1)
    (refused,) = server.admit(admit("g", shared="group:db", floor=left.id))
    assert (refused.code, refused.state) == ("overlap_rejected", None)
    assert refused.reason == (
        f"run {left.uuid} of an earlier command has a slot of group:db, and `pullcord serve` finishes it"
    )
    override(server, "group:db", 9)
    override(server, "f", 1)
    (refused,) = server.admit(admit(shared="group:db", floor=left.id))
    assert (refused.code, "a slot of f," in (refused.reason or "")) == ("overlap_rejected", True)
    (newest,) = server.admit(asked(OnConflict.CANCEL_RUNNING, shared="group:db", floor=left.id))
    assert (left.uuid, "cancelled") in [(uuid, ended.state) for uuid, ended in newest.superseded]
    assert server.admit(admit(shared="group:db", floor=left.id))[0].outcome == Outcome.ADMITTED
