"""Writes down now and then how far runs are, so that a server that is killed forgets little of it."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pullcord.core.errors import StoreError
from pullcord.services.duty import Duty
from pullcord.store.commands.progress import SaveProgress

if TYPE_CHECKING:
    from pullcord.engine.engine import Engine

EVERY: Final = 5.0
"""Seconds between two looks. The end of a run takes its last progress with it and waits for nothing."""

log = logging.getLogger(__name__)


class ProgressSaver(Duty):
    """Saves progress; where no run reports any, nothing is written.

    Args:
        engine: whose runs.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            rows = self._engine.progress.take_all()
            if rows:
                self._engine.store.submit(SaveProgress(rows, partial(self._saved, rows)))

    def _saved(self, rows: list[list[Any]], result: StoreError | None) -> None:
        if result is not None:
            log.warning("the progress of runs could not be saved: %s", result, extra={"code": result.code})
            self._engine.progress.give_back(rows)
