"""How fast the pruner goes: as much at once as is done in a moment, and a pause that leaves room for others."""

from __future__ import annotations

from typing import Final

FIRST: Final = 50
LEAST: Final = 5
MOST: Final = 500
"""Rows of a kind that are deleted in one transaction."""

MOMENT: Final = 0.004
"""Seconds that deleting may hold up a transaction."""

SHARE: Final = 0.25
"""The share of the time that is spent on it while others write."""

ALONE: Final = 0.5
"""The same when nobody else writes."""


class Pace:
    """Learns from each transaction.

    Attributes:
        size: how many rows the next transaction should delete.
    """

    def __init__(self) -> None:
        self.size = FIRST

    def rest(self, seconds: float, took: float, busy: bool) -> float:
        """Take note of a transaction, and return how long to pause, seconds.

        Args:
            seconds: how long the deleting itself took.
            took: how long it took until it was on disk, others' work included.
            busy: whether others write.
        """
        wanted = self.size * MOMENT / max(seconds, 0.0001)
        # It grows slowly and shrinks at once: a slow transaction holds up everybody.
        self.size = round(min(MOST, max(LEAST, min(wanted, self.size * 1.5))))
        share = SHARE if busy else ALONE
        return min(1.0, took * (1 - share) / share)
