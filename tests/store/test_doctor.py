"""`pullcord doctor --deep` looks into either kind of store."""

from __future__ import annotations

from pathlib import Path

import pytest

from pullcord.cli.database import database as findings
from pullcord.cli.deep import deep
from pullcord.core.errors import PullcordError
from pullcord.settings import Settings
from tests.store.harness import Database, PostgresTestDatabase, Server, SQLiteDatabase, admit


@pytest.fixture
def settings(database: Database) -> Settings:
    assert isinstance(database, SQLiteDatabase | PostgresTestDatabase)
    url = database.url if isinstance(database, PostgresTestDatabase) else None
    return Settings(database.folder, database_url=url)


def test_it_says_which_rules_hold_and_which_do_not(server: Server, settings: Settings) -> None:
    server.begin(admit("free", limited=False))
    assert {verdict.state for verdict in deep(settings)} == {"ok"}
    server.connection.execute("DELETE FROM audit")
    assert [verdict.name for verdict in deep(settings) if verdict.broken] == [
        "every run's admission is in the audit once"
    ]


def test_it_finds_the_database_and_its_schema(server: Server, settings: Settings) -> None:
    found = {finding.name: finding.state for finding in findings(settings, whole=True)}
    assert (found["database"], found["schema"]) == ("ok", "ok")


def test_it_cannot_write(server: Server, settings: Settings) -> None:
    from pullcord.cli.database import reader_of

    connection = reader_of(settings)
    with pytest.raises(Exception, match=r"read-?only"):
        connection.execute("DELETE FROM runs")
    connection.close()


def test_a_server_that_is_not_there_is_wrong(tmp_path: Path) -> None:
    settings = Settings(tmp_path, database_url=f"postgresql://nobody@/none?host={tmp_path}")
    assert {finding.name: finding.state for finding in findings(settings)}["database"] == "wrong"
    with pytest.raises(PullcordError):
        deep(settings)
