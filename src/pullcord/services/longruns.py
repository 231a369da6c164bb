"""Long runs: those that take longer than usual are told of while they still run, each once."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from pullcord.clock import Clock
from pullcord.core.errors import PullcordError
from pullcord.core.notify import LONG, Rule
from pullcord.core.rulebook import Book
from pullcord.services.duty import Duty
from pullcord.store.commands.outbox import NoteLongRuns
from pullcord.store.queries.durations import begun_runs
from pullcord.store.queries.figures import usual_duration
from pullcord.store.store import Store

log = logging.getLogger(__name__)

EVERY: Final = 5.0
"""Seconds between looks; without a rule about long runs a look costs nothing."""

REMEMBERED: Final = 60_000_000
"""Microseconds for which the usual duration of a flow is taken for true."""


class LongRuns(Duty):
    """Looks for runs that take long.

    Args:
        store: the store.
        clock: the time.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        super().__init__()
        self._store = store
        self._clock = clock
        self._usual: dict[str, tuple[int, int | None]] = {}
        self._told: set[tuple[int, str]] = set()
        self._book: Book | None = None
        self._asked = False

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.look()
            except PullcordError as error:
                log.warning("long runs could not be looked for: %s", error)

    async def look(self) -> None:
        """Note every run that takes long and was not told of to all that want to know."""
        book, now = self._store.book, self._clock.now()
        if book is not self._book:
            self._book, self._asked = book, book.mentions(LONG)
        if not self._asked:
            return
        found: list[tuple[int, str, list[str], dict[str, Any]]] = []
        running = await self._store.read(begun_runs)
        for number, flow, began in running:
            for rule in () if book.muted(flow, now) else book.rules(flow).get(LONG, ()):
                fresh = [name for name in rule.channels if (number, name) not in self._told]
                detail = await self._judge(rule, flow, now - began, now) if fresh else None
                if detail is not None:
                    found.append((number, flow, fresh, detail))
        if found:
            await self._store.write(lambda done: NoteLongRuns(found, done))
        there = {number for number, _, _ in running}
        self._told = {pair for pair in self._told if pair[0] in there}
        self._told |= {(number, name) for number, _, names, _ in found for name in names}

    async def _judge(self, rule: Rule, flow: str, took: int, now: int) -> dict[str, Any] | None:
        """Return what is said of a run that takes long by this rule, or None."""
        if rule.after is not None and took > rule.after * 1_000_000:
            text = f"It has been running for {took / 1e6:,.0f} s, longer than the {rule.after:g} s that were expected."
            return {"text": text, "seconds": took / 1e6, "expected": rule.after}
        if rule.factor is None:
            return None
        usual = await self._usual_of(flow, now)
        if usual is None or took <= usual * rule.factor:
            return None
        text = f"It has been running for {took / 1e6:,.1f} s; usual is {usual / 1e6:,.1f} s."
        return {"text": text, "seconds": took / 1e6, "usual": usual / 1e6}

    async def _usual_of(self, flow: str, now: int) -> int | None:
        known = self._usual.get(flow)
        if known is None or not 0 <= now - known[0] < REMEMBERED:
            known = self._usual[flow] = (now, await self._store.read(usual_duration, flow))
        return known[1]
