"""Any sequence of what can happen to runs, with flows that are paused and resumed and runs that expire in between."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from pullcord.core.manifest import PAUSED, lane
from pullcord.core.states import RunState
from pullcord.store.commands.deadlines import MeetDeadlines
from pullcord.store.commands.pauses import PauseFlow, ResumeFlow
from pullcord.store.queries.invariants.examine import examine
from pullcord.store.transaction import ignore
from tests.store.harness import LANE, LOCATION, SECOND, Database, admit
from tests.store.test_model import ISOLATED, LIMITED, Run, Runs

ASIDE = lane(LOCATION, PAUSED)
FLOWS = ("f", "g", "free")


class PausedRuns(Runs):
    """The runs of `test_model`, whose flows somebody pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.paused: dict[str, int | None] = {}
        self.expires: dict[int, int] = {}

    def next_of(self, flow: str) -> list[Run]:
        if flow in self.paused:
            return []
        now = self.server.clock.now()
        queued = [run for run in self.queue(flow) if self.expires.get(run.number, now + 1) > now]
        return queued[: max(0, self.limits[flow] - self.active(flow))] if flow in self.limits else queued

    def set_lanes(self) -> None:
        """Runs without a limit leave their lane when they are queued and their flow is paused."""
        for run in self.runs.values():
            if run.flow == "free" and run.state is RunState.QUEUED and "free" in self.paused:
                run.lane = ASIDE
            elif run.lane == ASIDE and run.state is RunState.QUEUED and "free" not in self.paused:
                run.lane = ISOLATED if run.losses else LANE

    @rule(flow=st.sampled_from(FLOWS), priority=st.sampled_from([0, 0, 5]), later=st.booleans(), expires=st.booleans())
    def ask(self, flow: str, priority: int, later: bool, expires: bool = False) -> None:
        due = self.server.clock.now() + 10 * SECOND if later else None
        wait = 15 * SECOND if expires else None
        command = admit(flow, limited=flow in LIMITED, priority=priority, not_before=due, expires_in=wait)
        (decision,) = self.server.admit(command)
        if flow in self.paused:
            assert (decision.code, decision.run_uuid) == ("flow_paused", None)
            return
        state = RunState.SCHEDULED if later else RunState.QUEUED
        assert decision.state == state and decision.run_uuid is not None
        self.runs[decision.id] = Run(decision.id, decision.run_uuid, flow, priority, state, due or 0)
        if expires:
            self.expires[decision.id] = self.server.clock.now() + 15 * SECOND

    @rule(flow=st.sampled_from(FLOWS), seconds=st.none() | st.integers(1, 20))
    def pause(self, flow: str, seconds: int | None) -> None:
        until = None if seconds is None else self.server.clock.now() + seconds * SECOND
        assert self.server.write(PauseFlow(flow, "owner", "a test", until, ignore)) is None
        self.paused[flow] = until
        self.set_lanes()

    @rule(flow=st.sampled_from(FLOWS))
    def resume(self, flow: str) -> None:
        assert self.server.write(ResumeFlow(flow, "owner", ignore)) == (flow in self.paused)
        self.paused.pop(flow, None)
        self.set_lanes()

    @rule(seconds=st.integers(1, 12))
    def time_passes(self, seconds: int) -> None:
        super().time_passes(seconds)
        self.set_lanes()
        now = self.server.clock.now() + 1
        met = self.server.write(MeetDeadlines(now, 0, ignore))
        over = {
            self.runs[number].uuid: number
            for number, at in self.expires.items()
            if at <= now
            and self.runs[number].token == 0
            and self.runs[number].state in (RunState.QUEUED, RunState.SCHEDULED)
        }
        assert {run.uuid for run in met.expired} == set(over)
        for number in over.values():
            self.end(self.runs[number], RunState.CANCELLED)
        for flow in [flow for flow, until in self.paused.items() if until is not None and until <= now]:
            del self.paused[flow]
        self.set_lanes()

    @invariant()
    def the_doctor_finds_nothing(self) -> None:
        server = self.server
        server.connection.execute(
            "INSERT INTO meta (name, value) VALUES ('incarnation', :owner) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            {"owner": str(server.owner)},
        )
        names = ("nothing of a paused flow", "no run has started after", "a request expires when", "a run says what")
        found = [verdict for verdict in examine(server.connection) if verdict.name.startswith(names)]
        assert len(found) == len(names)
        assert [verdict.examples for verdict in found if verdict.broken] == []

    @invariant()
    def the_rows_are_paused_as_the_model_says(self) -> None:
        rows = self.server.rows("SELECT flow, until FROM pauses")
        assert {row["flow"]: row["until"] for row in rows} == self.paused


def test_paused_and_resumed_through_anything(empty: Callable[[], Database], kind: str) -> None:
    machine = type("PausedRunsOverOneKind", (PausedRuns,), {"empty": staticmethod(empty)})
    examples = 40 if kind == "sqlite" else 8
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=40))
