"""How far runs are, as they said last: kept with the run, for its item and for the figures of its flow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pullcord.core.errors import StoreError
from pullcord.store.statement import dump, rows
from pullcord.store.transaction import Transaction

# Not of an ended run, whose row in the index of figures would have to move.
_SAVE: Final = f"""
UPDATE runs SET progress_done = CAST(s.done AS double precision),
    progress_total = CAST(s.total AS double precision), progress_text = s.text
FROM {rows("run:int token:int done total text")} AS s
WHERE runs.id = s.run AND runs.token = s.token AND runs.ended_at IS NULL"""


def save_progress(tx: Transaction, progress: Sequence[list[Any]]) -> None:
    """Write `[run, token, done, total, text]` of runs that have not ended; a stale token writes nothing."""
    if progress:
        latest = {row[0]: row for row in sorted(progress, key=lambda row: row[1])}
        tx.execute(_SAVE, {"rows": dump(list(latest.values()))})


@dataclass(slots=True)
class SaveProgress:
    """Keep how far runs are while they run.

    Attributes:
        progress: `[run, token, done, total, text]` each, one a run.
    """

    keep_trying: ClassVar[bool] = False

    progress: list[list[Any]]
    done: Callable[[Any], None]

    def split(self) -> Sequence[SaveProgress]:
        """One command a run."""
        return [SaveProgress([row], self.done) for row in self.progress]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[SaveProgress]) -> list[None]:
        """Write the last word of each run."""
        save_progress(tx, [row for command in commands for row in command.progress])
        return [None] * len(commands)
