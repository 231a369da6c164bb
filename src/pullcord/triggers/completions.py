"""Completions: the end of a run starts another, once, whatever crashes in between.

The end of a run whose flow is watched is noted in the transaction that ends it, and the note is taken away in the one
that writes what it started.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any, Final
from uuid import UUID, uuid5

from pydantic_core import from_json, to_json

from pullcord.clock import Clock
from pullcord.core.errors import PullcordError, UnavailableError, UsageError
from pullcord.core.states import ENDED, Outcome
from pullcord.core.trigger import COMPLETION
from pullcord.engine.engine import Engine
from pullcord.engine.polls import Seen, failed
from pullcord.engine.watch import Watch
from pullcord.gate.gate import Gate
from pullcord.gate.request import TRIGGER, Invoker, TriggerRequest
from pullcord.store.commands.admit import Admit
from pullcord.store.commands.ledger import LedgerEntry
from pullcord.store.commands.triggers import REFUSED, DropEndings, FireTrigger, HistoryRow
from pullcord.store.queries.triggers import ended_runs
from pullcord.store.store import Store
from pullcord.store.transaction import ignore
from pullcord.triggers.backoff import after_refusals
from pullcord.triggers.record import TriggerRecord
from pullcord.triggers.registry import Registry

log = logging.getLogger(__name__)

AT_A_TIME: Final = 200
"""So many ended runs are dealt with together."""

TURN: Final = 1.0
"""Seconds that these have before the next ones get their turn; what takes longer goes on beside them."""


class Completions:
    """Starts flows when others have ended; a `Trigger`."""

    kind = COMPLETION

    def init(self, deps: Mapping[str, Any]) -> None:
        """Take the gate, the engine, the store, the registry and the clock."""
        self._gate: Gate = deps["gate"]
        self._engine: Engine = deps["engine"]
        self._store: Store = deps["store"]
        self._watch: Watch = deps["watch"]
        self._registry: Registry = deps["registry"]
        self._clock: Clock = deps["clock"]
        self._registry.kinds[COMPLETION] = self
        self._records: dict[int, TriggerRecord] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._open: dict[int, asyncio.Task[None]] = {}
        self._closed: set[int] = set()
        self._resumed = asyncio.Event()
        deps["pauses"].on_resume(self._go_on)

    def start(self) -> None:
        """Begin with the ends that an earlier server noted."""
        self._store.watch_endings(lambda _: self._news.set())
        self._news.set()
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Stop; what is noted is dealt with by the next server."""
        tasks = [*self._open.values(), *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def routes(self) -> list[Any]:
        """Return no routes."""
        return []

    def _go_on(self, _: str) -> None:
        """A flow goes on: what waits for that is tried again at once."""
        self._resumed.set()
        self._resumed = asyncio.Event()

    # --- what the registry says ----------------------------------------------------------------------

    def begin(self, record: TriggerRecord, anew: bool) -> tuple[list[str | None] | None, int | None]:
        """Return nothing: it waits for ends."""
        return None, None

    async def settle(self, record: TriggerRecord) -> None:
        """Do nothing: ends that are noted go by what is declared when they are dealt with."""

    def check(self, record: TriggerRecord) -> None:
        """Check changed settings.

        Raises:
            UsageError: a state is none that a run ends in, or something else was to be changed.
        """
        declared, wanted = from_json(record.spec.settings), record.settings()
        fixed = next((name for name in wanted if name != "on" and wanted[name] != declared.get(name)), None)
        if fixed is not None:
            raise UsageError(
                f"{fixed!r} of a completion is changed in the code; on, parameters and enabled can be here"
            )
        states = wanted["on"]
        if not isinstance(states, list) or not states or any(str(state) not in ENDED for state in states):
            raise UsageError(f"on is a list of states that a run ends in: {', '.join(sorted(ENDED))}")

    def adopt(self, record: TriggerRecord) -> None:
        """Start its flows from now on."""
        self._records[record.id] = record
        self._news.set()

    def drop(self, record: TriggerRecord) -> None:
        """Start its flows no longer."""
        self._records.pop(record.id, None)

    # --- ends ----------------------------------------------------------------------------------------

    async def _work(self) -> None:
        # Before, it is not known who waits for an end.
        await self._engine.catalog.wait_ready()
        await self._registry.wait_ready()
        refusals = 0
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                while await self._begin_some():
                    pass
                refusals = 0
            except PullcordError as error:
                refusals += 1
                log.warning("ends of runs could not be read, and are tried again: %s", error)
                await asyncio.sleep(after_refusals(0.5, refusals))
                self._news.set()

    async def _begin_some(self) -> bool:
        """Begin to deal with the oldest ends, each by itself; say whether there were any."""
        self._closed.clear()
        ended = await self._store.read(ended_runs, AT_A_TIME + len(self._open))
        fresh = [row for row in ended if row[0] not in self._open and row[0] not in self._closed]
        for number, uuid, flow, state in fresh:
            work = self._deal_with(number, uuid, flow, state)
            self._open[number] = asyncio.get_running_loop().create_task(work)
        if fresh:
            await asyncio.wait([self._open[row[0]] for row in fresh if row[0] in self._open], timeout=TURN)
        return bool(fresh)

    async def _deal_with(self, number: int, uuid: str, flow: str, state: str) -> None:
        """Start what waits for an end. What cannot be started now is tried again, and delays nothing else."""
        done: set[int] = set()
        for refusals in count(1):
            try:
                if await self._start_all(number, uuid, flow, state, done):
                    break
            except Exception as error:
                log.warning("the end of run %s could not be dealt with, and is tried again: %s", uuid, error)
            with suppress(TimeoutError):
                async with asyncio.timeout(after_refusals(0.5, refusals)):
                    await self._resumed.wait()
        self._closed.add(number)
        del self._open[number]

    async def _start_all(self, number: int, uuid: str, flow: str, state: str, done: set[int]) -> bool:
        """Start what waits for an end and has not been started; say whether that was all."""
        waiting = [
            record
            for record in self._records.values()
            if record.id not in done and flow in (settings := record.settings())["of"] and state in settings["on"]
        ]
        if not waiting:
            await self._store.write(lambda done: DropEndings([number], done))
            return True
        item = await self._watch.run(uuid)
        turn = asyncio.Lock()

        async def start(record: TriggerRecord) -> None:
            try:
                command = await self._ask(record, item)
                async with turn:  # the last one takes the note away
                    others = {other.id for other in waiting} - done - {record.id}
                    await self._write(record, replace(command, endings=[] if others else [number]))
                    done.add(record.id)
            except PullcordError as error:
                log.info("%s is tried again: %s", record.name, error, extra={"trigger": record.name})

        await asyncio.gather(*map(start, waiting))
        return {record.id for record in waiting} <= done

    async def _ask(self, record: TriggerRecord, item: dict[str, Any]) -> FireTrigger:
        """Return what the end of a run starts, as it is to be written.

        Raises:
            UnavailableError: it cannot be said now.
        """
        now = self._clock.now()
        admits: list[Admit] = []
        notes: list[LedgerEntry] = []
        history = HistoryRow(REFUSED, None, now, now, detail=to_json({"run": item["id"]}).decode())
        source = f"{item['flow']} ended: run {item['id']} {item['state']}"
        if not record.enabled(now):
            notes = [self._note(record, flow, item, Outcome.SKIPPED, record.why_off()) for flow in record.spec.flows]
            history.outcome, history.reason = "skipped", f"{source}; {record.why_off()}"
        else:
            seen = await self._inputs(record, item)
            if seen.outcome == "skip":
                reason = seen.detail or "its function skipped it"
                notes = [self._note(record, flow, item, Outcome.SKIPPED, reason) for flow in record.spec.flows]
                history.outcome, history.reason = "skipped", f"{source}; {reason}"
            elif seen.outcome == "failed":
                reason = f"{seen.detail['type']}: {seen.detail['message']}"
                notes = [self._note(record, flow, item, Outcome.ERRORED, reason) for flow in record.spec.flows]
                history.outcome, history.reason = "failed", f"{source}; {reason}"
            else:
                requests = [
                    self._request(record, flow, item, from_json(context), f"{number}/{flow}", key)
                    for number, (context, key) in enumerate(seen.detail)
                    for flow in record.spec.flows
                ]
                for prepared in await asyncio.gather(*map(self._gate.prepare, requests)):
                    if isinstance(prepared, Admit):
                        admits.append(prepared)
                    elif prepared.transient:
                        await self._gate.hold(prepared, record.name)
                        raise UnavailableError(prepared.reason)
                    else:
                        notes += [prepared.entry] if prepared.entry is not None else []
                        history.reason = f"rejected: {prepared.reason}"
        state = replace(record.state, last_fired_at=now if admits else record.state.last_fired_at)
        return FireTrigger(record.id, record.generation, state, ignore, admits, notes, history)

    async def _write(self, record: TriggerRecord, command: FireTrigger) -> None:
        """Write what the end of a run starts.

        Raises:
            UnavailableError: the trigger was changed meanwhile; nothing was written.
        """
        fired = await self._gate.write(command)
        if fired is None:
            raise UnavailableError(f"{record.name} was changed just now")
        record.state, record.line = command.state, fired.line
        self._registry.trim(record)

    async def _inputs(self, record: TriggerRecord, item: dict[str, Any]) -> Seen:
        fixed: dict[str, Any] = from_json(record.parameters)
        if record.settings()["mapped"]:
            fleet = self._engine.fleets.get(record.spec.location)
            if fleet is None:
                return failed("unavailable", f"{record.spec.location} is not served")
            seen = await fleet.polls.map(record.name, to_json(item).decode())
            if seen.outcome != "fire":
                return seen
            return Seen("fire", [[to_json(fixed | from_json(context)).decode(), key] for context, key in seen.detail])
        result = item["result"]
        inputs = result if isinstance(result, dict) else {} if result is None else {"result": result}
        return Seen("fire", [[to_json(fixed | inputs).decode(), None]])

    def _request(
        self,
        record: TriggerRecord,
        flow: str,
        item: dict[str, Any],
        inputs: dict[str, Any],
        which: str | None = None,
        key: str | None = None,
    ) -> TriggerRequest:
        """Return a request in the name of the trigger, on behalf of who asked for the run that ended.

        Its id follows from that run and from `which`, so that it is the same when a crash has it asked for again.
        """
        asked = item["invoker"]
        chain = (*(asked["on_behalf_of"] or ()), asked["id"])
        return TriggerRequest(
            flow=flow,
            inputs=inputs,
            invoker=Invoker(record.invoker.id, TRIGGER, chain),
            source="server",
            trigger=record.ref,
            request_id=None if which is None else str(uuid5(UUID(item["id"]), f"{record.name}/{which}")),
            note=f"run {item['id']} of {item['flow']} {item['state']}",
            dedup=None if key is None else f"key:{key}",
        )

    def _note(
        self, record: TriggerRecord, flow: str, item: dict[str, Any], outcome: Outcome, reason: str
    ) -> LedgerEntry:
        return self._gate.note(self._request(record, flow, item, {}), outcome, reason)
