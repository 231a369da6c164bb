"""Ends what is over when it is over: runs that have not started in time, and pauses of flows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from pullcord.clock import Clock
from pullcord.core.errors import PullcordError
from pullcord.core.states import RunState
from pullcord.engine.hub import Hub
from pullcord.engine.statistics import RunStatistics
from pullcord.failpoints import hit
from pullcord.store.commands.deadlines import MeetDeadlines, Met
from pullcord.store.store import Store

LOOK: Final = 10.0
"""Seconds between two looks at the clock, which somebody may set."""

AGAIN: Final = 1.0
"""Seconds after which what could not be written is tried again."""


class Deadlines:
    """Waits for the next deadline.

    Args:
        store: where the runs and pauses are.
        clock: the time.
        hub: is told which runs have ended.
        statistics: likewise.
        floor: only runs with a higher number are looked at.
        spawn: runs a coroutine as a task that the server waits for or cancels when it stops.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        hub: Hub,
        statistics: RunStatistics,
        floor: int,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._hub = hub
        self._statistics = statistics
        self._floor = floor
        self._spawn = spawn
        self._next: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def expect(self, at: int | None) -> None:
        """There is a further deadline, microseconds; None is none."""
        if at is not None and (self._next is None or at < self._next):
            self._wake_at(at)

    def look(self) -> None:
        """End what is over, and find out when the next deadline is."""
        self._spawn(self._meet())

    def stop(self) -> None:
        """Stop waiting, for good."""
        self._stopped = True
        self._cancel()

    def _wake_at(self, at: int | None) -> None:
        self._cancel()
        self._next = at
        if at is not None and not self._stopped:
            pause = min(LOOK, max(0.0, (at - self._clock.now()) / 1_000_000))
            self._timer = asyncio.get_running_loop().call_later(pause, self._check, at)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self, at: int) -> None:
        if self._clock.now() >= at:
            self.look()
        else:
            self._wake_at(at)

    async def _meet(self) -> None:
        now = self._clock.now()
        self._next = None
        hit("deadline.before_write")
        try:
            met: Met = await self._store.write(lambda done: MeetDeadlines(now, self._floor, done))
        except PullcordError:
            self._wake_at(now + round(AGAIN * 1_000_000))
            return
        hit("deadline.after_write")
        for run in met.expired:
            self._hub.state(run.uuid, RunState.CANCELLED)
            self._statistics.never_started(run.flow, RunState.CANCELLED, run.test)
        self.expect(met.following)
