"""Any sequence of what can happen to runs, against a small model: limits, order, fencing, and no run forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
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

from pullcord.core.states import ACTIVE, ENDED, RunState
from pullcord.gate.origin import RESUMABLE
from pullcord.store.commands.claim import Claimed
from tests.store.harness import LANE, LOCATION, SECOND, Database, Server, admit, claimed, finished, spec, step

ISOLATED = f"{LOCATION}#isolated"
LIMITED = ("f", "g")


@dataclass
class Run:
    """What the model knows of a run."""

    number: int
    uuid: str
    flow: str
    priority: int
    state: RunState
    due: int = 0
    lane: str = LANE
    token: int = 0
    attempt: int = 1
    losses: int = 0
    worker: Claimed | None = None
    epoch: int = 1
    records: set[str] = field(default_factory=set)

    @property
    def turn(self) -> tuple[int, int]:
        """Sort key of its place in a queue."""
        return -self.priority, self.number

    @property
    def orphaned(self) -> bool:
        """Whether it is active without a worker."""
        return self.state in ACTIVE and self.worker is None


class Runs(RuleBasedStateMachine):
    """A server, its workers, and a model of both."""

    empty: ClassVar[Callable[[], Database]]

    def __init__(self) -> None:
        super().__init__()
        self.server = Server(type(self).empty())
        self.limits = {"f": 1, "g": 2}
        self.runs: dict[int, Run] = {}

    def teardown(self) -> None:
        self.server.close()

    @initialize()
    def register(self) -> None:
        self.server.register(spec("f", 1), spec("g", 2), spec("free", None))

    # --- helpers -----------------------------------------------------------------------------------------------------

    def active(self, flow: str) -> int:
        """Return how many runs hold a slot of a flow."""
        return sum(run.flow == flow and run.state in ACTIVE for run in self.runs.values())

    def queue(self, flow: str) -> list[Run]:
        """Return the queued runs of a flow in their order."""
        queued = (run for run in self.runs.values() if run.flow == flow and run.state is RunState.QUEUED)
        return sorted(queued, key=lambda run: run.turn)

    def next_of(self, flow: str) -> list[Run]:
        """Return the queued runs of a flow that a slot is free for."""
        queued = self.queue(flow)
        return queued[: max(0, self.limits[flow] - self.active(flow))] if flow in self.limits else queued

    def pick(self, data: st.DataObject, *, working: bool) -> Run:
        """Choose a run that a worker has, or any run."""
        return data.draw(st.sampled_from([run for run in self.runs.values() if not working or run.worker is not None]))

    def has_workers(self) -> bool:
        return any(run.worker is not None for run in self.runs.values())

    def end(self, run: Run, state: RunState) -> None:
        """Let a run leave its worker."""
        run.state, run.worker = state, None

    # --- what can happen ---------------------------------------------------------------------------------------------

    @rule(
        flow=st.sampled_from(["f", "f", "g", "free"]), priority=st.sampled_from([0, 0, 0, 5, -5]), later=st.booleans()
    )
    def ask(self, flow: str, priority: int, later: bool) -> None:
        due = self.server.clock.now() + 10 * SECOND if later else None
        (decision,) = self.server.admit(admit(flow, limited=flow in LIMITED, priority=priority, not_before=due))
        state = RunState.SCHEDULED if later else RunState.QUEUED
        assert decision.state == state
        assert decision.run_uuid is not None
        self.runs[decision.id] = Run(decision.id, decision.run_uuid, flow, priority, state, due or 0)

    @rule(shared=st.integers(0, 4), isolated=st.integers(0, 2))
    def claim(self, shared: int, isolated: int) -> None:
        room = {LANE: shared, ISOLATED: isolated}
        claimed = self.server.claim(room)
        taken: list[Run] = []
        for work in claimed:
            run = self.runs[work.id]
            assert run.state is RunState.QUEUED or run.orphaned
            assert (work.token, work.attempt, work.lane) == (run.token + 1, run.attempt, run.lane)
            assert {row[0] for row in work.steps} == run.records, "it goes on from its records that count"
            assert work.epoch == run.epoch
            if run.state is RunState.QUEUED:
                taken.append(run)
            room[run.lane] -= 1
            run.state, run.token, run.worker = RunState.RUNNING, work.token, work
        assert min(room.values()) >= 0, "no lane gets more than it has room for"
        for flow in {run.flow for run in taken} & set(self.limits):
            assert self.active(flow) <= self.limits[flow]
        for run in self.runs.values():
            assert not run.orphaned or room[run.lane] == 0, "lost runs go first while there is room"
        for flow in ("f", "g", "free"):
            for waiting in self.next_of(flow):
                assert room[waiting.lane] == 0, "whoever has a slot and room starts"
                beside = [run for run in taken if run.lane == waiting.lane]
                assert all(run.priority >= waiting.priority for run in beside), "nobody overtakes by less"
                assert all(run.turn < waiting.turn for run in beside if run.flow == flow), "in their order"

    @precondition(has_workers)
    @rule(data=st.data(), how=st.sampled_from(["succeeded", "failed", "retry", "anew"]))
    def finish(self, data: st.DataObject, how: str) -> None:
        run = self.pick(data, working=True)
        assert run.worker is not None
        at = self.server.clock.now() + 5 * SECOND if how in ("retry", "anew") else None
        state = "succeeded" if how == "succeeded" else "failed"
        (end,) = self.server.finish(finished(run.worker, state, retry_at=at, anew=how == "anew"))
        if run.state is RunState.CANCELLING:
            self.end(run, RunState.CANCELLED)
        elif at is not None:
            self.end(run, RunState.SCHEDULED)
            run.due, run.attempt = at, run.attempt + 1
            if how == "anew":
                run.epoch, run.records = run.epoch + 1, set()
        else:
            self.end(run, RunState(how))
        assert end.state == run.state

    @precondition(has_workers)
    @rule(data=st.data(), blame=st.integers(0, 1))
    def lose(self, data: st.DataObject, blame: int) -> None:
        run = self.pick(data, working=True)
        assert run.worker is not None
        (end,) = self.server.lose(run.worker, blame=blame)
        run.losses += blame
        if blame:
            run.lane = ISOLATED
        if run.state is RunState.CANCELLING:
            self.end(run, RunState.CANCELLED)
        else:
            self.end(run, RunState.FAILED if run.losses >= 3 else RunState.RUNNING)
        assert end.state == run.state

    @precondition(has_workers)
    @rule(data=st.data(), number=st.integers(1, 3))
    def record(self, data: st.DataObject, number: int) -> None:
        run = self.pick(data, working=True)
        assert run.worker is not None
        identity = f"epoch {run.epoch}, step {number}"
        assert self.server.record(step(run.worker, identity, seq=number)).stale == set()
        run.records.add(identity)
        if run.token > 1:
            run.losses = 0

    @precondition(has_workers)
    @rule(data=st.data(), waits=st.booleans())
    def wait(self, data: st.DataObject, waits: bool) -> None:
        run = self.pick(data, working=True)
        assert run.worker is not None
        self.server.wait(run.worker, "x" if waits else None)
        if run.state is not RunState.CANCELLING:
            run.state = RunState.WAITING if waits else RunState.RUNNING

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), older=st.integers(1, 3))
    def stale_word(self, data: st.DataObject, older: int) -> None:
        run = self.pick(data, working=False)
        before = self.server.run(run.number)
        work = claimed(run.number, run.token - older, run.uuid, run.flow)
        assert self.server.finish(finished(work, "failed")) == []
        assert self.server.record(step(work, "stale")).stale == {(run.number, run.token - older)}
        self.server.lose(work)
        self.server.wait(work, "x")
        assert self.server.run(run.number) == before

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        run = self.pick(data, working=False)
        self.server.cancel(run.uuid)
        if run.worker is not None:
            run.state = RunState.CANCELLING
        elif run.state not in ENDED:
            self.end(run, RunState.CANCELLED)

    @precondition(lambda self: any(run.state in RESUMABLE for run in self.runs.values()))
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        origin = data.draw(st.sampled_from([run for run in self.runs.values() if run.state in RESUMABLE]))
        asked = admit(origin.flow, limited=origin.flow in LIMITED, resumed_from=origin.number, epoch=origin.epoch)
        (decision,) = self.server.admit(asked)
        assert decision.run_uuid is not None
        run = Run(decision.id, decision.run_uuid, origin.flow, 0, RunState.QUEUED)
        run.epoch, run.records = origin.epoch, set(origin.records)
        self.runs[decision.id] = run

    @rule(seconds=st.integers(1, 12))
    def time_passes(self, seconds: int) -> None:
        self.server.clock.advance(seconds * SECOND)
        following = self.server.queue_due()
        now = self.server.clock.now()
        scheduled = [run for run in self.runs.values() if run.state is RunState.SCHEDULED]
        for run in scheduled:
            if run.due <= now:
                run.state = RunState.QUEUED
        later = [run.due for run in scheduled if run.state is RunState.SCHEDULED]
        assert following == min(later, default=None)

    @rule()
    def restart(self) -> None:
        self.server.restart()
        for run in self.runs.values():
            if run.state is RunState.CANCELLING:
                run.state = RunState.CANCELLED
            elif run.state is RunState.WAITING:
                run.state = RunState.RUNNING
            run.worker = None

    @rule(flow=st.sampled_from(LIMITED), limit=st.integers(1, 3))
    def change_the_limit(self, flow: str, limit: int) -> None:
        self.server.register(spec(flow, limit), complete=False)
        self.limits[flow] = limit
        for run in self.runs.values():
            waits = run.state in (RunState.QUEUED, RunState.SCHEDULED) or run.orphaned
            if run.flow == flow and waits and not run.losses:
                run.lane = LANE

    # --- what must always be true ------------------------------------------------------------------------------------

    @invariant()
    def the_rows_say_what_the_model_says(self) -> None:
        rows = {row["id"]: row for row in self.server.rows("SELECT * FROM runs")}
        assert {number: row["state"] for number, row in rows.items()} == {
            number: run.state for number, run in self.runs.items()
        }
        for number, run in self.runs.items():
            row = rows[number]
            facts = (row["token"], row["attempt"], row["losses"], row["lane"])
            assert facts == (run.token, run.attempt, run.losses, run.lane)
            assert (row["ended_at"] is not None) == (run.state in ENDED)

    @invariant()
    def every_attempt_is_in_the_history(self) -> None:
        kept = dict.fromkeys(self.runs, 0)
        for row in self.server.rows("SELECT run_id FROM attempts"):
            kept[row["run_id"]] += 1
        assert kept == {number: run.attempt - 1 for number, run in self.runs.items()}

    @invariant()
    def what_is_recorded_stays(self) -> None:
        counting: dict[int, set[str]] = {number: set() for number in self.runs}
        for row in self.server.rows("SELECT run_id, identity FROM steps WHERE set_aside IS NULL"):
            counting[row["run_id"]].add(row["identity"])
        assert counting == {number: run.records for number, run in self.runs.items()}


def test_runs_through_anything(empty: Callable[[], Database], kind: str) -> None:
    machine = type("RunsOverOneKind", (Runs,), {"empty": staticmethod(empty)})
    # A statement to another process takes ten times as long.
    examples = 60 if kind == "sqlite" else 15
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=40))
