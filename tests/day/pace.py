"""Time that runs faster: a real second of a server is some simulated minutes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

MINUTE: Final = 60_000_000
HOUR: Final = 60 * MINUTE


@dataclass(frozen=True)
class Pace:
    """A clock that was right when it began and has been fast since; every process that knows both agrees about it.

    Attributes:
        began: when, microseconds since 1970.
        rate: simulated seconds to a real one.
    """

    began: int
    rate: float

    @property
    def environment(self) -> dict[str, str]:
        """What `tests/system/launch.py` reads."""
        return {"PULLCORD_TEST_PACE": f"{self.began} {self.rate}"}

    def now(self) -> int:
        """Return the simulated time, microseconds since 1970."""
        return self.began + round((time.time_ns() // 1000 - self.began) * self.rate)

    def text(self, later: int = 0) -> str:
        """Return the simulated time, or one so many microseconds later, as the API takes it."""
        return datetime.fromtimestamp((self.now() + later) / 1e6, UTC).isoformat()


def starting_now(rate: float) -> Pace:
    """Return a clock that is right now."""
    return Pace(time.time_ns() // 1000, rate)
