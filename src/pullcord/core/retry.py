"""When to try again: the back-off rule shared by steps and runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import DefinitionError, UsageError
from pullcord.core.failures import RetryOn, covers, name_of

FAILED, BEGINNING = "failed", "beginning"
"""Where another attempt of a run begins: at the step that failed, or anew."""


@dataclass(frozen=True, slots=True, init=False)
class Retry:
    """How often and when something that failed is tried again.

    Args:
        limit: tries after the first one, 0 to 1000.
        delay: pause before the first of them.
        backoff: factor by which each further pause grows, at least 1.
        jitter: spread each pause over 50 to 100 % of its length, so that many do not return at once.
        max_delay: no pause is longer than this.
        retry_on: exception classes, or their names with their modules, such as `"mylib.TransientError"`, which need
            not be importable; subclasses count. The `type` of an error as a run shows it, such as `"step_timeout"`,
            is a name too. Everything is tried again unless given.
        start: of a run: `failed` keeps the recorded steps and tries those that failed again; `beginning` runs
            everything anew, and keeps the records for history only.
    """

    limit: int
    delay: float
    backoff: float
    jitter: bool
    max_delay: float
    retry_on: tuple[type[BaseException] | str, ...] | None
    start: str

    def __init__(
        self,
        limit: int = 3,
        delay: Duration = 1.0,
        backoff: float = 2.0,
        jitter: bool = True,
        max_delay: Duration = "1h",
        retry_on: RetryOn | None = None,
        start: str = FAILED,
    ) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= 1000:
            raise DefinitionError(f"retries must be a whole number from 0 to 1000, not {limit!r}")
        if isinstance(backoff, bool) or not isinstance(backoff, int | float) or not 1 <= backoff <= sys.float_info.max:
            raise DefinitionError(f"backoff must be a number of at least 1, not {backoff!r}")
        if not isinstance(jitter, bool):
            raise DefinitionError(f"jitter must be True or False, not {jitter!r}")
        if start not in (FAILED, BEGINNING):
            raise DefinitionError(f"start must be {FAILED!r} or {BEGINNING!r}, not {start!r}")
        try:
            pause, longest = seconds(delay), seconds(max_delay)
        except UsageError as error:
            raise DefinitionError(error.message) from None
        object.__setattr__(self, "limit", limit)
        object.__setattr__(self, "delay", pause)
        object.__setattr__(self, "backoff", float(backoff))
        object.__setattr__(self, "jitter", jitter)
        object.__setattr__(self, "max_delay", longest)
        object.__setattr__(self, "retry_on", None if retry_on is None else _kinds_of(retry_on))
        object.__setattr__(self, "start", start)

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

    def covers(self, error: BaseException) -> bool:
        """Say whether `retry_on` lets this error be tried again."""
        return self.retry_on is None or covers(self.retry_on, error)

    def as_json(self) -> dict[str, Any]:
        """Return the settings as a JSON object, as manifests carry them; classes by their names."""
        settings = {name: getattr(self, name) for name in self.__slots__}
        if self.retry_on is not None:
            settings["retry_on"] = [name_of(kind) for kind in self.retry_on]
        return settings


def _kinds_of(value: RetryOn) -> tuple[type[BaseException] | str, ...]:
    given = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    for kind in given:
        good = (isinstance(kind, str) and kind.strip()) or (isinstance(kind, type) and issubclass(kind, BaseException))
        if not good:
            raise DefinitionError(
                f"retry_on takes exception classes, or names such as 'mylib.TransientError', not {kind!r}"
            )
    if not given:
        raise DefinitionError("retry_on is empty, so nothing would be tried again; leave retries out instead")
    return given


NO_RETRY: Final = Retry(limit=0)


def retry_of(value: int | Retry | None) -> Retry:
    """Turn what a decorator was given into a `Retry`: an int is a limit, None is no retry."""
    if value is None:
        return NO_RETRY
    if isinstance(value, Retry):
        return value
    return Retry(limit=value)


def retry_key(run_id: str, after: str | None = None) -> str:
    """Return the idempotency key under which a failed run is asked for again, so that it is once however often.

    Args:
        run_id: the failed run.
        after: the run that it became when it was asked for before, where that one was cancelled.
    """
    return f"retry-failed:{run_id}" if after is None else f"retry-failed:{run_id}:{after}"
