"""Schedules: every tick is asked for once, or is in the ledger as missed or skipped.

How far a schedule has come, its cursor, is the last tick that was dealt with. It is written together with what the
ticks became, so that neither a crash nor a clock that is set makes a tick run twice or disappear.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from itertools import count
from typing import Any, Final

from pydantic_core import from_json

from pullcord.clock import Clock, rfc3339
from pullcord.core.canonical import canonical_json
from pullcord.core.errors import DefinitionError, HeldBackError, PullcordError, UsageError
from pullcord.core.states import Outcome
from pullcord.core.timetable import Omitted, Plan, Schedule, Tick, plan, schedule_of
from pullcord.core.trigger import AT, SCHEDULES
from pullcord.engine.pauses import Pauses
from pullcord.gate.gate import Gate, Refusal
from pullcord.gate.request import TriggerRequest
from pullcord.histogram import Histogram
from pullcord.store.commands.admit import Admit
from pullcord.store.commands.ledger import LedgerEntry
from pullcord.store.commands.triggers import REFUSED, FireTrigger, HistoryRow
from pullcord.store.transaction import ignore
from pullcord.triggers.backoff import after_refusals
from pullcord.triggers.record import TriggerRecord
from pullcord.triggers.registry import Registry

log = logging.getLogger(__name__)

LOOK: Final = 1.0
"""Seconds between two looks at the clock, which somebody may set."""

BACK: Final = 2_000_000
"""Microseconds from which on a clock that goes back was set, and is not slowly corrected."""

MOST_AGAIN: Final = 10_000
"""So many ticks run again at most when somebody puts a schedule back."""

ABSENT: Final = "its time passed while no server ran"
"""Why a tick that was due before the server started is missed."""

HOUR: Final = 3_600_000_000
"""Microseconds. The ticks of an hour that a pause leaves out share a row in the ledger."""

AT_A_TIME: Final = 500
"""After so many schedules that are due others get their turn."""


@dataclass(slots=True)
class Due:
    """A schedule with ticks to deal with.

    Attributes:
        record: the trigger.
        plan: what its ticks become.
        requests: what it asks for.
        notes: ledger rows of ticks that become no runs.
        prepared: what the gate says of the requests.
    """

    record: TriggerRecord
    plan: Plan
    requests: list[TriggerRequest]
    notes: list[LedgerEntry]
    history: HistoryRow
    prepared: list[Admit | Refusal]

    def admits(self) -> list[Admit]:
        """Return those that the gate takes."""
        return [item for item in self.prepared if isinstance(item, Admit)]


class Schedules:
    """Keeps the times of all schedules; a `Trigger`.

    Attributes:
        lateness: seconds from the moment a tick was due to that in which its request was on disk.
    """

    kind = "schedule"

    def init(self, deps: Mapping[str, Any]) -> None:
        """Take the gate, the registry and the clock."""
        self._gate: Gate = deps["gate"]
        self._registry: Registry = deps["registry"]
        self._pauses: Pauses = deps["pauses"]
        self._clock: Clock = deps["clock"]
        for kind in SCHEDULES:
            self._registry.kinds[kind] = self
        self._records: dict[int, TriggerRecord] = {}
        self._heap: list[tuple[int, int, TriggerRecord]] = []
        self._due: dict[int, int] = {}
        self._order = count().__next__
        self._refusals: dict[int, int] = {}
        self._dealing: dict[int, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._ahead = self._ahead_now()
        self._began = self._clock.now()
        self.lateness = Histogram()

    def start(self) -> None:
        """Begin to keep the time. The clock may have been set back since an earlier server looked at it."""
        self._rewound()
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Stop; what is due meanwhile is dealt with by the next server."""
        tasks = [*self._dealing.values(), *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def routes(self) -> list[Any]:
        """Return no routes."""
        return []

    # --- what the registry says ----------------------------------------------------------------------

    def begin(self, record: TriggerRecord, anew: bool) -> tuple[list[str | None] | None, int | None]:
        """Return where a schedule goes on from: a new or changed one from now, an interval from its last tick."""
        schedule, now = self.schedule(record), self._clock.now()
        cursor = _cursor(record)
        moved: list[str | None] | None = None
        if anew or cursor is None:
            if record.kind == AT:
                cursor = 0
            elif cursor is None:
                cursor = now
            else:
                # Its last tick is the anchor of an interval; what would have been due since then is not.
                passed = schedule.ticks(cursor).newest(cursor, now, 1) if cursor < now else []
                cursor = passed[0] if passed else cursor
            moved = [str(cursor)]
        following = schedule.next_after(cursor)
        return moved, None if following is None else schedule.due(following, record.name)

    async def settle(self, record: TriggerRecord) -> None:
        """Deal with what is due now, and wait for what is being dealt with."""
        while record.id in self._dealing:
            await asyncio.wait([self._dealing[record.id]])
        if record.id in self._records:
            await asyncio.wait([self._begin(record)])

    def busy(self, record: TriggerRecord) -> bool:
        """Say whether ticks of a schedule are being dealt with."""
        return record.id in self._dealing

    def check(self, record: TriggerRecord) -> None:
        """Check a changed schedule.

        Raises:
            UsageError: it cannot be.
        """
        try:
            schedule_of(record.kind, record.settings())
        except DefinitionError as error:  # of who changes it now, and not of the code
            raise UsageError(error.message) from None

    def adopt(self, record: TriggerRecord) -> None:
        """Keep a schedule's times from now on; one whose times are kept already goes on."""
        if record.id in self._records:
            return
        self._records[record.id] = record
        if record.state.next_due is not None:
            self._arm(record, record.state.next_due)

    def drop(self, record: TriggerRecord) -> None:
        """Keep its times no longer."""
        self._records.pop(record.id, None)
        self._due.pop(record.id, None)
        self._refusals.pop(record.id, None)

    def schedule(self, record: TriggerRecord) -> Schedule:
        """Return a trigger's schedule: the code's alone, where that contradicts what people changed before."""
        if record.override is not None and record.override.settings is not None:
            try:
                return _schedule(record.kind, canonical_json(record.settings()))
            except DefinitionError as error:
                log.warning("%s goes by the code alone: with what was changed about it, %s", record.name, error.message)
        return _schedule(record.kind, record.spec.settings)

    def preview(self, record: TriggerRecord, n: int, after: datetime) -> list[Tick]:
        """Return the next ticks, with what clocks and blackouts do to them.

        Raises:
            UsageError: `n` is out of range.
        """
        return self.schedule(record).preview(n, after, record.name, _cursor(record))

    # --- when ----------------------------------------------------------------------------------------

    def _arm(self, record: TriggerRecord, due: int) -> None:
        self._due[record.id] = due
        heapq.heappush(self._heap, (due, self._order(), record))
        if self._heap[0][2] is record:
            self._news.set()

    async def _work(self) -> None:
        while True:
            await self._look()
            pause = LOOK
            if self._heap:
                pause = min(LOOK, max(0.0, (self._heap[0][0] - self._clock.now()) / 1_000_000))
            self._news.clear()
            try:
                async with asyncio.timeout(pause):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _look(self) -> None:
        """Deal with everything that is due."""
        ahead = self._ahead_now()
        if self._ahead - ahead > BACK:
            self._rewound()
        self._ahead = ahead
        now = self._clock.now()
        due: list[TriggerRecord] = []
        while self._heap and self._heap[0][0] <= now:
            moment, _, record = heapq.heappop(self._heap)
            if self._due.get(record.id) == moment and self._records.get(record.id) is record:
                due.append(record)
        for position, record in enumerate(due):
            if record.id in self._dealing:  # the clock was set meanwhile
                self._arm(record, now + round(LOOK * 1_000_000))
            else:
                self._begin(record)
            if position % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)

    def _rewound(self) -> None:
        """The clock went back: a schedule that is far ahead of it now would be silent until it is right again."""
        now = self._clock.now()
        for record in list(self._records.values()):
            if (_cursor(record) or 0) > now:
                self._arm(record, now)

    def _ahead_now(self) -> int:
        return self._clock.now() - time.monotonic_ns() // 1000

    # --- ticks ---------------------------------------------------------------------------------------

    def _begin(self, record: TriggerRecord) -> asyncio.Task[None]:
        """Deal with the ticks of a schedule, apart from all others: one whose flow gives no answer delays none."""
        task = self._dealing[record.id] = asyncio.get_running_loop().create_task(self._deal_with(record))
        return task

    async def _deal_with(self, record: TriggerRecord) -> None:
        try:
            now = self._clock.now()
            before: int | None = None
            while (due := self._plan(record, now, before)) is not None:
                due.prepared = [await self._gate.prepare(request) for request in due.requests]
                try:
                    await self._write(due)
                    break
                except HeldBackError as error:
                    before = due.admits()[error.room].run.scheduled_for
                    if before is None or before <= due.plan.run[0]:
                        await self._wait(due, error.message)
                        break
        except PullcordError as error:
            log.warning("the ticks of %s could not be written: %s", record.name, error)
            self._later(record)
        except Exception:
            # Whatever is wrong with it, it is tried again, and stops no other.
            log.exception("dealing with the ticks of %s failed", record.name, extra={"trigger": record.name})
            self._later(record)
        finally:
            del self._dealing[record.id]

    def _plan(self, record: TriggerRecord, now: int, before: int | None = None) -> Due | None:
        """Return what is to be done with the ticks that are due; only with those before a time, where one is given."""
        schedule = self.schedule(record)
        cursor = _cursor(record)
        if cursor is None:
            cursor = now
        again = record.override is not None and cursor < (record.override.again_until or 0)
        if again:
            schedule = _schedule(
                record.kind, canonical_json(record.settings() | {"catch_up": "all", "max_catch_up": MOST_AGAIN})
            )
        what = plan(schedule, record.name, cursor, now)
        if not what.run and what.missed is None and not what.skipped and not what.reset:
            if what.next_due is not None:
                self._arm(record, what.next_due)
            return None
        if before is not None:
            what = what.before(before)
        on = [tick for tick in what.run if record.enabled(tick)]
        flows = [flow for flow in record.spec.flows if self._pauses.get(flow) is None]
        requests = [self._request(record, flow, tick) for tick in on for flow in flows]
        notes: list[LedgerEntry] = []
        words: list[str] = []
        if on and len(flows) < len(record.spec.flows):
            paused, reasons = self._paused(record, on)
            notes += paused
            words += [f"{len(on)} skipped: {reason}" for reason in reasons]
        off = [tick for tick in what.run if not record.enabled(tick)]
        if off:
            notes += self._off(record, off)
            words.append(f"{len(off)} skipped: {record.why_off()}")
        if record.kind == AT and what.run and what.run[0] < record.registered_at and on and not again:
            # It was declared when its time had passed.
            requests, reason = [], f"its time, {rfc3339(what.run[0])}, had passed when it was declared"
            notes += [
                self._gate.note(self._request(record, flow, what.run[0]), Outcome.MISSED, reason)
                for flow in record.spec.flows
            ]
            words.append(f"missed: {reason}")
        if what.missed is not None:
            if what.missed.last < self._began and not again:
                what = replace(what, missed=replace(what.missed, reason=ABSENT))
            assert what.missed is not None
            notes += self._omitted(record, what.missed, Outcome.MISSED)
            words.append(f"{what.missed.count} missed: {what.missed.reason}")
        for skipped in what.skipped:
            notes += self._omitted(record, skipped, Outcome.SKIPPED)
            words.append(f"{skipped.count} skipped: {skipped.reason}")
        if what.reset:
            words.append("the clock was set back; the schedule goes on from now")
        outcome = "missed" if what.missed is not None else "skipped"
        history = HistoryRow(outcome, "; ".join(words) or None, now, now, previous=record.line)
        return Due(record, what, requests, notes, history, [])

    def _request(self, record: TriggerRecord, flow: str, tick: int) -> TriggerRequest:
        inputs: dict[str, Any] = from_json(record.parameters)
        return TriggerRequest(
            flow=flow,
            inputs=inputs,
            invoker=record.invoker,
            source="server",
            trigger=record.ref,
            scheduled_for=tick,
        )

    def _off(self, record: TriggerRecord, ticks: list[int]) -> list[LedgerEntry]:
        """Return what the ledger says of ticks of a schedule that is disabled: one row for all of them."""
        entries = []
        for flow in record.spec.flows:
            entry = self._gate.note(
                self._request(record, flow, ticks[-1]), Outcome.SKIPPED, record.why_off(), len(ticks)
            )
            entry.repeat_key = f"off:{record.name}:{flow}:{record.generation}"
            entries.append(entry)
        return entries

    def _paused(self, record: TriggerRecord, ticks: list[int]) -> tuple[list[LedgerEntry], list[str]]:
        """Return what the ledger says of ticks whose flow is paused, and why: the ticks of an hour share a row."""
        entries: list[LedgerEntry] = []
        reasons: list[str] = []
        for flow in record.spec.flows:
            pause = self._pauses.get(flow)
            if pause is not None:
                reasons.append(pause.explain())
                for tick in ticks:
                    entry = self._gate.note(self._request(record, flow, tick), Outcome.SKIPPED, pause.explain())
                    entry.repeat_key = f"paused:{record.name}:{flow}:{pause.at}:{tick // HOUR}"
                    entries.append(entry)
        return entries, reasons

    def _omitted(self, record: TriggerRecord, omitted: Omitted, outcome: Outcome) -> list[LedgerEntry]:
        """Return what the ledger says of ticks that do not run: a row for each, or one for very many."""
        entries: list[LedgerEntry] = []
        for flow in record.spec.flows:
            for tick in omitted.ticks:
                entries.append(self._gate.note(self._request(record, flow, tick), outcome, omitted.reason))
            if not omitted.ticks:
                reason = (
                    f"{omitted.count:,} ticks from {rfc3339(omitted.first)} to {rfc3339(omitted.last)}: "
                    f"{omitted.reason}"
                )
                request = self._request(record, flow, omitted.last)
                entries.append(self._gate.note(request, outcome, reason, omitted.count))
        return entries

    async def _write(self, due: Due) -> None:
        record, what = due.record, due.plan
        refusals = [item for item in due.prepared if isinstance(item, Refusal)]
        passing = next((refusal for refusal in refusals if refusal.transient), None)
        if passing is not None:
            if passing.entry is not None:
                passing.entry.repeat_key = f"waits:{record.name}:{passing.entry.flow}:{due.plan.cursor}"
            await self._wait(due, passing.reason, passing.entry)
            return
        admits = due.admits()
        notes = [*due.notes, *(refusal.entry for refusal in refusals if refusal.entry is not None)]
        if refusals:
            words = [f"{len(refusals)} rejected: {refusals[0].reason}", *filter(None, [due.history.reason])]
            due.history.outcome, due.history.reason = REFUSED, "; ".join(words)
        state = replace(record.state, cursor=str(what.cursor), next_due=what.next_due)
        if admits:
            state.last_fired_at = self._clock.now()
        command = FireTrigger(record.id, record.generation, state, ignore, admits, notes, due.history)
        fired = await self._gate.write(command)
        if fired is None or self._records.get(record.id) is not record:
            return
        record.state = state
        record.line = fired.line
        self._registry.trim(record)
        self._refusals.pop(record.id, None)
        if admits and what.run:
            self.lateness.observe(
                max(0.0, (self._clock.now() - self.schedule(record).due(what.run[-1], record.name)) / 1e6)
            )
        if what.next_due is not None:
            self._arm(record, what.next_due)

    async def _wait(self, due: Due, reason: str, entry: LedgerEntry | None = None) -> None:
        """Try again later, and say so: what the ledger and the history say of one tick shares a row and a line."""
        record, now = due.record, self._clock.now()
        log.info("%s cannot run now, and tries again: %s", record.name, reason)
        notes = [] if entry is None else [entry]
        history = HistoryRow(REFUSED, f"tried again: {reason}", now, now, previous=record.line)
        fired = await self._gate.write(
            FireTrigger(record.id, record.generation, replace(record.state), ignore, [], notes, history)
        )
        if fired is not None:
            record.line = fired.line
            self._registry.trim(record)
        self._later(record)

    def _later(self, record: TriggerRecord) -> None:
        """Try again in a while what passes by itself."""
        if self._records.get(record.id) is not record:
            return
        refusals = self._refusals[record.id] = self._refusals.get(record.id, 0) + 1
        self._arm(record, self._clock.now() + round(after_refusals(0.5, refusals) * 1_000_000))


def _cursor(record: TriggerRecord) -> int | None:
    return None if record.state.cursor is None else int(record.state.cursor)


@lru_cache(maxsize=20_000)
def _schedule(kind: str, settings: str) -> Schedule:
    return schedule_of(kind, from_json(settings))
