"""How far active runs are: what is not on disk yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class ProgressReports:
    """Remembers the last report of each run until it is written. Used on the event loop's thread only."""

    def __init__(self) -> None:
        self._unsaved: dict[int, list[Any]] = {}

    def note(self, run: int, token: int, done: float, total: float | None, text: str | None) -> None:
        """Remember what a run said last."""
        self._unsaved[run] = [run, token, done, total, text]

    def take(self, runs: Iterable[int]) -> list[list[Any]]:
        """Return what is unsaved of these runs as `SaveProgress` wants it, and forget it."""
        if not self._unsaved:
            return []
        return [row for row in (self._unsaved.pop(run, None) for run in runs) if row is not None]

    def give_back(self, rows: Iterable[list[Any]]) -> None:
        """Remember what could not be written, where nothing newer was said."""
        for row in rows:
            self._unsaved.setdefault(row[0], row)

    def take_all(self) -> list[list[Any]]:
        """Return what is unsaved of all runs, and forget it."""
        rows, self._unsaved = list(self._unsaved.values()), {}
        return rows
