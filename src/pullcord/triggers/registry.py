"""All triggers: what the code of each location declares, joined with what people changed and how far each has come."""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, Final, Protocol

from uuid_utils import uuid7

from pullcord.clock import Clock
from pullcord.core.canonical import canonical_json
from pullcord.core.completion import cycles
from pullcord.core.errors import NotFoundError, PullcordError, UsageError
from pullcord.core.manifest import LoadFailure, TriggerSpec
from pullcord.core.trigger import COMPLETION
from pullcord.engine.engine import Engine
from pullcord.store.commands.triggers import (
    ChangeTrigger,
    Declared,
    HistoryRow,
    RegisterTriggers,
    TriggerState,
    TrimHistory,
)
from pullcord.store.queries.triggers import stored_triggers
from pullcord.store.store import Store
from pullcord.store.transaction import ignore
from pullcord.triggers.record import Override, TriggerRecord

log = logging.getLogger(__name__)

KEPT: Final = 1000
"""How many lines a trigger's history has at most; further ones go in hundreds."""

AT_A_TIME: Final = 500
"""So many of very many triggers are read before others get their turn."""


class Kind(Protocol):
    """What looks after the triggers of a kind."""

    def begin(self, record: TriggerRecord, anew: bool) -> tuple[list[str | None] | None, int | None]:
        """Return where a trigger goes on from.

        Args:
            record: the trigger.
            anew: whether it is new, or what it looks at has changed.

        Returns:
            Its cursor, JSON, as a list of one, or None where it stays where it is; and when it is looked at next,
            microseconds.
        """

    async def settle(self, record: TriggerRecord) -> None:
        """Deal with what is due under a declaration that is about to change."""

    def check(self, record: TriggerRecord) -> None:
        """Check what somebody wants a trigger to be.

        Raises:
            PullcordError: it cannot be.
        """

    def adopt(self, record: TriggerRecord) -> None:
        """Look after a trigger from now on, or anew: it was declared, changed, or its code was loaded."""

    def drop(self, record: TriggerRecord) -> None:
        """Look after a trigger no longer."""


