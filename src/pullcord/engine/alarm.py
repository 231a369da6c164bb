"""Rings when the clock reaches a time, whatever somebody sets the clock to meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pullcord.clock import Clock

LOOK = 10.0
"""Seconds between two looks at the clock while something is waited for."""


class Alarm:
    """Waits for one time at a time.

    Args:
        clock: the time.
        ring: called when it has come, on the event loop.
        early: says at each look whether to ring before.
    """

    def __init__(self, clock: Clock, ring: Callable[[], None], early: Callable[[], bool] = lambda: False) -> None:
        self._clock = clock
        self._ring = ring
        self._early = early
        self._at: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def not_after(self, at: int | None) -> None:
        """Wait for this time, microseconds, unless an earlier one is waited for already; None is no time."""
        if at is not None and (self._at is None or at < self._at):
            self._set(at)

    def clear(self) -> None:
        """Wait for nothing."""
        self._at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._stopped = True
        self.clear()

    def _set(self, at: int) -> None:
        self.clear()
        if not self._stopped:
            self._at = at
            pause = min(LOOK, max(0.0, (at - self._clock.now()) / 1_000_000))
            self._timer = asyncio.get_running_loop().call_later(pause, self._look, at)

    def _look(self, at: int) -> None:
        if self._clock.now() < at and not self._early():
            self._set(at)
        else:
            self.clear()
            self._ring()
