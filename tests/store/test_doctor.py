"""`pullcord doctor --deep` looks into either kind of store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pullcord.cli.database import database as findings
from pullcord.cli.database import refuse_older
from pullcord.cli.deep import CONTENTS, deep
from pullcord.cli.main import app
from pullcord.core.artifact import content_path
from pullcord.core.errors import NotFoundError, PullcordError, UsageError
from pullcord.settings import Settings
from pullcord.store.commands.artifacts import StoreArtifacts
from pullcord.store.migrate import HEAD
from pullcord.store.transaction import ignore
from pullcord.wire import messages as kinds
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


def test_artifacts_without_content_are_noted(server: Server, settings: Settings) -> None:
    (run,) = server.begin(admit("free", limited=False))
    folder, there, lost = settings.data_dir / "artifacts", "0a" * 32, "0b" * 32
    for name, sha256 in (("a", there), ("b", lost), ("c", lost)):
        (folder / content_path(sha256)).parent.mkdir(parents=True, exist_ok=True)
        (folder / content_path(sha256)).write_text("12345")
        message = [kinds.ARTIFACT, run.id, run.token, name, None, name, sha256, 5, None, None]
        server.write(StoreArtifacts(folder, [message], ignore))
    (verdict,) = [verdict for verdict in deep(settings) if verdict.name == CONTENTS]
    assert (verdict.state, verdict.checked, verdict.broken) == ("ok", 3, 0)
    (folder / content_path(lost)).unlink()
    (verdict,) = [verdict for verdict in deep(settings) if verdict.name == CONTENTS]
    assert (verdict.state, verdict.checked, verdict.broken) == ("note", 3, 2)
    assert sorted(verdict.examples)[0] == f"run {run.uuid} lists 'b', whose content is not there"
    assert "back-up" in verdict.advice


def test_it_finds_the_database_and_its_schema(server: Server, settings: Settings) -> None:
    found = {finding.name: finding.state for finding in findings(settings, whole=True)}
    assert (found["database"], found["schema"]) == ("ok", "ok")


def test_it_cannot_write(server: Server, settings: Settings) -> None:
    from pullcord.cli.database import reader_of

    connection = reader_of(settings)
    with pytest.raises(Exception, match=r"read-?only"):
        connection.execute("DELETE FROM runs")
    connection.close()


def test_an_older_database_is_not_upgraded_for_a_look(server: Server, settings: Settings) -> None:
    refuse_older(settings)
    server.connection.execute("UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(UsageError, match=r"schema 0001, older .* start the server once"):
        refuse_older(settings)
    server.connection.execute("UPDATE alembic_version SET version_num = '9999'")
    refuse_older(settings)
    # The database is emptied for other tests, and goes on with the schema it says it has.
    server.connection.execute("UPDATE alembic_version SET version_num = :head", {"head": HEAD})
    server.connection.execute("ALTER TABLE alembic_version RENAME TO away")
    with pytest.raises(NotFoundError, match="no database of Pullcord's"):
        refuse_older(settings)
    server.connection.execute("ALTER TABLE away RENAME TO alembic_version")


def test_a_preview_of_pruning_without_a_server_upgrades_nothing(tmp_path: Path) -> None:
    Server(SQLiteDatabase(tmp_path)).close()
    with closing(sqlite3.connect(tmp_path / "pullcord.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.commit()
    before = (tmp_path / "pullcord.db").read_bytes()
    done = CliRunner().invoke(app, ["prune", "--dry-run", "--data-dir", str(tmp_path)])
    assert done.exit_code == 2
    assert "start the server once, or do it without --dry-run" in " ".join(done.stderr.split())
    assert (tmp_path / "pullcord.db").read_bytes() == before
    assert not (tmp_path / "backups").exists()


def test_a_server_that_is_not_there_is_wrong(tmp_path: Path) -> None:
    settings = Settings(tmp_path, database_url=f"postgresql://nobody@/none?host={tmp_path}")
    assert {finding.name: finding.state for finding in findings(settings)}["database"] == "wrong"
    with pytest.raises(PullcordError):
        deep(settings)
