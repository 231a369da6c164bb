"""A flow that says how many records it has processed, in steps that are not done again."""

from __future__ import annotations

from witness import meet

import pullcord as pc


@pc.step
def process(port: int, number: int, count: int) -> int:
    """Process ten records of a part, and tell the test."""
    pc.progress(10 * (number + 1), 10 * count, f"part {number}")
    meet(port, f"part {number}")
    return number


@pc.flow(concurrency=None)
def import_parts(port: int, count: int = 3) -> int:
    for number in range(count):
        process(port, number, count)
    return count
