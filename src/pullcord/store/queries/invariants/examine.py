"""Check every invariant of a store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pullcord.store.connection import Connection
from pullcord.store.queries.invariants.documents import CHECKS
from pullcord.store.queries.invariants.invariant import Invariant, Verdict
from pullcord.store.queries.invariants.rules import INVARIANTS

EXAMPLES: Final = 20
"""How many offending rows are named for an invariant."""


def examine(connection: Connection) -> Iterator[Verdict]:
    """Yield a verdict for each invariant. A busy server may go on beside it.

    Args:
        connection: a reader of a store with this version's schema.
    """
    for source in dict.fromkeys(invariant.source for invariant in INVARIANTS):
        yield from _pass(connection, source, [it for it in INVARIANTS if it.source == source])
    for check in CHECKS:
        yield check(connection, EXAMPLES)


def _pass(connection: Connection, source: str, invariants: list[Invariant]) -> Iterator[Verdict]:
    """Count the rows of a source and those that break each invariant, all in one statement."""
    sums = ", ".join(f"sum(CASE WHEN {it.broken} THEN 1 ELSE 0 END)" for it in invariants)
    counts = connection.execute(f"SELECT count(*), {sums} FROM {source}", {}).fetchone()
    for invariant, broken in zip(invariants, counts[1:], strict=True):
        count = int(broken or 0)
        examples = _examples(connection, invariant) if count else []
        state = invariant.severity if count else "ok"
        yield Verdict(
            invariant.rule, invariant.name, int(counts[0]), count, examples, invariant.advice if count else "", state
        )


def _examples(connection: Connection, invariant: Invariant) -> list[str]:
    rows: list[Any] = connection.execute(
        f"SELECT {invariant.columns} FROM {invariant.source} WHERE {invariant.broken} LIMIT :most", {"most": EXAMPLES}
    ).fetchall()
    return [invariant.text.format(*row) for row in rows]
