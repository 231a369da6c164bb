"""The rescuer: notices workers that hang or leak, and has them replaced before they harm others."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Final

from pullcord.engine.engine import Engine
from pullcord.engine.logfields import worker_fields
from pullcord.engine.worker import ALONE, APART, CONTROL, WorkerHandle
from pullcord.services.duty import Duty

log = logging.getLogger(__name__)

EVERY: Final = 2.0
"""Seconds between looks."""

SILENT: Final = 10.0
"""A worker that is silent for so long, in seconds, gets no new runs. Its beat needs only the interpreter lock."""

DEAD: Final = 60.0
"""After so long it is killed; its runs go on one to a process, where nobody suffers from a held lock."""

BEHIND: Final = 10.0
"""A worker whose event loop is so far behind, in seconds, gets no new runs, but is never killed for it."""

MEMORY_SHARE: Final = 0.5
"""A worker with more than this share of the machine's memory is killed; with more than half of that, replaced."""


class Rescuer(Duty):
    """Looks after the workers.

    Args:
        engine: whose workers.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self._most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * MEMORY_SHARE

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            now = time.monotonic()
            for worker in self._engine.workers():
                try:
                    self._look(worker, now - worker.last_beat)
                except Exception:
                    log.exception("looking after worker %d failed", worker.pid, extra=worker_fields(worker))

    def _look(self, worker: WorkerHandle, silent: float) -> None:
        if worker.resident > self._most:
            worker.kill(None, "memory")
        elif worker.resident > self._most / 2:
            worker.fleet.retire(worker, f"it uses {worker.resident // 1_000_000:,} MB of memory", "memory")
        elif worker.role in (ALONE, APART) or not worker.was_ready:
            return  # who imports code has a deadline of its own
        elif silent > (SILENT if worker.role == CONTROL else DEAD):
            worker.kill(None, "silent")
        elif silent > SILENT:
            worker.fleet.retire(worker, f"it gave no sign of life for {silent:.0f} s", "silent")
        elif worker.behind > BEHIND:
            why = f"its event loop is {worker.behind:.0f} s behind: async code that blocks"
            worker.fleet.retire(worker, why, "blocked")
