"""Measures how late the server's event loop is: the first sign of a server that has more to do than it can."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from pullcord.histogram import Histogram

EVERY: Final = 0.5
"""Seconds between measurements."""


class LoopLag:
    """Measures.

    Attributes:
        seconds: by how much the loop was late, each time.
    """

    def __init__(self) -> None:
        self.seconds = Histogram()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Stop measuring."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY
            await asyncio.sleep(EVERY)
            self.seconds.observe(max(0.0, loop.time() - due))
