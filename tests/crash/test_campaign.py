"""The short form of `make crash`: a few dozen kills over each kind of store, and nothing is lost."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.crash import campaign
from tests.postgres import PostgresServer


def crash(folder: Path, kills: int) -> None:
    """Run a campaign."""
    seed = secrets.randbelow(10**6)
    print(f"seed {seed}")
    outcome = campaign.run(folder, kills, seed)
    assert outcome.problems == []
    assert outcome.kills.total() >= kills
    assert outcome.receipts > kills


# Thirty in all, and fifteen over PostgreSQL: on a slow machine that many would be too long for one test.


@pytest.mark.parametrize("part", [1, 2])
def test_nothing_is_lost_in_fifteen_crashes(part: int, tmp_path: Path) -> None:
    crash(tmp_path, 15)


@pytest.mark.parametrize("kills", [7, 8])
def test_nothing_is_lost_in_a_few_crashes_over_postgresql(
    kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PostgresServer() as server:
        monkeypatch.setenv("PULLCORD_DATABASE_URL", server.url(server.create()))
        crash(tmp_path, kills)
