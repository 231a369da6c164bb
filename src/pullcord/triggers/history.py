"""Histories of triggers whose lines nobody waits for: written in the order in which they came, equal ones as one.

Each trigger has one writer at a time, which takes all that has come meanwhile: many equal refusals are one line,
and what is written later never knows less than what was written before. A line that comes while somebody changes the
trigger may be missing; the ledger has its request.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from pullcord.clock import Clock
from pullcord.core.errors import PullcordError
from pullcord.gate.gate import Gate
from pullcord.store.commands.triggers import FIRED, Fired, FireTrigger, HistoryRow
from pullcord.store.transaction import ignore
from pullcord.triggers.record import TriggerRecord
from pullcord.triggers.registry import Registry

log = logging.getLogger(__name__)


class History:
    """Writes lines of histories.

    Args:
        gate: writes what a trigger has seen.
        registry: has histories trimmed.
        clock: the time.
    """

    def __init__(self, gate: Gate, registry: Registry, clock: Clock) -> None:
        self._gate = gate
        self._registry = registry
        self._clock = clock
        self._waiting: dict[TriggerRecord, list[HistoryRow]] = {}
        self._writers: dict[TriggerRecord, asyncio.Task[None]] = {}

    def add(self, record: TriggerRecord, outcome: str, reason: str) -> None:
        """Add a line to a trigger's history, and note when it last fired."""
        row = HistoryRow(outcome, reason, self._clock.now(), self._clock.now())
        if outcome == FIRED:
            record.state.last_fired_at = row.at
        waiting = self._waiting.setdefault(record, [])
        last = waiting[-1] if waiting else None
        if last is not None and outcome != FIRED and (last.outcome, last.reason) == (outcome, reason):
            last.last_at, last.count = row.at, last.count + 1
        else:
            waiting.append(row)
        if record not in self._writers:
            self._writers[record] = asyncio.get_running_loop().create_task(self._write(record))

    async def close(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._writers.values())

    async def _write(self, record: TriggerRecord) -> None:
        try:
            while rows := self._waiting.pop(record, None):
                rows[0].previous = record.line
                for fired in await asyncio.gather(*(self._put(record, row) for row in rows)):
                    if fired is not None:
                        record.line = fired.line
                        self._registry.trim(record)
        finally:
            del self._writers[record]

    async def _put(self, record: TriggerRecord, row: HistoryRow) -> Fired | None:
        try:
            return await self._gate.write(
                FireTrigger(record.id, record.generation, replace(record.state), ignore, history=row)
            )
        except PullcordError as error:
            log.warning("the history of %s could not be written: %s", record.name, error)
            return None
