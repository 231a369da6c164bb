"""How long runs and what belongs to them are kept: a flow's wishes (`Keep`), and the server's rule (`Retention`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import DefinitionError, UsageError

FOREVER: Final = "forever"
"""What is written for a time without an end."""

DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Keep:
    """How long what belongs to a flow's runs is kept after a run has ended; None leaves it to the server's setting.

    Attributes:
        runs: the runs with their steps, inputs and results.
        count: at most so many ended runs, the newest.
        logs: log lines; never longer than their run.
        artifacts: stored files; never longer than their run.

    Each time is a duration or `"forever"`.

    Raises:
        DefinitionError: a value makes no sense.
    """

    runs: Duration | None = None
    count: int | None = None
    logs: Duration | None = None
    artifacts: Duration | None = None

    def __post_init__(self) -> None:
        try:
            self.as_json()
        except UsageError as error:
            raise DefinitionError(f"pc.Keep: {error.message}") from None

    def as_json(self) -> dict[str, Any]:
        """Return what is given, as manifests carry it: seconds, or `"forever"`."""
        times = {name: getattr(self, name) for name in ("runs", "logs", "artifacts")}
        given: dict[str, Any] = {
            name: _written(time_of(name, value)) for name, value in times.items() if value is not None
        }
        return given | ({} if self.count is None else {"count": count_of(self.count)})


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a server keeps what; seconds, infinite for ever.

    Attributes:
        runs: ended runs with their steps.
        logs: log lines of ended runs.
        artifacts: artifacts of ended runs.
        ledger: requests that have no run any more, or never had one.
        trigger_history: lines in the histories of triggers.
        count: at most so many ended runs of each flow; None is no limit.
    """

    runs: float = 90 * DAY
    logs: float = 30 * DAY
    artifacts: float = 90 * DAY
    ledger: float = 90 * DAY
    trigger_history: float = 90 * DAY
    count: int | None = None

    def of(self, keep: Mapping[str, Any] | None) -> Retention:
        """Return the rule for a flow, given what its settings say under `keep`."""
        given = dict(keep or {})
        times = {name: _read(given[name]) for name in ("runs", "logs", "artifacts") if name in given}
        runs = times.get("runs", self.runs)
        return replace(
            self,
            runs=runs,
            logs=min(runs, times.get("logs", self.logs)),
            artifacts=min(runs, times.get("artifacts", self.artifacts)),
            count=given.get("count", self.count),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the rule as a JSON object: seconds, or `"forever"`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _written(value) if isinstance(value, float) else value for name, value in values.items()}


def retention_of(table: Any) -> Retention:
    """Read `[tool.pullcord.retention]`.

    Args:
        table: durations or `"forever"` by the names of `Retention`, and `count`.

    Raises:
        UsageError: something in it is unknown or makes no sense.
    """
    known = [field.name for field in fields(Retention)]
    if not isinstance(table, dict) or set(table) - set(known):
        raise UsageError(f"retention is a table with some of {', '.join(known)}, not {table!r}")
    values: dict[str, Any] = {
        name: count_of(value) if name == "count" else time_of(name, value) for name, value in table.items()
    }
    return Retention(**values)


def time_of(name: str, value: Any) -> float:
    """Return a time in seconds; infinite for `"forever"`.

    Raises:
        UsageError: it is neither a duration nor `"forever"`.
    """
    if value == FOREVER:
        return math.inf
    try:
        return seconds(value)
    except UsageError as error:
        raise UsageError(f"{name}: {error.message}; or write 'forever'") from None


def count_of(value: Any) -> int:
    """Return a number of runs.

    Raises:
        UsageError: it is no whole number of at least 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"count must be a whole number of at least 1, not {value!r}")
    return value


def _written(value: float) -> float | str:
    return FOREVER if math.isinf(value) else value


def _read(value: float | str) -> float:
    return math.inf if value == FOREVER else float(value)
