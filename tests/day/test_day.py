"""The short form of `make day`: an hour and a half of everything, with kills, and nothing is lost."""

from __future__ import annotations

import secrets
from pathlib import Path

from tests.day import campaign
from tests.day.operations import OPERATIONS


def test_an_hour_and_a_half(tmp_path: Path) -> None:
    seed = secrets.randbelow(10**6)
    print(f"seed {seed}; repeat it with: python -m tests.day --hours 1.5 --seed {seed}")
    outcome = campaign.run(tmp_path, 1.5, seed)
    assert outcome.problems == []
    assert outcome.kills.total() + outcome.restarts > 0
    assert set(outcome.asked) <= set(OPERATIONS)
    assert outcome.runs > 10
