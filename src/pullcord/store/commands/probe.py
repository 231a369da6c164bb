"""A small write that finds out whether anything can be written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pullcord.core.errors import StoreError
from pullcord.store.transaction import Transaction


@dataclass(slots=True)
class Probe:
    """Write the time into a row that nothing else reads."""

    keep_trying: ClassVar[bool] = False

    done: Callable[[Any], None]

    def split(self) -> Sequence[Probe]:
        """One row is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[Probe]) -> list[None]:
        """Write once for all."""
        tx.execute(
            "INSERT INTO meta (name, value) VALUES ('probe', :now) ON CONFLICT (name) DO UPDATE SET value = :now",
            {"now": str(tx.now)},
        )
        return [None] * len(commands)
