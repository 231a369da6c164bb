"""Measures how late the server's event loop is: the first sign of a server that has more to do than it can."""

from __future__ import annotations

import asyncio
from typing import Final

from pullcord.histogram import Histogram
from pullcord.services.duty import Duty

EVERY: Final = 0.5
"""Seconds between measurements."""


class LoopLag(Duty):
    """Measures.

    Attributes:
        seconds: by how much the loop was late, each time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = Histogram()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY
            await asyncio.sleep(EVERY)
            self.seconds.observe(max(0.0, loop.time() - due))
