"""Any sequence of requests through the real gate into a real store, against a small model: what the ledger must say.

Only the workers' side is simple here: two flows, and a validator that reads whole numbers.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar
from uuid import UUID

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

from pullcord.core.errors import InvalidInputsError, NotCancellableError, NotFoundError
from pullcord.core.manifest import FlowSpec
from pullcord.core.states import Outcome
from pullcord.engine.pauses import Pauses
from pullcord.engine.room import Room
from pullcord.gate.gate import Gate
from pullcord.gate.policy import LocalPolicy
from pullcord.gate.request import Invoker, Receipt, TriggerRequest
from pullcord.store.commands.cancelling import CancelRun
from pullcord.store.commands.catalog import RegisterFlows
from pullcord.store.commands.claim import Claimed
from pullcord.store.commands.journal import FinishRuns
from pullcord.store.commands.lifecycle import Start
from pullcord.store.store import Store
from tests.store.harness import DAY, LANE, LOCATION, Database, DrivenClock, finished, spec

SPECS = {"single": spec("single", 1), "free": spec("free", None)}
INVOKERS = {"ada": Invoker("ada", "local"), "bob": Invoker("bob", "local"), "eve": Invoker("eve", "stranger")}
INPUTS: Sequence[dict[str, Any]] = ({}, {"n": 1}, {"n": "1"}, {"n": 2}, {"n": "wrong"})
"""The first three are the same once they are validated, the last never is."""
IDS = [str(UUID(int=number, version=4)) for number in (1, 2)]
KEYS = ["k", "l"]


def value_of(inputs: dict[str, Any]) -> int | None:
    """Return what the flow would be given, or None where that is not valid."""
    value = inputs.get("n", 1)
    return None if value == "wrong" else int(value)


class Catalog:
    """Knows the flows."""

    limited: frozenset[str] = frozenset()

    def get(self, name: str) -> FlowSpec | None:
        return SPECS.get(name)

    async def resolve(self, name: str) -> FlowSpec:
        if name not in SPECS:
            raise NotFoundError(f"there is no flow {name!r}")
        return SPECS[name]


class Validator:
    """Reads whole numbers, as a worker would."""

    async def validate(self, flow: str, inputs: str) -> str:
        value = value_of(json.loads(inputs))
        if value is None:
            raise InvalidInputsError("no", [{"loc": ["inputs", "n"], "msg": "a whole number", "type": "int_parsing"}])
        return json.dumps({"n": value})


@dataclass
class Original:
    """What the model knows of a request that has taken a key or id."""

    request: str
    run: str
    flow: str
    sent: str
    value: int

    def matches(self, request: TriggerRequest) -> bool:
        """Say whether a request asks for the same; an invalid one has to be the same as it was sent."""
        if request.flow != self.flow:
            return False
        return json.dumps(request.inputs) == self.sent or value_of(request.inputs) == self.value


@dataclass
class Run:
    """A run of the model."""

    flow: str
    state: str
    claimed: Claimed | None = None


@dataclass
class Model:
    """What must be in the tables."""

    keys: dict[tuple[str, str, str], Original] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    rows: Counter[tuple[str, str | None, str, int, int]] = field(default_factory=Counter)
    replays: Counter[str] = field(default_factory=Counter)

    def identities(self, request: TriggerRequest) -> list[tuple[str, str, str]]:
        found = [] if request.request_id is None else [("", request.invoker.id, request.request_id)]
        key = request.idempotency_key
        return found if key is None else [*found, (request.flow, request.invoker.id, key)]

    def advance(self) -> None:
        """Start what has a slot and room; there is always room."""
        for flow in SPECS:
            queued = [run for run in self.runs.values() if run.flow == flow and run.state == "queued"]
            active = sum(run.flow == flow and run.state in ("running", "cancelling") for run in self.runs.values())
            limit = SPECS[flow].concurrency.limit
            for run in queued if limit is None else queued[: max(0, limit - active)]:
                run.state = "running"

    def expect(self, request: TriggerRequest) -> tuple[Outcome, str | None, Original | None]:
        """Return outcome, code and original of a request, and note the ledger row that it leaves."""
        verdict = self._judge(request)
        outcome, code, original = verdict
        if outcome is Outcome.REPLAYED:
            assert original is not None
            self.replays[original.run] += 1
        else:
            self.rows[outcome, code, request.flow, int(request.dry_run), 1] += 1
        return verdict

    def _judge(self, request: TriggerRequest) -> tuple[Outcome, str | None, Original | None]:
        if request.invoker.kind != "local":
            return Outcome.REJECTED, "forbidden", None
        known = [(identity, self.keys[identity]) for identity in self.identities(request) if identity in self.keys]
        if known and json.dumps(request.inputs) == known[0][1].sent and request.flow == known[0][1].flow:
            return Outcome.REPLAYED, None, known[0][1]
        if request.flow not in SPECS:
            return Outcome.REJECTED, "not_found", None
        if not known and value_of(request.inputs) is None:
            return Outcome.REJECTED, "invalid_inputs", None
        if not known:
            return Outcome.ADMITTED, None, None
        (scope, _, _), original = known[0]
        if original.matches(request):
            return Outcome.REPLAYED, None, original
        return Outcome.REJECTED, "idempotency_conflict" if scope else "request_id_conflict", original


class Gates(RuleBasedStateMachine):
    """A gate over a store, and a model of both."""

    empty: ClassVar[Callable[[], Database]]

    def __init__(self) -> None:
        super().__init__()
        self.database = self.empty()
        self.clock = DrivenClock()
        self.runner = asyncio.Runner()
        self.model = Model()
        self.store: Store | None = None

    @initialize()
    def begin(self) -> None:
        self.runner.run(self._open())

    def teardown(self) -> None:
        if self.store is not None:
            self.runner.run(self.store.stop())
        self.runner.close()

    async def _open(self) -> None:
        self.store = self.database.store(self.clock)
        self.store.start()
        self.room = Room(0)
        self.room.grow(LANE, 1000)
        await self.store.write(Start)
        await self.store.write(lambda done: RegisterFlows(LOCATION, list(SPECS.values()), True, done))
        fleets = {LOCATION: SimpleNamespace(validator=Validator())}
        deadlines = SimpleNamespace(expect=lambda at: None)
        engine: Any = SimpleNamespace(catalog=Catalog(), fleets=fleets, deadlines=deadlines, room=self.room)
        self.gate = Gate(self.store, engine, LocalPolicy(), self.clock, Pauses(self.store, self.clock))
        self.store.serve(self.room, self._dispatch)
        await self._settled()

    def _dispatch(self, claimed: Sequence[Claimed]) -> None:
        for run in claimed:
            self.claimed[run.uuid] = run

    claimed: dict[str, Claimed]

    async def _settled(self) -> None:
        """Wait until the writer has claimed what it can: it claims at the end of each transaction."""
        assert self.store is not None
        self.claimed = getattr(self, "claimed", {})
        await self.store.write(lambda done: FinishRuns([], done))

    def read(self, sql: str) -> list[tuple[Any, ...]]:
        assert self.store is not None
        return self.runner.run(
            self.store.read(lambda connection: [tuple(row) for row in connection.execute(sql).fetchall()])
        )

    # --- what can happen ---------------------------------------------------------------------------------------------

    @rule(
        flow=st.sampled_from(["single", "single", "free", "unknown"]),
        inputs=st.sampled_from(INPUTS),
        who=st.sampled_from(["ada", "ada", "ada", "bob", "eve"]),
        request_id=st.none() | st.sampled_from(IDS),
        key=st.none() | st.sampled_from(KEYS),
        dry_run=st.sampled_from([False, False, True]),
        copies=st.sampled_from([1, 1, 1, 4]),
    )
    def ask(
        self,
        flow: str,
        inputs: dict[str, Any],
        who: str,
        request_id: str | None,
        key: str | None,
        dry_run: bool,
        copies: int,
    ) -> None:
        """Ask, perhaps several times at the same instant."""
        request = TriggerRequest(
            flow, inputs, INVOKERS[who], "test", request_id=request_id, idempotency_key=key, dry_run=dry_run
        )

        async def submit() -> list[Receipt]:
            receipts = list(await asyncio.gather(*(self.gate.submit(request) for _ in range(copies))))
            await self._settled()
            return receipts

        self.clock.advance(1)
        receipts = self.runner.run(submit())
        # Of equal ones at the same instant any may be the first.
        for receipt in sorted(receipts, key=lambda receipt: receipt.outcome != Outcome.ADMITTED):
            self._check(request, receipt)
        self.model.advance()

    def _check(self, request: TriggerRequest, receipt: Receipt) -> None:
        outcome, code, original = self.model.expect(request)
        assert (receipt.outcome, receipt.code) == (outcome, code), receipt.reason
        assert receipt.flow == request.flow
        assert receipt.replayed == (outcome is Outcome.REPLAYED)
        if original is not None:
            assert receipt.run_id == original.run
            if outcome is Outcome.REPLAYED:
                assert receipt.request_id == original.request
        elif outcome is Outcome.ADMITTED and not request.dry_run:
            assert receipt.run_id is not None
            assert request.request_id in (None, receipt.request_id)
            value = value_of(request.inputs)
            assert value is not None
            taken = Original(receipt.request_id, receipt.run_id, request.flow, json.dumps(request.inputs), value)
            self.model.keys |= dict.fromkeys(self.model.identities(request), taken)
            self.model.runs[receipt.run_id] = Run(request.flow, "queued")
        else:
            assert receipt.run_id is None

    def running(self) -> list[str]:
        return [uuid for uuid, run in self.model.runs.items() if run.state in ("running", "cancelling")]

    @precondition(lambda self: self.running())
    @rule(data=st.data(), state=st.sampled_from(["succeeded", "failed"]))
    def finish(self, data: st.DataObject, state: str) -> None:
        uuid = data.draw(st.sampled_from(self.running()))
        run = self.model.runs[uuid]

        async def finish() -> None:
            assert self.store is not None
            await self.store.write(lambda done: FinishRuns([finished(self.claimed[uuid], state)], done))
            self.room.free(LANE)
            await self._settled()

        self.runner.run(finish())
        run.state = "cancelled" if run.state == "cancelling" else state
        self.model.advance()

    @precondition(lambda self: self.model.runs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        uuid = data.draw(st.sampled_from(sorted(self.model.runs)))
        run = self.model.runs[uuid]

        async def cancel() -> None:
            assert self.store is not None
            try:
                await self.store.write(lambda done: CancelRun(uuid, "ada", None, False, "2026-01-01T00:00:00Z", done))
                assert run.state in ("queued", "running", "cancelling")
            except NotCancellableError:
                assert run.state in ("succeeded", "failed", "cancelled")
            await self._settled()

        self.runner.run(cancel())
        run.state = {"queued": "cancelled", "running": "cancelling"}.get(run.state, run.state)
        self.model.advance()

    @rule()
    def restart(self) -> None:
        """Runs that were active go on elsewhere; what was being cancelled is."""
        assert self.store is not None
        self.runner.run(self.store.stop())
        self.runner.run(self._open())
        for run in self.model.runs.values():
            run.state = "cancelled" if run.state == "cancelling" else run.state
        self.model.advance()

    @rule()
    def a_month_passes(self) -> None:
        self.clock.advance(31 * DAY)
        self.model.keys.clear()

    # --- what must always be true ------------------------------------------------------------------------------------

    @invariant()
    def the_tables_say_what_the_model_says(self) -> None:
        if self.store is None:
            return
        rows = self.read("SELECT outcome, code, flow, dry_run, count FROM requests WHERE outcome != 'replayed'")
        assert Counter(rows) == self.model.rows
        replays = self.read(
            "SELECT r.uuid, q.count FROM requests q JOIN runs r ON r.id = q.original_id WHERE q.outcome = 'replayed'"
        )
        assert sorted(replays) == sorted(self.model.replays.items())
        runs = self.read("SELECT uuid, state FROM runs")
        assert dict(runs) == {uuid: run.state for uuid, run in self.model.runs.items()}
        admitted = self.read("SELECT id FROM requests WHERE outcome = 'admitted' AND dry_run = 0")
        assert sorted(admitted) == sorted(self.read("SELECT id FROM runs"))
        assert sorted(self.read("SELECT subject_id FROM audit WHERE action = 'run.admit'")) == sorted(admitted)
        held = self.read("SELECT count(*) FROM runs WHERE slot = 'single' AND state IN ('running', 'cancelling')")
        assert held[0][0] <= 1


def test_requests_through_anything(empty: Callable[[], Database], kind: str) -> None:
    machine = type("GatesOverOneKind", (Gates,), {"empty": staticmethod(empty)})
    # A statement to another process takes ten times as long, and a test has three minutes on the slowest machine.
    examples = 40 if kind == "sqlite" else 12
    run_state_machine_as_test(machine, settings=settings(max_examples=examples, stateful_step_count=30))
