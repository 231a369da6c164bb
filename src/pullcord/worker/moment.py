"""The present moment, and where in a run the current code is."""

from __future__ import annotations

import time
from contextvars import ContextVar

enclosing: ContextVar[str] = ContextVar("pullcord_step", default="")
"""Identity of the step that the current code is inside of; "" directly under the flow."""

shielded: ContextVar[bool] = ContextVar("pullcord_shielded", default=False)
"""Whether the current code is inside a step that is let run to its end when its run is cancelled."""


def now() -> int:
    """Return microseconds since 1970 UTC."""
    return time.time_ns() // 1000
