"""Reading what flows noted with `witness.note`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def lines_of(log: Path) -> list[dict[str, Any]]:
    """Return the lines, in the order in which they were written; not one that is only just being written."""
    return [json.loads(line) for line in log.read_text().rpartition("\n")[0].splitlines()]


def executions(lines: Iterable[dict[str, Any]]) -> dict[str, Counter[int]]:
    """Return how often each step of each run was executed."""
    counts: dict[str, Counter[int]] = {}
    for line in lines:
        counter = counts.setdefault(line["run"], Counter())
        if line["kind"] == "step":
            counter[line["what"]] += 1
    return counts
