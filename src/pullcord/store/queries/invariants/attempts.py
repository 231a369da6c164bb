"""The invariants of attempts, and of runs that keep what another one recorded."""

from __future__ import annotations

from typing import Final

from pullcord.core.states import RunState
from pullcord.store.queries.invariants.invariant import Invariant

_REPORT: Final = "nothing was lost by this; report it as a bug"

COUNTED: Final = (
    "runs r LEFT JOIN (SELECT run_id, count(*) AS kept, max(attempt) AS latest FROM attempts GROUP BY run_id) a "
    "ON a.run_id = r.id"
)
ATTEMPTS: Final = "attempts a LEFT JOIN runs r ON r.id = a.run_id"
RESUMED: Final = "runs r LEFT JOIN runs o ON o.id = r.resumed_from"
RECORDS: Final = "steps s JOIN runs r ON r.id = s.run_id"

ATTEMPT_INVARIANTS: Final = (
    Invariant(
        6, "every attempt before the last one is in the history", COUNTED,
        "coalesce(a.kept, 0) <> r.attempt - 1 OR coalesce(a.latest, 0) <> r.attempt - 1",
        "r.uuid, r.attempt, coalesce(a.kept, 0)", "run {} is in attempt {}, and {} before it are known", _REPORT,
    ),
    Invariant(
        6, "an attempt in the history is of a run that had it", ATTEMPTS, "r.id IS NULL OR a.attempt >= r.attempt",
        "a.attempt, a.run_id", "attempt {} of run no. {} is known, which it has not had", _REPORT,
    ),
    Invariant(
        7, "a record that does not count is older than the beginning", RECORDS,
        "s.set_aside IS NOT NULL AND (r.epoch IS NULL OR s.set_aside >= r.attempt)",
        "s.name, r.uuid, s.set_aside", "step {} of run {} does not count since attempt {}, which began nothing anew",
        _REPORT,
    ),
    Invariant(
        7, "a record that was kept has a result and an origin", RECORDS,
        "s.kept = 1 AND (r.resumed_from IS NULL OR s.state <> 'succeeded')",
        "s.name, r.uuid, s.state", "step {} of run {} was kept of another run, and is {}", _REPORT,
    ),
    Invariant(
        2, "every resumed run names an earlier run that did not succeed", RESUMED,
        "r.resumed_from >= r.id OR o.state NOT IN "
        f"('{RunState.FAILED}', '{RunState.CANCELLED}')",
        "r.uuid, r.resumed_from", "run {} resumes run no. {}, which cannot be", _REPORT,
    ),
)  # fmt: skip
"""All of them. An origin may be gone: history is pruned."""
