"""Marks: a few numbers in memory that both ends see, which say what a worker is polling at this moment.

When a poll holds the interpreter lock its worker cannot say anything any more. The marks can still be read.
"""

from __future__ import annotations

from typing import Final

SLOTS: Final = 64
"""So many tickets fit, each a signed native 64-bit integer; 0 is none."""

SIZE: Final = SLOTS * 8
"""Bytes."""

LOOP: Final = 0
"""The slot of the poll whose code the event loop executes; the others are those of polls in threads."""
