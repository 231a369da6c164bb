"""What an invariant is, and what became of checking it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Invariant:
    """Something that no row may break.

    Attributes:
        rule: number of the design rule that it belongs to.
        name: what is true, in a few words; unique.
        source: what stands after FROM. Invariants with the same source are checked in one pass.
        broken: the condition of a row that breaks it.
        columns: what is told of such a row.
        text: the same in words, with a pair of braces for each column.
        advice: what to do about it.
        severity: `wrong`, or `note` where there is a lawful reason that the rows do not show.
    """

    rule: int
    name: str
    source: str
    broken: str
    columns: str
    text: str
    advice: str
    severity: Literal["wrong", "note"] = "wrong"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of checking an invariant.

    Attributes:
        rule: number of the design rule.
        name: the invariant's name.
        checked: how many rows were looked at.
        broken: how many break it.
        examples: some of those, in words.
        advice: what to do about them.
        state: `ok`, `note` or `wrong`.
    """

    rule: int
    name: str
    checked: int
    broken: int
    examples: list[str]
    advice: str
    state: str
