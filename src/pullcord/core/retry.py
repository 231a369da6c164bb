"""When to try again: the back-off rule shared by steps and runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import DefinitionError, UsageError


@dataclass(frozen=True, slots=True, init=False)
class Retry:
    """How often and when something that failed is tried again.

    Args:
        limit: tries after the first one, 0 to 1000.
        delay: pause before the first of them.
        backoff: factor by which each further pause grows, at least 1.
        jitter: spread each pause over 50 to 100 % of its length, so that many do not return at once.
        max_delay: no pause is longer than this.
    """

    limit: int
    delay: float
    backoff: float
    jitter: bool
    max_delay: float

    def __init__(
        self,
        limit: int = 3,
        delay: Duration = 1.0,
        backoff: float = 2.0,
        jitter: bool = True,
        max_delay: Duration = "1h",
    ) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= 1000:
            raise DefinitionError(f"retries must be a whole number from 0 to 1000, not {limit!r}")
        if not 1 <= backoff < math.inf:
            raise DefinitionError(f"backoff must be at least 1, not {backoff!r}")
        try:
            pause, longest = seconds(delay), seconds(max_delay)
        except UsageError as error:
            raise DefinitionError(error.message) from None
        object.__setattr__(self, "limit", limit)
        object.__setattr__(self, "delay", pause)
        object.__setattr__(self, "backoff", float(backoff))
        object.__setattr__(self, "jitter", bool(jitter))
        object.__setattr__(self, "max_delay", longest)

    def pause(self, failures: int, spread: float) -> float:
        """Return the seconds to wait after the given number of failures.

        Args:
            failures: how many tries have failed so far, at least 1.
            spread: a random number in [0, 1) chosen by the caller; used only with `jitter`.
        """
        if self.delay == 0:
            return 0.0
        try:
            pause = min(self.delay * self.backoff ** (failures - 1), self.max_delay)
        except OverflowError:
            pause = self.max_delay
        return pause * (0.5 + spread / 2) if self.jitter else pause

    def as_json(self) -> dict[str, Any]:
        """Return the settings as a JSON object, as manifests carry them."""
        return {name: getattr(self, name) for name in self.__slots__}


NO_RETRY = Retry(limit=0)


def retry_of(value: int | Retry | None) -> Retry:
    """Turn what a decorator was given into a `Retry`: an int is a limit, None is no retry."""
    if value is None:
        return NO_RETRY
    if isinstance(value, Retry):
        return value
    return Retry(limit=value)
