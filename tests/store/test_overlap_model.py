"""Any sequence of asking, finishing, killing, retrying, restarting and changing limits: no limit is ever exceeded.

What is held is counted by the test alone, from what it was given to run, so that the rows cannot flatter themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pullcord.core.concurrency import Concurrency, Group, OnConflict
from pullcord.core.states import ENDED, Outcome
from pullcord.store.commands.claim import Claimed
from pullcord.store.commands.limits import ChangeLimit, ConfigureGroups
from pullcord.store.queries.invariants.examine import examine
from pullcord.store.transaction import ignore
from tests.store.harness import LANE, LOCATION, SECOND, Database, Server, admit, finished, spec

ISOLATED = f"{LOCATION}#isolated"
FLOWS = ("keyed", "grouped", "both", "plain")
NO_LIMIT = 10**9


@dataclass
class Rule:
    """What the test believes of a flow."""

    limit: int | None
    key: bool
    group: bool
    policy: OnConflict = OnConflict.QUEUE

    def concurrency(self, together: int) -> Concurrency:
        group = Group("shared", together) if self.group else None
        return Concurrency(self.limit, "{k}" if self.key else None, self.policy, group)


@dataclass
class Run:
    """A run as the test knows it: what it counts against, and who has it."""

    number: int
    uuid: str
    flow: str
    value: str
    priority: int
    work: Claimed | None = None
    holds: bool = False


class Overlaps(RuleBasedStateMachine):
    """A store under a test that keeps its own accounts."""

    empty: ClassVar[Callable[[], Database]]

    @initialize()
    def begin(self) -> None:
        self.server = Server(type(self).empty())
        self.rules = {
            "keyed": Rule(2, True, False), "grouped": Rule(None, False, True), "both": Rule(1, True, True),
            "plain": Rule(2, False, False),
        }  # fmt: skip
        self.together = 3
        self.overrides: dict[str, int | None] = {}
        self.runs: dict[int, Run] = {}
        self.register()

    def teardown(self) -> None:
        if hasattr(self, "server"):
            self.server.close()

    # --- the test's own accounts ---------------------------------------------------------------------------------

    def register(self) -> None:
        specs = [
            spec(name, settings={"concurrency": rule.concurrency(self.together).as_json()})
            for name, rule in self.rules.items()
        ]
        self.server.register(*specs)

    def limit(self, name: str) -> int:
        declared = self.together if name == "group:shared" else self.rules[name].limit
        limit = self.overrides.get(name, declared)
        return NO_LIMIT if limit is None else limit

    def slot(self, run: Run) -> str:
        return f"{run.flow}/{run.value}" if self.rules[run.flow].key else run.flow

    def held(self) -> Counter[str]:
        """Count what is held, by slot and by group."""
        found: Counter[str] = Counter()
        for run in self.runs.values():
            if run.holds:
                found[self.slot(run)] += 1
                if self.rules[run.flow].group:
                    found["group:shared"] += 1
        return found

    def states(self) -> dict[int, str]:
        return self.server.states()

    def settle(self) -> None:
        """Forget the workers of runs that have ended, and who holds nothing any more."""
        states = self.states()
        for number, run in self.runs.items():
            if states[number] in ENDED or states[number] in ("queued", "scheduled"):
                run.work, run.holds = None, False

    def working(self, data: st.DataObject) -> Run:
        return data.draw(st.sampled_from([run for run in self.runs.values() if run.work is not None]))

    def anyone_works(self) -> bool:
        return any(run.work is not None for run in self.runs.values())

    # --- what can happen ---------------------------------------------------------------------------------------------

    @rule(
        flow=st.sampled_from(FLOWS), value=st.sampled_from("abc"), priority=st.sampled_from([0, 0, 0, 5]),
        many=st.integers(1, 4), later=st.sampled_from([False, False, False, True]),
    )  # fmt: skip
    def ask(self, flow: str, value: str, priority: int, many: int, later: bool) -> None:
        rule = self.rules[flow]
        run = Run(0, "", flow, value, priority)
        concurrency = rule.concurrency(self.together)
        due = self.server.clock.now() + 10 * SECOND if later else None
        inputs = f'{{"k":"{value}"}}'
        slot = concurrency.slot(flow, inputs, flow in self.overrides)
        commands = [
            admit(
                flow, slot=slot, shared=concurrency.shared, inputs=inputs, priority=priority, not_before=due,
                on_conflict=rule.policy,
            )
            for _ in range(many)
        ]  # fmt: skip
        for decision in self.server.admit(*commands):
            assert decision.outcome == Outcome.ADMITTED or rule.policy is not OnConflict.QUEUE
            if decision.outcome == Outcome.ADMITTED:
                run = Run(decision.id, decision.run_uuid or "", flow, value, priority)
                self.runs[run.number] = run
        self.settle()

    @rule(shared=st.integers(0, 5), isolated=st.integers(0, 2))
    def claim(self, shared: int, isolated: int) -> None:
        room = {LANE: shared, ISOLATED: isolated}
        new: list[Run] = []
        for work in self.server.claim(room):
            run = self.runs[work.id]
            assert run.work is None, "a run is in one worker"
            if not run.holds:
                new.append(run)
            run.work, run.holds = work, True
            room[work.lane] -= 1
        assert min(room.values()) >= 0
        held = self.held()
        for run in new:
            assert held[self.slot(run)] <= self.limit(run.flow), "the flow's own limit"
            if self.rules[run.flow].group:
                assert held["group:shared"] <= self.limit("group:shared"), "the group's limit"
        self.nobody_waits_in_vain(room, held, new)

    def nobody_waits_in_vain(self, room: dict[str, int], held: Counter[str], new: list[Run]) -> None:
        """Whoever is queued has no slot, or no room; and nobody of a lower priority went before those who have."""
        lanes = {row["id"]: row["lane"] for row in self.server.rows("SELECT id, lane FROM runs WHERE state = 'queued'")}
        first: dict[str, Run] = {}
        for number in sorted(lanes, key=lambda number: (-self.runs[number].priority, number)):
            first.setdefault(self.slot(self.runs[number]), self.runs[number])
        for run in first.values():
            if held[self.slot(run)] >= self.limit(run.flow):
                continue
            if self.rules[run.flow].group and held["group:shared"] >= self.limit("group:shared"):
                continue
            assert room[lanes[run.number]] == 0, f"{run} could have been started"

    @precondition(anyone_works)
    @rule(data=st.data(), how=st.sampled_from(["succeeded", "failed", "retry"]))
    def finish(self, data: st.DataObject, how: str) -> None:
        run = self.working(data)
        assert run.work is not None
        at = self.server.clock.now() + 5 * SECOND if how == "retry" else None
        error = None if how == "succeeded" else '{"type":"E","message":"m"}'
        self.server.finish(finished(run.work, "failed" if how == "retry" else how, error=error, retry_at=at))
        self.settle()

    @precondition(anyone_works)
    @rule(data=st.data(), blame=st.integers(0, 1))
    def kill_the_worker(self, data: st.DataObject, blame: int) -> None:
        run = self.working(data)
        assert run.work is not None
        self.server.lose(run.work, blame=blame)
        run.work = None
        self.settle()

    @precondition(anyone_works)
    @rule(data=st.data(), waits=st.booleans())
    def wait(self, data: st.DataObject, waits: bool) -> None:
        run = self.working(data)
        assert run.work is not None
        self.server.wait(run.work, '{"kind":"time","text":"sleeps"}' if waits else None)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(list(self.runs.values())))
        self.server.cancel(run.uuid)
        self.settle()

    @rule(seconds=st.integers(1, 12))
    def time_passes(self, seconds: int) -> None:
        self.server.clock.advance(seconds * SECOND)
        self.server.queue_due()

    @rule()
    def restart(self) -> None:
        self.server.restart()
        for run in self.runs.values():
            run.work = None
        self.settle()

    @rule(name=st.sampled_from([*FLOWS, "group:shared"]), limit=st.sampled_from([1, 2, 4, None]))
    def change_a_limit(self, name: str, limit: int | None) -> None:
        override = {"limit": limit, "by": "ann", "at": "", "reason": None}
        assert self.server.write(ChangeLimit(name, override, "ann", None, ignore)) is None
        self.overrides[name] = limit

    @precondition(lambda self: self.overrides)
    @rule(data=st.data())
    def give_a_limit_back(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.overrides)))
        assert self.server.write(ChangeLimit(name, None, "ann", None, ignore)) is None
        del self.overrides[name]

    @rule(limit=st.integers(1, 4))
    def deploy_another_group_limit(self, limit: int) -> None:
        self.together = limit
        self.register()

    @rule(
        flow=st.sampled_from(["keyed", "both", "plain"]), limit=st.sampled_from([1, 3]), key=st.booleans(),
        policy=st.sampled_from([OnConflict.QUEUE, OnConflict.QUEUE, OnConflict.SKIP, OnConflict.CANCEL_RUNNING]),
    )  # fmt: skip
    def deploy_another_rule(self, flow: str, limit: int, key: bool, policy: OnConflict) -> None:
        self.rules[flow] = Rule(limit, key, self.rules[flow].group, policy)
        self.register()

    @rule()
    def read_settings_without_limits(self) -> None:
        self.server.write(ConfigureGroups({}, ignore))

    # --- what must always be true ------------------------------------------------------------------------------------

    @invariant()
    def every_run_counts_where_it_should(self) -> None:
        if not hasattr(self, "server"):
            return
        wrong = [
            verdict for verdict in examine(self.server.connection) if verdict.state == "wrong" and verdict.rule == 8
        ]
        assert wrong == []


def test_no_limit_is_exceeded_whatever_happens(empty: Callable[[], Database], kind: str) -> None:
    machine = type("OverlapsOverOneKind", (Overlaps,), {"empty": staticmethod(empty)})
    examples = 80 if kind == "sqlite" else 12
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=50))
