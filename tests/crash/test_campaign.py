"""The short form of `make crash`: some thirty kills, and nothing is lost."""

from __future__ import annotations

import secrets
from pathlib import Path

from tests.crash import campaign


def test_nothing_is_lost_in_thirty_crashes(tmp_path: Path) -> None:
    seed = secrets.randbelow(10**6)
    print(f"seed {seed}")
    outcome = campaign.run(tmp_path, 30, seed)
    assert outcome.problems == []
    assert outcome.kills.total() >= 30
    assert outcome.receipts > 30
