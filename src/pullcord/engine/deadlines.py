"""Ends what is over when it is over: runs that have not started in time, and pauses of flows."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from pullcord.clock import Clock
from pullcord.core.errors import PullcordError
from pullcord.core.states import RunState
from pullcord.engine.alarm import Alarm
from pullcord.engine.hub import Hub
from pullcord.engine.statistics import RunStatistics
from pullcord.failpoints import hit
from pullcord.store.commands.deadlines import MeetDeadlines, Met
from pullcord.store.store import Store

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
        self._alarm = Alarm(clock, self.look)

    def expect(self, at: int | None) -> None:
        """There is a further deadline, microseconds; None is none."""
        self._alarm.not_after(at)

    def look(self) -> None:
        """End what is over, and find out when the next deadline is."""
        self._spawn(self._meet())

    def stop(self) -> None:
        """Stop waiting, for good."""
        self._alarm.stop()

    async def _meet(self) -> None:
        now = self._clock.now()
        # What is expected from here on may not be on disk yet when the store looks: its result must not hide that.
        self._alarm.clear()
        hit("deadline.before_write")
        try:
            met: Met = await self._store.write(lambda done: MeetDeadlines(now, self._floor, done))
        except PullcordError:
            self._alarm.not_after(now + round(AGAIN * 1_000_000))
            return
        hit("deadline.after_write")
        for run in met.expired:
            self._hub.state(run.uuid, RunState.CANCELLED)
            self._statistics.never_started(run.flow, RunState.CANCELLED, run.test)
        self.expect(met.following)
