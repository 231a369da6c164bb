"""What long-lived duties have in common: work that begins when the server starts and is cancelled when it stops."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod


class Duty(ABC):
    """A task on the event loop; what it does is said in `_work`."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Stop working."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @abstractmethod
    async def _work(self) -> None:
        """Work until cancelled."""
