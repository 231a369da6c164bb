"""Does what is due at a time of the store: queues scheduled runs, wakes parked ones, whatever the machine's clock does.

A time of day that somebody asked for is a matter of the clock; the back-off before another attempt is a length of time.
So the clock is looked at every few seconds, and where it went back against the monotonic one, the pending attempts go
back with it: their rest stays as long as it was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from pullcord.clock import Clock
from pullcord.core.errors import PullcordError
from pullcord.failpoints import hit
from pullcord.store.commands.lifecycle import QueueDue
from pullcord.store.commands.waits import WakeDue
from pullcord.store.store import Store

LOOK = 10.0
"""Seconds between two looks at the clock while a run is scheduled."""

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
        self._due: int | None = None
        self._store = store
        self._clock = clock
        self._spawn = spawn
        self._ahead = self._ahead_now()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def look(self) -> None:
        """A run was scheduled: queue what is due, and find out when the next one is."""
        self._spawn(self._queue())

    def wake_at(self, due: int | None) -> None:
        """Wait for this moment, microseconds; None for none."""
        self.cancel()
        self._due = due
        if due is not None and not self._stopped:
            pause = min(LOOK, max(0.0, (due - self._clock.now()) / 1_000_000))
            self._timer = asyncio.get_running_loop().call_later(pause, self._check, due)

    def not_after(self, due: int) -> None:
        """Wait for this moment, unless an earlier one is waited for already."""
        if self._timer is None or self._due is None or due < self._due:
            self.wake_at(due)

    def cancel(self) -> None:
        """Stop waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """Stop waiting, for good."""
        self._stopped = True
        self.cancel()

    def _check(self, due: int) -> None:
        if self._clock.now() >= due or self._ahead - self._ahead_now() > STEP:
            self.look()
        else:
            self.wake_at(due)

    async def _queue(self) -> None:
        ahead = self._ahead_now()
        back = self._ahead - ahead
        self._ahead = ahead
        now = self._clock.now()
        # What is registered from here on may not be on disk yet when the store looks: its result must not hide that.
        self.wake_at(None)
        hit("retry.before_queue")
        try:
            result = await self._store.write(lambda done: self._command(now, back if back > STEP else 0, done))
        except PullcordError:  # the writer has told it
            self.not_after(now + round(LOOK * 1_000_000))
            return
        hit("retry.after_queue")
        following = self._take(result)
        if following is not None:
            self.not_after(following)

    def _ahead_now(self) -> int:
        return self._clock.now() - time.monotonic_ns() // 1000
