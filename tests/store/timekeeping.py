"""Schedules as a server keeps them, with a clock that a test drives, in lives that end at any moment.

The real registry, schedules, gate and store work together. Only the workers' side is simple: every inputs are valid.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from pullcord.core.errors import NotFoundError, UnavailableError
from pullcord.core.manifest import FlowSpec
from pullcord.core.timetable import Schedule
from pullcord.engine.pauses import Pauses
from pullcord.gate.gate import Gate
from pullcord.gate.policy import LocalPolicy
from pullcord.gate.request import OWNER, Invoker, Receipt, TriggerRequest
from pullcord.store.commands.catalog import RegisterFlows
from pullcord.store.commands.lifecycle import Start
from pullcord.store.store import Store
from pullcord.triggers.control import TriggerControl
from pullcord.triggers.events import Events
from pullcord.triggers.record import TriggerRecord
from pullcord.triggers.registry import Registry
from pullcord.triggers.schedules import Schedules
from tests.store.harness import LOCATION, Database, DrivenClock, spec

PATIENCE = 60.0
HOUR = 3600 * 1_000_000
FLOWS = {name: spec(name, None) for name in ("f", "g")}

Row = dict[str, Any]


class MortalStore:
    """A store that lets nobody write or hear of a write once its process is dead.

    Args:
        store: the store.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.dead = asyncio.Event()
        self.left: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def write(self, make: Any) -> Any:
        """Write, or die before it or after it."""
        await self.survive()
        result = await self.store.write(make)
        await self.survive()
        return result

    async def survive(self) -> None:
        """Die here when it is time; who is dead never gets on."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.dead.set()
        if self.dead.is_set():
            await asyncio.Event().wait()


class Catalog:
    """Knows the flows; each of them can be out of reach for a while."""

    def __init__(self) -> None:
        self.states = {LOCATION: SimpleNamespace(failures=[])}
        self.missing: set[str] = set()
        self.limited: set[str] = set()
        self.hanging: dict[str, asyncio.Event] = {}

    def get(self, name: str) -> FlowSpec | None:
        return FLOWS.get(name)

    async def resolve(self, name: str) -> FlowSpec:
        if name in self.hanging:
            await self.hanging[name].wait()
        if name in self.missing:
            raise UnavailableError(f"{name} is loading")
        if name not in FLOWS:
            raise NotFoundError(f"there is no flow {name!r}")
        return FLOWS[name]


class Validator:
    """Finds everything valid."""

    async def validate(self, flow: str, inputs: str) -> str:
        return inputs


class Life:
    """One life of a server.

    Args:
        database: what the lives have in common.
        clock: the time.
        declared: the schedules that the code has, by flow.
    """

    def __init__(self, database: Database, clock: DrivenClock, declared: dict[str, list[Schedule]]) -> None:
        self.clock = clock
        self.declared = declared
        self.ended = False
        self.store = MortalStore(database.store(clock))
        store: Any = self.store
        self.catalog = Catalog()
        fleet = SimpleNamespace(validator=Validator(), polls=SimpleNamespace(forget=lambda names: None))
        engine: Any = SimpleNamespace(
            catalog=self.catalog,
            fleets={LOCATION: fleet},
            declared=None,
            known_triggers={},
            due=SimpleNamespace(look=lambda: None),
            room=SimpleNamespace(floor=0),
            deadlines=SimpleNamespace(expect=lambda at: None),
        )
        self.engine = engine
        self.pauses = Pauses(self.store.store, clock)
        self.gate = Gate(store, engine, LocalPolicy(), clock, self.pauses)
        self.registry = Registry(store, engine, clock)
        deps = {
            "gate": self.gate,
            "engine": engine,
            "registry": self.registry,
            "clock": clock,
            "store": store,
            "pauses": self.pauses,
        }
        self.schedules, events = Schedules(), Events()
        self.schedules.init(deps)
        events.init(deps)
        self.control = TriggerControl(self.registry, self.schedules, events, self.gate, LocalPolicy(), store, clock)

    async def begin(self) -> Life:
        """Start as a server does, and have the code loaded."""
        self.store.store.start()
        await self.store.store.write(Start)
        await self.store.store.write(lambda done: RegisterFlows(LOCATION, list(FLOWS.values()), True, done))
        await self.registry.load()
        self.deploy(self.declared)
        self.schedules.start()
        return self

    def deploy(self, declared: dict[str, list[Schedule]], complete: bool = True) -> None:
        """Have code loaded that declares these schedules and no others."""
        self.declared = declared
        self.engine.declared(
            LOCATION, [_item(flow, one) for flow in declared for one in declared[flow]], None, complete
        )

    async def end(self) -> None:
        """Be dead: nothing further is written, and what is on its way to the disk gets there."""
        if self.ended:
            return
        self.ended = True
        self.store.dead.set()
        await self.schedules.stop()
        await self.registry.stop()
        await self.store.store.stop()

    async def registered(self, *names: str) -> None:
        """Wait until these schedules are kept."""
        await self.until(lambda: {record.name for record in self.registry.all()} >= set(names))

    async def settled(self) -> None:
        """Wait until nothing is due any more, or the server is dead."""

        def nothing_due() -> bool:
            records = [record for record in self.registry.all() if record.removed_at is None]
            return len(records) >= sum(map(len, self.declared.values())) and all(map(self.done, records))

        await self.until(lambda: self.store.dead.is_set() or nothing_due())

    def done(self, record: TriggerRecord) -> bool:
        """Say whether all that is due of a schedule is dealt with."""
        return record.generation >= 0 and (record.state.next_due is None or record.state.next_due > self.clock.now())

    async def until(self, what: Callable[[], bool]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not what():
            assert time.monotonic() < deadline, "it did not come true"
            await asyncio.sleep(0.001)

    async def pass_time(self, microseconds: int) -> None:
        """Move the clock and wait until what is due then is dealt with."""
        self.clock.advance(microseconds)
        await self.settled()

    async def change(self, name: str, invoker: Invoker = OWNER, **changes: Any) -> Row:
        """Change a schedule."""
        return dict(await self.control.change(name, changes, invoker))

    async def ask(self, flow: str) -> Receipt:
        """Ask for a run by hand."""
        return await self.gate.submit(TriggerRequest(flow, {}, OWNER, "test"))

    async def rows(self, sql: str, **parameters: Any) -> list[Row]:
        """Read rows."""

        def read(connection: Any) -> list[Row]:
            cursor = connection.execute(sql, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        return await self.store.store.read(read)

    async def ledger(self, name: str) -> list[Row]:
        """Return what the ledger has of a schedule, the oldest first."""
        return await self.rows(
            "SELECT outcome, reason, scheduled_for, count, at FROM requests WHERE trigger_name = :name ORDER BY id",
            name=name,
        )

    async def ticks(self, name: str) -> Counter[int]:
        """Return how often each tick is in the ledger."""
        return Counter(row["scheduled_for"] for row in await self.ledger(name))

    async def admitted(self, name: str) -> list[int]:
        """Return the ticks that became runs, in the order in which they did."""
        rows = await self.rows(
            "SELECT r.scheduled_for FROM runs r JOIN requests q ON q.id = r.id WHERE q.trigger_name = :name "
            "ORDER BY r.id",
            name=name,
        )
        return [row["scheduled_for"] for row in rows]

    async def history(self, name: str) -> list[tuple[str, str | None, int]]:
        """Return outcome, reason and count of each line of a history, the oldest first."""
        rows = await self.rows(
            "SELECT h.outcome, h.reason, h.count FROM trigger_history h JOIN triggers t ON t.id = h.trigger_id "
            "WHERE t.name = :name ORDER BY h.id",
            name=name,
        )
        return [(row["outcome"], row["reason"], row["count"]) for row in rows]


def _item(flow: str, schedule: Schedule) -> dict[str, Any]:
    return {
        "name": schedule.name or f"{flow}-{schedule.kind}",
        "kind": schedule.kind,
        "flows": [flow],
        "place": f"/code/{flow}.py:1",
        "description": "",
        "enabled": schedule.enabled,
        "parameters": schedule.parameters,
        "settings": schedule.settings(),
    }
