"""What a flow takes at most: how many requests in a time, how many that wait, for how long, how many failures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import DefinitionError, UsageError

FLOW, INVOKER = "flow", "invoker"
"""What a rate is counted by."""

REJECT, DELAY = "reject", "delay"
"""What becomes of a request over a rate."""

MOST: Final = 10_000
"""No rate admits more in its time: each admission is a row as long as it counts."""

LONGEST: Final = 31 * 86_400.0
"""No rate's time is longer, in seconds."""

_UNITS: Final = (("days", 86_400), ("h", 3600), ("min", 60))
_TEXT = re.compile(r"(\d{1,9})\s*/\s*(\S.*)")


@dataclass(frozen=True, slots=True, init=False)
class Rate:
    """How many requests are admitted in any span of time.

    Only admitted requests count. Replays and dry runs do not, nor do runs that a flow calls.

    Args:
        limit: how many, 1 to 10,000.
        per: in how long a time, up to 31 days.
        by: `flow` counts all requests of the flow together, `invoker` those of each invoker by themselves.
        on_limit: `reject` refuses what is too much with `rate_limited`; `delay` admits it, to start when there is room.

    Raises:
        DefinitionError: it cannot be.
    """

    limit: int
    per: float
    by: str
    on_limit: str

    def __init__(self, limit: int, per: Duration, by: str = FLOW, on_limit: str = REJECT) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST:
            raise DefinitionError(f"the limit of a rate must be a whole number from 1 to {MOST}, not {limit!r}")
        span = _duration(per, "the time of a rate")
        if not 0.001 <= span <= LONGEST:
            raise DefinitionError(f"the time of a rate must be from 1 ms to 31 days, not {per!r}")
        if by not in (FLOW, INVOKER):
            raise DefinitionError(f"by must be {FLOW!r} or {INVOKER!r}, not {by!r}")
        if on_limit not in (REJECT, DELAY):
            raise DefinitionError(f"on_limit must be {REJECT!r} or {DELAY!r}, not {on_limit!r}")
        object.__setattr__(self, "limit", limit)
        object.__setattr__(self, "per", span)
        object.__setattr__(self, "by", by)
        object.__setattr__(self, "on_limit", on_limit)

    @classmethod
    def read(cls, text: str) -> Rate:
        """Return the rate that a text like `100/1m` says.

        Raises:
            UsageError: it is none.
        """
        found = _TEXT.fullmatch(text.strip())
        if found is None:
            raise UsageError(f"{text[:60]!r} is no rate; write it like '100/1m'")
        try:
            return cls(int(found[1]), found[2])
        except DefinitionError as error:
            raise UsageError(error.message) from None

    @property
    def span(self) -> int:
        """Its time in microseconds."""
        return round(self.per * 1_000_000)

    def __str__(self) -> str:
        unit, size = next(((name, size) for name, size in _UNITS if self.per % size == 0), ("s", 1))
        return f"{self.limit} in {self.per / size:g} {unit}"

    def as_json(self) -> dict[str, Any]:
        """Return the settings as a JSON object, as manifests carry them."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Quotas:
    """What a flow takes at most; None is no limit.

    Attributes:
        rate: how many requests in a time.
        max_queued: how many runs may wait for a concurrency slot.
        queue_ttl: how long a run may wait to start, seconds.
        suspend_after: after how many failed runs in a row the flow is paused.
    """

    rate: Rate | None = None
    max_queued: int | None = None
    queue_ttl: float | None = None
    suspend_after: int | None = None

    @classmethod
    def declared(
        cls,
        rate: Rate | None,
        max_queued: int | None,
        queue_ttl: Duration | None,
        suspend_after: int | None,
    ) -> Quotas:
        """Return what the arguments of a decorator mean.

        Raises:
            DefinitionError: one of them cannot be.
        """
        if rate is not None and not isinstance(rate, Rate):
            raise DefinitionError(f"rate is a pc.Rate, for example pc.Rate(limit=10, per='1m'), not {rate!r}")
        ttl = None if queue_ttl is None else _duration(queue_ttl, "queue_ttl")
        if ttl is not None and ttl <= 0:
            raise DefinitionError(f"queue_ttl must be longer than nothing, not {queue_ttl!r}")
        return cls(rate, _whole("max_queued", max_queued, 0), ttl, _whole("suspend_after", suspend_after, 1))

    @classmethod
    def read(cls, settings: dict[str, Any]) -> Quotas:
        """Return what the settings in a manifest say."""
        rate = settings.get("rate")
        return cls(
            None if rate is None else Rate(**rate),
            settings.get("max_queued"),
            settings.get("queue_ttl"),
            settings.get("suspend_after"),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the settings as a JSON object, as manifests carry them."""
        return {
            "rate": None if self.rate is None else self.rate.as_json(),
            "max_queued": self.max_queued,
            "queue_ttl": self.queue_ttl,
            "suspend_after": self.suspend_after,
        }


def _duration(value: Duration, what: str) -> float:
    try:
        return seconds(value)
    except UsageError as error:
        raise DefinitionError(f"{what}: {error.message}") from None


def _whole(name: str, value: int | None, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 1_000_000_000:
        raise DefinitionError(f"{name} must be a whole number of at least {least}, or None for no limit, not {value!r}")
    return value
