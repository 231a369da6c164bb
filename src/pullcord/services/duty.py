"""What long-lived duties have in common: work that begins when the server starts and is cancelled when it stops."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod

log = logging.getLogger(__name__)


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
            await asyncio.wait({self._task})  # not the task itself: a cancel of who waits must not pass for the task's
            if not self._task.cancelled() and (error := self._task.exception()) is not None:
                log.error("the %s had failed", type(self).__name__, exc_info=error)

    @abstractmethod
    async def _work(self) -> None:
        """Work until cancelled."""
