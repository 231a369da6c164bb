"""Events: polled in their location's worker on a cadence, each under a deadline, none in the way of another."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, Final

from pydantic_core import from_json

from pullcord.clock import Clock
from pullcord.core.canonical import canonical_json
from pullcord.core.errors import HeldBackError, PullcordError, UnavailableError, UsageError
from pullcord.core.event import SHORTEST
from pullcord.core.states import Outcome
from pullcord.core.trigger import EVENT
from pullcord.engine.engine import Engine
from pullcord.engine.polls import Poll, Seen
from pullcord.gate.gate import Gate, Refusal
from pullcord.gate.request import TriggerRequest
from pullcord.histogram import Histogram
from pullcord.store.commands.admit import Admit
from pullcord.store.commands.ledger import LedgerEntry
from pullcord.store.commands.triggers import HOUR, REFUSED, Fired, FireTrigger, HistoryRow, TriggerState
from pullcord.store.transaction import ignore
from pullcord.triggers.backoff import after_errors, after_refusals
from pullcord.triggers.record import Override, TriggerRecord
from pullcord.triggers.registry import Registry

log = logging.getLogger(__name__)

TOGETHER: Final = 0.025
"""Polls that are due within so many seconds of each other leave in one message."""

PACE: Final = 0.0005
"""First polls leave one after the other at this distance, seconds, so that all later ones are spread too."""

AT_A_TIME: Final = 250
"""So many fires of one poll are validated before others get their turn."""

WRITE_EVERY: Final = 60.0
"""Seconds after which the history says of equal skips how many there were."""

RESTLESS: Final = 10_000_000
"""A trigger that gives another reason at every poll gets a line for it only so often, microseconds."""


PREVIEW: Final = 10.0
"""Seconds beyond its own deadline after which a preview is given up: its code may not load, or be slow to."""


class Watched:
    """An event that is polled.

    Attributes:
        record: the trigger.
        every: seconds between polls.
        due: when it is polled next, seconds of the loop's clock.
        busy: whether what it saw last is not written yet.
        dropped: whether it is polled no longer.
        refusals: how often in a row the gate could not take what it saw.
    """

    __slots__ = ("busy", "dropped", "due", "every", "parameters", "record", "refusals", "timeout")

    def __init__(self, record: TriggerRecord, due: float) -> None:
        settings = record.settings()
        self.record = record
        self.every: float = settings["every"]
        self.timeout: float = settings["timeout"]
        self.parameters = record.parameters
        self.due = due
        self.busy = False
        self.dropped = False
        self.refusals = 0


class Events:
    """Polls all events of all locations; a `Trigger`.

    Attributes:
        polled: how many polls there were, by outcome.
        lateness: seconds by which polls left later than they were due.
    """

    kind = EVENT

    def init(self, deps: Mapping[str, Any]) -> None:
        """Take the gate, the engine, the registry and the clock."""
        self._gate: Gate = deps["gate"]
        self._engine: Engine = deps["engine"]
        self._registry: Registry = deps["registry"]
        self._clock: Clock = deps["clock"]
        self._registry.kinds[EVENT] = self
        deps["pauses"].on_resume(self._resumed)
        self._watched: dict[int, Watched] = {}
        self._heap: list[tuple[float, int, Watched]] = []
        self._order = count().__next__
        self._unwritten: set[Watched] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes = self._free = 0.0
        self._running = False
        self.polled: dict[str, int] = {"fire": 0, "skip": 0, "failed": 0}
        self.lateness = Histogram()

    def start(self) -> None:
        """Begin to poll."""
        self._loop = asyncio.get_running_loop()
        self._running = True
        self._spawn(self._write_skips())
        for watched in self._watched.values():
            self._arm(watched, self._first(watched))

    async def stop(self) -> None:
        """Stop polling, and write what the histories do not say yet."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._flush()

    def routes(self) -> list[Any]:
        """Return no routes."""
        return []

    # --- what the registry says ----------------------------------------------------------------------

    def begin(self, record: TriggerRecord, anew: bool) -> tuple[list[str | None] | None, int | None]:
        """Return where an event goes on from: it stays where it is, and is polled at once."""
        return None, self._clock.now()

    async def settle(self, record: TriggerRecord) -> None:
        """Do nothing: what has happened meanwhile is seen by the next poll."""

    def check(self, record: TriggerRecord) -> None:
        """Check a changed cadence and the like.

        Raises:
            UsageError: a value cannot be.
        """
        settings = record.settings()
        unknown = settings.keys() - {"every", "timeout", "allow_concurrent", "max_errors"}
        if unknown:
            raise UsageError(f"an event has no setting {sorted(unknown)[0]!r}; it has every, timeout and max_errors")
        for name, least in (("every", SHORTEST), ("timeout", 0.01)):
            value = settings[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= 3e9:
                raise UsageError(f"{name} is a number of seconds, at least {least:g}, not {value!r}")
        most = settings["max_errors"]
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise UsageError(f"max_errors is a whole number of at least 1, or null for no limit, not {most!r}")
        if not isinstance(settings["allow_concurrent"], bool):
            raise UsageError("allow_concurrent is true or false")

    def adopt(self, record: TriggerRecord) -> None:
        """Poll an event from now on; one that is polled already goes on."""
        if record.id in self._watched:
            return
        watched = self._watched[record.id] = Watched(record, 0.0)
        if self._running:
            self._arm(watched, self._first(watched))

    def drop(self, record: TriggerRecord) -> None:
        """Poll an event no longer."""
        watched = self._watched.pop(record.id, None)
        if watched is None:
            return
        watched.dropped = True
        self._unwritten.discard(watched)
        fleet = self._engine.fleets.get(record.spec.location)
        if fleet is not None:
            fleet.polls.forget([record.name])

    # --- when ----------------------------------------------------------------------------------------

    def _first(self, watched: Watched) -> float:
        """Return when an event is polled first: at once, or after others that are also polled for the first time."""
        now = self._loop.time()
        self._free = max(now, self._free + PACE)
        return now + (self._free - now) % watched.every

    def _arm(self, watched: Watched, due: float) -> None:
        """Poll an event at a moment of the loop's clock."""
        if watched.dropped or not self._running:
            return
        watched.due = due
        watched.record.state.next_due = self._clock.now() + round((due - self._loop.time()) * 1_000_000)
        heapq.heappush(self._heap, (due, self._order(), watched))
        if self._timer is None or due < self._wakes:
            self._wake_at(due)

    def _resumed(self, flow: str) -> None:
        """Poll the events at once that were held back while a flow was paused."""
        for watched in self._watched.values():
            if self._running and watched.refusals and not watched.busy and flow in watched.record.spec.flows:
                watched.refusals = 0
                self._arm(watched, self._loop.time())

    def _arm_after(self, watched: Watched, pause: float) -> None:
        """Poll an event again a while after it was due; never in the past, and in step with its cadence."""
        now, due = self._loop.time(), watched.due + pause
        if due <= now:
            due = now + pause - (now - watched.due) % pause
        self._arm(watched, due)

    def _wake_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._wakes = due
        self._timer = self._loop.call_at(due, self._wake)

    def _wake(self) -> None:
        """Send all polls that are due."""
        self._timer = None
        now, wall = self._loop.time(), self._clock.now()
        due: dict[str, list[Poll]] = {}
        while self._heap and self._heap[0][0] <= now + TOGETHER / 10:
            moment, _, watched = heapq.heappop(self._heap)
            record = watched.record
            if watched.dropped or moment != watched.due:
                continue
            if not record.enabled(wall):
                self._sleep(watched, wall)
                continue
            self.lateness.observe(max(0.0, now - moment))
            poll = Poll(
                record.name, record.state.cursor, watched.parameters, watched.timeout, partial(self._seen, watched)
            )
            due.setdefault(record.spec.location, []).append(poll)
        for location, polls in due.items():
            fleet = self._engine.fleets.get(location)
            if fleet is not None:
                fleet.polls.ask(polls)
        if self._heap and self._timer is None:
            self._wake_at(max(self._heap[0][0], now + TOGETHER))

    def _sleep(self, watched: Watched, now: int) -> None:
        """Wait for the end of a pause; a change by people wakes it before."""
        override = watched.record.override
        if override is not None and override.until is not None and override.until > now:
            self._arm(watched, self._loop.time() + min(3600.0, (override.until - now) / 1_000_000))

    # --- what was seen -------------------------------------------------------------------------------

    def _seen(self, watched: Watched, seen: Seen) -> None:
        if watched.dropped or not self._running:
            return
        self.polled[seen.outcome] += 1
        state = watched.record.state
        now = state.last_poll_at = self._clock.now()
        if seen.outcome == "skip" and seen.cursor == state.cursor and not state.errors:
            self._skipped(watched, seen.detail, now)
            self._arm_after(watched, watched.every)
            return
        watched.busy = True
        self._spawn(self._deal_with(watched, seen, now))

    def _skipped(self, watched: Watched, reason: str | None, now: int) -> None:
        """Count a skip; equal ones share a line in the history, which is written now and then."""
        line = watched.record.unwritten
        if line is None:
            watched.record.unwritten = HistoryRow("skipped", reason, now, now)
            self._unwritten.add(watched)
            return
        if line.reason != reason and now - line.at > RESTLESS:
            watched.record.unwritten = HistoryRow("skipped", reason, now, now)
            self._spawn(self._write_line(watched.record, line))
            return
        line.reason, line.last_at = reason, now
        line.count += 1

    async def _deal_with(self, watched: Watched, seen: Seen, now: int) -> None:
        try:
            if seen.outcome == "failed":
                pause = await self._failed(watched, seen.detail, now)
            else:
                pause = await self._fire(watched, seen, now)
        except Exception as error:
            # Whatever is wrong with what it saw, it is polled again, and what was not written is seen again.
            watched.refusals += 1
            pause = after_refusals(watched.every, watched.refusals)
            unknown = None if isinstance(error, PullcordError) else error
            level = logging.INFO if isinstance(error, HeldBackError) else logging.WARNING
            log.log(level, "what %s has seen could not be written: %s", watched.record.name, error, exc_info=unknown)
        watched.busy = False
        if pause is not None:
            self._arm_after(watched, pause)

    async def _fire(self, watched: Watched, seen: Seen, now: int) -> float | None:
        """Ask for what a poll has seen; return when to poll again, in seconds."""
        record = watched.record
        fires = seen.detail if seen.outcome == "fire" else []
        requests = [self.request(record, context, key, flow) for context, key in fires for flow in record.spec.flows]
        prepared: list[Admit | Refusal] = []
        for first in range(0, len(requests), AT_A_TIME):
            some = requests[first : first + AT_A_TIME]
            prepared += await asyncio.gather(*map(self._gate.prepare, some))
        admits = [item for item in prepared if isinstance(item, Admit)]
        refusals = [item for item in prepared if isinstance(item, Refusal)]
        state = replace(record.state, cursor=seen.cursor, errors=0, error=None)
        passing = next((refusal for refusal in refusals if refusal.transient), None)
        if passing is not None:
            # All or nothing: what is asked for again must not be there already.
            state.cursor, admits, refusals = record.state.cursor, [], [passing]
        elif admits:
            state.last_fired_at = now
        history = None
        if fires:
            reason = f"{len(refusals)} rejected: {refusals[0].reason}" if refusals else None
            history = HistoryRow(REFUSED, reason, now, now, previous=record.line)
        elif seen.outcome == "skip":
            self._skipped(watched, seen.detail, now)
        notes = [refusal.entry for refusal in refusals if refusal.entry is not None]
        if passing is not None:
            notes += self._held(record, passing, prepared, now)
        try:
            written = await self._write(watched, list(admits), notes, history, state)
        except HeldBackError as error:
            await self._write_line(record, HistoryRow(REFUSED, f"tried again: {error.message}", now, now))
            raise
        if not written:
            return None
        if passing is None:
            watched.refusals = 0
            return watched.every
        watched.refusals += 1
        return after_refusals(watched.every, watched.refusals)

    def _held(
        self, record: TriggerRecord, passing: Refusal, prepared: list[Admit | Refusal], now: int
    ) -> list[LedgerEntry]:
        """Return what the ledger says of the other flows, which wait for the one that is refused for what passes."""
        entries = {item.entry.flow: item.entry for item in reversed(prepared) if item.entry is not None}
        flow = None if passing.entry is None else passing.entry.flow
        return [
            entry.become(
                Outcome.REJECTED,
                code=passing.code,
                reason=f"{record.name} waits until it can ask for {flow} too: {passing.reason}",
                repeat_key=f"held:{record.id}:{entry.flow}:{passing.code}:{now // HOUR}",
            )
            for name, entry in entries.items()
            if name != flow
        ]

    def request(self, record: TriggerRecord, context: str, key: str | None, flow: str) -> TriggerRequest:
        """Return the request that a fire makes."""
        inputs: dict[str, Any] = from_json(context)
        dedup = None
        if record.deduplicates():
            dedup = f"context:{canonical_json(inputs)}" if key is None else f"key:{key}"
        return TriggerRequest(
            flow=flow, inputs=inputs, invoker=record.invoker, source="server", trigger=record.ref, dedup=dedup
        )

    async def _failed(self, watched: Watched, trouble: dict[str, Any], now: int) -> float | None:
        """Note a failed poll; return when to poll again, or None when the event is disabled."""
        record = watched.record
        message = f"{trouble['type']}: {trouble['message']}"[:2000]
        errors = record.state.errors + 1
        state = replace(record.state, errors=errors, error=message)
        detail = canonical_json({"traceback": trouble.get("traceback")})
        history = HistoryRow("failed", message, now, now, detail=detail, previous=record.line)
        if not await self._write(watched, [], [], history, state):
            return None
        fields = {"trigger": record.name, "errors": errors}
        log.log(
            logging.WARNING if errors == 1 else logging.DEBUG,
            "polling %s failed: %s",
            record.name,
            message,
            extra=fields,
        )
        most = record.settings()["max_errors"]
        if trouble["permanent"] or (most is not None and errors >= most):
            await self._disable(record, message, "this does not pass by itself" if trouble["permanent"] else None)
            return None
        return after_errors(watched.every, errors, trouble["retry_after"])

    async def _disable(self, record: TriggerRecord, message: str, why: str | None) -> None:
        why = why or f"{record.state.errors} polls in a row failed"
        before = record.override or Override()
        reason = f"{why}; the last: {message}. Mend it, then `pullcord triggers enable {record.name}`"
        override = replace(before, enabled=False, until=None, by="pullcord", at=self._clock.now(), reason=reason)
        log.error("the event %s is disabled: %s", record.name, reason, extra={"trigger": record.name})
        await self._registry.change(record, override, None, "disabled", "pullcord", failing=True)

    async def preview(self, record: TriggerRecord, cursor: str | None) -> Seen:
        """Poll an event once and keep nothing of it.

        Raises:
            UsageError: the location it comes from is not served.
            UnavailableError: its code does not answer.
        """
        fleet = self._engine.fleets.get(record.spec.location)
        if fleet is None:
            raise UsageError(f"{record.spec.location} is not served, so {record.name} cannot be polled")
        answer: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()

        def done(seen: Seen) -> None:
            if not answer.done():
                answer.set_result(seen)

        timeout: float = record.settings()["timeout"]
        fleet.polls.ask([Poll(record.name, cursor, record.parameters, timeout, done, preview=True)])
        try:
            async with asyncio.timeout(timeout + PREVIEW):
                return await answer
        except TimeoutError:
            raise UnavailableError(
                f"the workers of {record.spec.location} did not poll {record.name} within {timeout + PREVIEW:g} s; "
                "try again"
            ) from None

    # --- writing -------------------------------------------------------------------------------------

    async def _write(
        self,
        watched: Watched,
        admits: list[Admit],
        notes: list[Any] | None = None,
        history: HistoryRow | None = None,
        state: TriggerState | None = None,
    ) -> bool:
        """Write what an event has seen; return False when it was changed meanwhile.

        Skips that the history does not say yet come first.
        """
        record = watched.record
        state = state or replace(record.state)
        if record.unwritten is not None:
            line, record.unwritten = record.unwritten, None
            self._unwritten.discard(watched)
            if history is None:
                line.previous = record.line
                history = line
            else:
                await self._write_line(record, line)
                history.previous = record.line
        command = FireTrigger(record.id, record.generation, state, ignore, admits, notes or [], history)
        if not await self._put(record, command):
            return False
        if not watched.dropped:
            due = record.state.next_due
            record.state = state
            state.next_due = due
        return True

    async def _write_line(self, record: TriggerRecord, line: HistoryRow) -> None:
        """Write a line of a history and nothing else."""
        line.previous = record.line
        await self._put(record, FireTrigger(record.id, record.generation, replace(record.state), ignore, history=line))

    async def _put(self, record: TriggerRecord, command: FireTrigger) -> Fired | None:
        fired = await self._gate.write(command)
        if fired is not None and fired.line is not None:
            record.line = fired.line
            self._registry.trim(record)
        return fired

    async def _write_skips(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY)
            await self._flush()

    async def _flush(self) -> None:
        idle = [watched for watched in self._unwritten if not watched.busy]
        try:
            await asyncio.gather(*(self._write(watched, []) for watched in idle))
        except PullcordError as error:
            log.warning("the histories of events could not be written: %s", error)

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
