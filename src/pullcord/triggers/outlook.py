"""What is ahead of flows: their triggers in short, and when their schedules ask next."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import nsmallest
from typing import Any, Final

from pullcord.clock import Clock, rfc3339
from pullcord.core.trigger import SCHEDULES
from pullcord.engine.pauses import Pauses
from pullcord.triggers.record import TriggerRecord
from pullcord.triggers.registry import Registry
from pullcord.triggers.schedules import Schedules

SHOWN: Final = 5
"""So many coming times are told of a flow."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is ahead of a flow.

    Attributes:
        triggers: id, name, kind, enabled, health and next_due of each, by name; those that left the code are left out.
        next_runs: the next times of its enabled schedules, RFC 3339.
    """

    triggers: list[dict[str, Any]] = field(default_factory=list)
    next_runs: list[str | None] = field(default_factory=list)


NOTHING: Final = Ahead()
"""What is ahead of a flow that has left the code."""


class Outlook:
    """Looks ahead.

    Args:
        registry: all triggers.
        schedules: keeps the times of schedules.
        pauses: which flows are paused.
        clock: the time.
    """

    def __init__(self, registry: Registry, schedules: Schedules, pauses: Pauses, clock: Clock) -> None:
        self._registry = registry
        self._schedules = schedules
        self._pauses = pauses
        self._clock = clock

    def of(self, flows: Collection[str]) -> dict[str, Ahead]:
        """Return what is ahead of each of these flows."""
        now = self._clock.now()
        return {
            flow: self._ahead(flow, [record for record in self._registry.all(flow) if record.removed_at is None], now)
            for flow in flows
        }

    def _ahead(self, flow: str, records: list[TriggerRecord], now: int) -> Ahead:
        pause = self._pauses.get(flow)
        if pause is None:
            times = self._times(records, now)
        else:  # what is due while the flow is paused is skipped
            times = [] if pause.until is None else self._times(records, pause.until)
        return Ahead([self._short(record, now) for record in records], times)

    def _short(self, record: TriggerRecord, now: int) -> dict[str, Any]:
        served, enabled = self._registry.served(record), record.enabled(now)
        return {
            "id": record.uuid,
            "name": record.name,
            "kind": record.kind,
            "enabled": enabled,
            "health": record.health(now, served),
            "next_due": rfc3339(record.state.next_due) if enabled and served else None,
        }

    def _times(self, records: list[TriggerRecord], now: int) -> list[str | None]:
        """Return the next times of schedules. Only those that are due first can have them."""
        asking = [
            (record.state.next_due, record.id, record)
            for record in records
            if record.kind in SCHEDULES and record.state.next_due is not None and self._registry.served(record)
        ]
        after = EPOCH + timedelta(microseconds=now)
        times = [
            tick.at
            for _, _, record in nsmallest(SHOWN, asking)
            for tick in self._schedules.preview(record, SHOWN, after)
            if tick.fires and record.enabled(tick.at)
        ]
        return [rfc3339(at) for at in sorted(set(times))[:SHOWN]]
