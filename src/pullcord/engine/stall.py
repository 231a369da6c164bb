"""Whether a process that says nothing is stuck in something, or only waits for its turn on a busy machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_TICK: Final = 1.0 / os.sysconf("SC_CLK_TCK")
BUSY: Final = 0.6
"""A process that used this share of the time that has passed was running."""


def activity(pid: int) -> tuple[str, float]:
    """Return the state of a process's main thread, as /proc has it, and the processor time it has used, in seconds.

    A process that is gone is `X` and has used none.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "X", 0.0
    return fields[0], (int(fields[11]) + int(fields[12])) * _TICK


def stalled(before: tuple[str, float], after: tuple[str, float], passed: float) -> bool:
    """Say whether a silent process is stuck: it sleeps, or it computes; it does not merely wait for a processor.

    Args:
        before: its activity then.
        after: its activity now.
        passed: seconds in between.
    """
    return after[0] != "R" or after[1] - before[1] >= passed * BUSY
