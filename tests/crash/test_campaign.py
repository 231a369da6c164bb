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


def test_nothing_is_lost_in_thirty_crashes(tmp_path: Path) -> None:
    crash(tmp_path, 30)


def test_nothing_is_lost_in_fifteen_crashes_over_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PostgresServer() as server:
        monkeypatch.setenv("PULLCORD_DATABASE_URL", server.url(server.create()))
        crash(tmp_path, 15)