class Registry:
    """Knows all triggers.

    Args:
        store: where they are kept.
        engine: tells what the code declares.
        clock: the time.

    Attributes:
        kinds: what looks after the triggers of each kind.
    """

    def __init__(self, store: Store, engine: Engine, clock: Clock) -> None:
        self.kinds: dict[str, Kind] = {}
        self._store = store
        self._engine = engine
        self._clock = clock
        self._by_name: dict[str, TriggerRecord] = {}
        self._by_id: dict[str, TriggerRecord] = {}
        self._of_flow: dict[str, set[str]] = {}
        self._sorted: list[str] = []
        self._next = 1
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        engine.declared = self.take

    async def load(self) -> None:
        """Read what earlier servers knew, and look after it: a schedule keeps its times while its code is loading."""
        async with self._lock:
            for number, row in enumerate(await self._store.read(stored_triggers), 1):
                record = TriggerRecord(
                    row.id,
                    row.uuid,
                    row.spec,
                    Override.read(row.override),
                    row.state,
                    row.generation,
                    row.registered_at,
                    row.removed_at,
                )
                self._keep(record)
                kind = self.kinds.get(record.kind)
                if kind is None:
                    log.warning("nothing looks after %s: no trigger kind is called %r", record.name, record.kind)
                elif record.removed_at is None and self.served(record):
                    kind.adopt(record)
                if number % AT_A_TIME == 0:
                    await asyncio.sleep(0)

    async def stop(self) -> None:
        """Stop registering."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def ready(self) -> bool:
        """Whether everything is registered that was declared so far."""
        return not self._tasks

    async def wait_ready(self) -> None:
        """Wait until everything is registered that was declared so far."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    # --- finding -------------------------------------------------------------------------------------

    def find(self, key: str) -> TriggerRecord:
        """Return a trigger by its id or name.

        Raises:
            NotFoundError: there is none.
        """
        record = self._by_id.get(key) or self._by_name.get(key)
        if record is None:
            raise NotFoundError(f"no trigger has the id or name {key[:100]!r}; `pullcord triggers list` shows all")
        return record

    def all(self, flow: str | None = None, after: str | None = None) -> Iterator[TriggerRecord]:
        """Yield triggers, orphaned ones too, by name.

        Args:
            flow: only those that ask for this flow.
            after: only those whose name comes after this one.
        """
        if flow is not None:
            names = sorted(name for name in self._of_flow.get(flow, ()) if flow in self._by_name[name].spec.flows)
        else:
            if len(self._sorted) != len(self._by_name):
                self._sorted = sorted(self._by_name)
            names = self._sorted
        first = 0 if after is None else bisect_right(names, after)
        return (self._by_name[name] for name in islice(names, first, None))

    def served(self, record: TriggerRecord) -> bool:
        """Say whether the location that a trigger comes from is served."""
        return record.spec.location in self._engine.fleets

    def show(self, record: TriggerRecord) -> Mapping[str, Any]:
        """Return a trigger as the API shows it."""
        return record.as_json(self._clock.now(), self.served(record))

    # --- what the code declares ----------------------------------------------------------------------

    def take(self, location: str, items: list[dict[str, Any]] | None, digest: str | None, complete: bool) -> None:
        """Take what a location declares.

        Args:
            location: its name.
            items: its triggers, as a manifest has them; None where they are those that the digest stands for.
            digest: what stands for all of them; None for what no manifest says.
            complete: whether all of its files loaded; otherwise one that is missing may only be broken.
        """
        task = asyncio.get_running_loop().create_task(self._take(location, items, digest, complete))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(
        self, location: str, items: list[dict[str, Any]] | None, digest: str | None, complete: bool
    ) -> None:
        if items is None:
            async with self._lock:
                same_as_before = await self._go_on(location, digest)
            fleet = self._engine.fleets.get(location)
            if not same_as_before and fleet is not None:
                await fleet.reload()
            return
        async with self._lock:
            read: list[TriggerSpec] = []
            for number, item in enumerate(items):
                read.append(_spec(location, item))
                if number % AT_A_TIME == AT_A_TIME - 1:
                    await asyncio.sleep(0)
            specs = self._accepted(location, read)
            if len(specs) < len(read):
                digest = None  # what is refused now may be taken next time
            same: list[TriggerRecord] = []
            fresh: list[tuple[TriggerRecord, list[str | None] | None, int | None]] = []
            restarted: list[int] = []
            for spec in specs:
                record = self._by_name.get(spec.name)
                if record is not None and record.spec == spec and record.removed_at is None:
                    same.append(record)
                    continue
                if record is None:
                    record, anew = self._new(spec), True
                else:
                    anew = record.removed_at is not None or (record.kind, record.spec.settings) != (
                        spec.kind,
                        spec.settings,
                    )
                    await self._let_go(record)
                    if record.kind != spec.kind:
                        restarted.append(record.id)
                        record.state, record.override = TriggerState(), None
                    record.spec = spec
                fresh.append((record, *self.kinds[spec.kind].begin(record, anew)))
            removed = self._missing(location, {spec.name for spec in specs}) if complete else []
            for record in removed:
                await self._let_go(record)
            known = self._engine.known_triggers.get(location)
            if fresh or removed or (digest != known and (specs or known)):
                try:
                    await self._write(location, digest, fresh, removed, restarted)
                except PullcordError as error:
                    log.error("the triggers of %s could not be registered: %s", location, error)
                    return
            if fresh or removed:
                fields = {"location": location, "declared": len(fresh), "removed": len(removed)}
                log.info(
                    "triggers of %s: %d new or changed, %d removed", location, len(fresh), len(removed), extra=fields
                )
            for record in [*(record for record, _, _ in fresh), *same]:
                self.kinds[record.kind].adopt(record)

    async def _go_on(self, location: str, digest: str | None) -> bool:
        """A location declares what it did before; return False when it has to say it all nevertheless."""
        there = [r for r in self._by_name.values() if r.spec.location == location and r.removed_at is None]
        if digest != self._engine.known_triggers.get(location) or any(r.kind not in self.kinds for r in there):
            # Something else was registered since it began to load, or what is registered cannot be looked after.
            self._engine.known_triggers.pop(location, None)
            return False
        for number, record in enumerate(there):
            self.kinds[record.kind].adopt(record)
            if number % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
        return True

    def _new(self, spec: TriggerSpec) -> TriggerRecord:
        number, self._next = self._next, self._next + 1
        return TriggerRecord(number, str(uuid7()), spec, None, TriggerState(), -1, self._clock.now())

    def _missing(self, location: str, names: set[str]) -> list[TriggerRecord]:
        """Return the triggers of a location that are not among these names any more."""
        return [
            record
            for record in self._by_name.values()
            if record.spec.location == location and record.name not in names and record.removed_at is None
        ]

    async def _let_go(self, record: TriggerRecord) -> None:
        """Have what is due dealt with, and nothing further."""
        kind = self.kinds.get(record.kind)
        if kind is None:
            return
        if record.removed_at is None and self.served(record):
            await kind.settle(record)
        kind.drop(record)

    async def _write(
        self,
        location: str,
        digest: str | None,
        fresh: list[tuple[TriggerRecord, list[str | None] | None, int | None]],
        removed: list[TriggerRecord],
        restarted: list[int],
    ) -> None:
        declared = [_declared(record, cursor, due) for record, cursor, due in fresh]
        numbers = [record.id for record in removed]
        staying = {record.id: record for record in [*self._by_name.values(), *(record for record, _, _ in fresh)]}
        watched = {
            flow
            for number, record in staying.items()
            if record.kind == COMPLETION and number not in numbers and record.removed_at is None
            for flow in record.settings()["of"]
        }
        cursors: dict[int, str | None] = await self._store.write(
            lambda done: RegisterTriggers(location, digest, declared, numbers, restarted, sorted(watched), done)
        )
        if digest is None:
            self._engine.known_triggers.pop(location, None)
        else:
            self._engine.known_triggers[location] = digest
        for record in removed:
            record.removed_at = self._clock.now()
        for record, _, due in fresh:
            record.generation += 1
            record.removed_at = None
            record.state.next_due = due
            record.state.cursor = cursors[record.id]
            self._keep(record)

    def _accepted(self, location: str, specs: list[TriggerSpec]) -> list[TriggerSpec]:
        """Return the declarations that can be, and report the others with what could not be loaded."""
        failures: list[LoadFailure] = []
        good: list[TriggerSpec] = []
        others = {
            record.name: record
            for record in self._by_name.values()
            if record.spec.location != location and record.removed_at is None and self.served(record)
        }
        for spec in specs:
            other = others.get(spec.name)
            if other is not None:
                failures.append(
                    LoadFailure(
                        spec.place,
                        f"two triggers are called {spec.name!r}: {other.spec.place} and {spec.place}; "
                        "give one another name=",
                        "",
                    )
                )
            elif spec.kind not in self.kinds:
                failures.append(LoadFailure(spec.place, f"no trigger kind is called {spec.kind!r}", ""))
            else:
                good.append(spec)
        for spec, path in cycles(good, [record.spec for record in others.values()]):
            good.remove(spec)
            way = " → ".join(path)
            failures.append(
                LoadFailure(
                    spec.place,
                    f"the trigger {spec.name!r} closes a circle of flows that start one another: {way}; remove one",
                    "",
                )
            )
        if failures:
            self._engine.catalog.states[location].failures += failures
            for failure in failures:
                log.warning("%s: %s", failure.place, failure.message, extra={"location": location})
        return good

    # --- what people change --------------------------------------------------------------------------

    async def change(
        self,
        record: TriggerRecord,
        override: Override | None,
        cursor: list[str | None] | None,
        what: str,
        invoker: str,
        *,
        failing: bool = False,
    ) -> None:
        """Write what somebody changed about a trigger.

        Args:
            record: the trigger.
            override: what is to differ from the code from now on; None for nothing.
            cursor: where it goes on from, JSON, as a list of one; None leaves it where it is.
            what: the same in words, for its history.
            invoker: id of who changed it.
            failing: keep what is known of its failed polls, which are the reason for the change.

        Raises:
            PullcordError: it cannot be so, or could not be written; then nothing has changed.
        """
        async with self._lock:
            kind = self.kinds.get(record.kind)
            if kind is None:
                raise UsageError(f"no trigger kind is called {record.kind!r}; install the package that brings it")
            there = record.state.cursor if cursor is None else cursor[0]
            wanted = replace(record, override=override, state=replace(record.state, cursor=there))
            kind.check(wanted)
            await self._let_go(record)
            anew = cursor is None and wanted.settings() != record.settings()
            moved, due = kind.begin(wanted, anew)
            now = self._clock.now()
            shown = None if override is None else override.as_json()
            reason = what + (f": {override.reason}" if override is not None and override.reason else "")
            command = ChangeTrigger(
                record.id,
                None if override is None else override.write(),
                moved if cursor is None else cursor,
                due,
                record.state.errors if failing else 0,
                HistoryRow(
                    "disabled" if failing else "changed",
                    reason,
                    now,
                    now,
                    detail=canonical_json({"by": invoker, "override": shown}),
                ),
                invoker,
                ignore,
            )
            try:
                record.generation, record.state.cursor = await self._store.write(
                    lambda done: replace(command, done=done)
                )
                record.override, record.line = override, None
                record.state.next_due = due
                if not failing:
                    record.state.errors, record.state.error = 0, None
            finally:
                if record.removed_at is None and self.served(record):
                    kind.adopt(record)

    def trim(self, record: TriggerRecord) -> None:
        """Count a line of a trigger's history, and have the oldest deleted now and then."""
        record.lines += 1
        if record.lines % 100 == 0:
            self._store.submit(TrimHistory(record.id, KEPT, ignore))

    def _keep(self, record: TriggerRecord) -> None:
        self._by_name[record.name] = self._by_id[record.uuid] = record
        for flow in record.spec.flows:
            self._of_flow.setdefault(flow, set()).add(record.name)
        self._next = max(self._next, record.id + 1)


def _spec(location: str, item: dict[str, Any]) -> TriggerSpec:
    return TriggerSpec(
        name=item["name"],
        kind=item["kind"],
        location=location,
        flows=tuple(item["flows"]),
        place=item["place"],
        description=item["description"],
        enabled=item["enabled"],
        parameters=canonical_json(item["parameters"]),
        settings=canonical_json(item["settings"]),
    )


def _declared(record: TriggerRecord, cursor: list[str | None] | None, due: int | None) -> Declared:
    spec = record.spec
    return Declared(
        record.id,
        record.uuid,
        spec.name,
        spec.kind,
        spec.location,
        spec.place,
        spec.description,
        canonical_json(list(spec.flows)),
        spec.enabled,
        spec.parameters,
        spec.settings,
        record.generation + 1,
        cursor,
        due,
    )
