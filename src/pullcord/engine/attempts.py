"""Whether a failed run gets another attempt, when, and what it says meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic_core import from_json, to_json

from pullcord.core.durations import span
from pullcord.core.failures import original
from pullcord.core.retry import BEGINNING, Retry

WORDS: Final = 200
"""Characters of an error's message that are repeated while a run waits for its next attempt."""


@dataclass(frozen=True, slots=True)
class NextAttempt:
    """An attempt that follows a failure.

    Attributes:
        pause: seconds until then.
        waiting_for: what the run says that it waits for, JSON.
        anew: whether it begins from the beginning.
    """

    pause: float
    waiting_for: str
    anew: bool


def next_attempt(retry: Retry, failed: int, error: str, spread: float) -> NextAttempt | None:
    """Return the attempt that follows a failed one, or None.

    Args:
        retry: the flow's rule, as it is now.
        failed: number of the attempt that failed.
        error: the error record of its end, JSON; it is `final` where the worker found that none may follow.
        spread: a random number in [0, 1).
    """
    if failed > retry.limit:
        return None
    record = from_json(error)
    if record.get("final"):
        return None
    pause = retry.pause(failed, spread)
    why = ": ".join(original(record)).splitlines()[0][:WORDS].rstrip(": ")
    when = f"waits {span(_rounded(pause))} before" if pause else "is about to begin"
    text = f"{when} attempt {failed + 1} of {retry.limit + 1} after {why}"
    return NextAttempt(pause, to_json({"kind": "retry", "text": text}).decode(), retry.start == BEGINNING)


def _rounded(pause: float) -> float:
    return round(pause) if pause >= 10 else round(pause, 1) if pause >= 1 else round(pause, 3)
