"""What the writer has done so far, and whether it can write now. Written on its thread, read on others."""

from __future__ import annotations

import time
from collections import Counter

from pullcord.core.errors import StoreError
from pullcord.histogram import BATCH, Histogram


class WriteStatistics:
    """Figures of one writer.

    Attributes:
        seconds: how long commits took, each with everything in its transaction.
        commands: how many commands a commit wrote.
        failures: how many commands failed, by error code.
        failing: why the last write failed, or None when it did not.
        last_commit: when something was written last, monotonic seconds.
    """

    def __init__(self) -> None:
        self.seconds = Histogram()
        self.commands = Histogram(BATCH)
        self.failures: Counter[str] = Counter()
        self.failing: StoreError | None = None
        self.last_commit = time.monotonic()

    def committed(self, seconds: float, commands: int, claims: int) -> bool:
        """Note a commit; say whether it ended a time of failures. An empty one says nothing about the disk."""
        self.seconds.observe(seconds)
        self.commands.observe(commands)
        if not commands and not claims:
            return False
        self.last_commit = time.monotonic()
        recovered, self.failing = self.failing is not None, None
        return recovered

    def failed(self, error: StoreError) -> bool:
        """Note that nothing can be written; say whether that is news."""
        news = self.failing is None or self.failing.code != error.code
        self.failing = error
        return news

    def refused(self, error: StoreError, commands: int) -> None:
        """Note commands that were answered with an error."""
        self.failures[error.code] += commands
