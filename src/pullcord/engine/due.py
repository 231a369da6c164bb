"""Does what is due at a time of the store: queues scheduled runs, wakes parked ones, whatever the machine's clock does.

A time of day that somebody asked for is a matter of the clock; the back-off before another attempt is a length of time.
So the clock is looked at every few seconds, and where it went back against the monotonic one, the pending attempts go
back with it: their rest stays as long as it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from pullcord.clock import Clock
from pullcord.core.errors import PullcordError
from pullcord.engine.alarm import Alarm
from pullcord.failpoints import hit
from pullcord.store.commands.lifecycle import QueueDue
from pullcord.store.commands.waits import WakeDue
from pullcord.store.store import Store

AGAIN: Final = 10.0
"""Seconds after which what could not be written is tried again."""

STEP: Final = 2_000_000
"""Microseconds from which on a difference is a step of the clock, and no slow correction."""


def next_due(result: int | None) -> int | None:
    """Take the result of a `QueueDue`."""
    return result


class DueRuns:
    """Waits for the next due run.

    Args:
        store: where the runs are.
        clock: the time.
        spawn: runs a coroutine as a task that the server waits for or cancels when it stops.
        command: makes what does the work in the store, of the time, by how much the clock went back, and a `done`.
        take: takes its result, and returns the next time something is due, microseconds, or None.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        command: Callable[[int, int, Callable[[Any], None]], QueueDue | WakeDue] = QueueDue,
        take: Callable[[Any], int | None] = next_due,
    ) -> None:
        self._command = command
        self._take = take
        self._store = store
        self._clock = clock
        self._spawn = spawn
        self._ahead = self._ahead_now()
        self._alarm = Alarm(clock, self.look, self._went_back)

    def look(self) -> None:
        """A run was scheduled: queue what is due, and find out when the next one is."""
        self._spawn(self._queue())

    def not_after(self, due: int | None) -> None:
        """Look at this moment, microseconds, unless that is done earlier anyway; None is no moment."""
        self._alarm.not_after(due)

    def stop(self) -> None:
        """Stop waiting, for good."""
        self._alarm.stop()

    def _went_back(self) -> bool:
        return self._ahead - self._ahead_now() > STEP

    async def _queue(self) -> None:
        ahead = self._ahead_now()
        back, self._ahead = self._ahead - ahead, ahead
        now = self._clock.now()
        # What is registered from here on may not be on disk yet when the store looks: its result must not hide that.
        self._alarm.clear()
        hit("retry.before_queue")
        try:
            result = await self._store.write(lambda done: self._command(now, back if back > STEP else 0, done))
        except PullcordError:  # the writer has told it
            self._alarm.not_after(now + round(AGAIN * 1_000_000))
            return
        hit("retry.after_queue")
        self._alarm.not_after(self._take(result))

    def _ahead_now(self) -> int:
        return self._clock.now() - time.monotonic_ns() // 1000
