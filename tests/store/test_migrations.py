"""The schema: the snapshot is what the migrations give, and a database of a newer Pullcord is left alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from pullcord.core.errors import StoreVersionError
from pullcord.store.migrate import HEAD, migrate, snapshot, upgrade
from tests.store.harness import DrivenClock, SQLiteDatabase

PACKAGE = files("pullcord.store")


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    """Open an empty database."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def revisions() -> list[str]:
    """Return all migrations, oldest first."""
    config = Config()
    config.set_main_option("script_location", str(PACKAGE.joinpath("migrations")))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][::-1]


def test_the_newest_migration_is_the_one_the_code_knows() -> None:
    assert revisions()[-1] == HEAD
    assert revisions() == sorted(revisions()), "versions are compared as text"


def test_the_snapshot_is_what_the_migrations_give(connection: sqlite3.Connection) -> None:
    upgrade(connection)
    assert snapshot(connection) == PACKAGE.joinpath("schema.sql").read_text(encoding="utf-8")


def test_a_new_database_has_the_same_schema_as_an_upgraded_one(connection: sqlite3.Connection) -> None:
    migrate(connection)
    other = sqlite3.connect(":memory:", isolation_level=None)
    upgrade(other)
    assert snapshot(connection) == snapshot(other)
    versions = [c.execute("SELECT version_num FROM alembic_version").fetchall() for c in (connection, other)]
    assert versions == [[(HEAD,)], [(HEAD,)]]
    other.close()


@pytest.mark.parametrize("revision", revisions())
def test_a_database_of_every_age_is_brought_up_to_date(connection: sqlite3.Connection, revision: str) -> None:
    upgrade(connection, revision)
    migrate(connection)
    assert snapshot(connection) == PACKAGE.joinpath("schema.sql").read_text(encoding="utf-8")


def test_migrating_twice_changes_nothing(connection: sqlite3.Connection) -> None:
    migrate(connection)
    connection.execute("INSERT INTO meta VALUES ('a', 'b')")
    before = connection.total_changes
    migrate(connection)
    assert connection.total_changes == before


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    database = SQLiteDatabase(tmp_path)
    connection = database.writer()
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = sha256(database.path.read_bytes()).digest()
    with pytest.raises(
        StoreVersionError, match=f"schema 9999, written by a newer Pullcord than this one .schema {HEAD}"
    ):
        database.store(DrivenClock())
    assert sha256(database.path.read_bytes()).digest() == before
    connection = sqlite3.connect(database.path)
    connection.execute("UPDATE alembic_version SET version_num = ?", (HEAD,))
    connection.commit()
    connection.close()
    database.writer().close()
