"""Bring a database to the schema this version needs.

A new file is made from `schema.sql`, a snapshot of what the migrations give (a test holds them equal), because
importing Alembic takes longer than everything else at start. Only an older file pays for it, and PostgreSQL once.
"""

from __future__ import annotations

import sqlite3
from importlib.resources import files
from typing import TYPE_CHECKING

from pullcord.core.errors import StoreVersionError
from pullcord.store.connection import Connection
from pullcord.store.errors import translated

if TYPE_CHECKING:
    from sqlalchemy import Engine

HEAD = "0001"
"""The newest migration."""


def migrate(connection: sqlite3.Connection) -> None:
    """Create or upgrade the schema.

    Raises:
        StoreVersionError: a newer Pullcord wrote this file.
        StoreError: the file cannot be read or written.
    """
    with translated():
        version = _version(connection)
        if version == HEAD:
            return
        if version is None:
            snapshot = files("pullcord.store").joinpath("schema.sql").read_text(encoding="utf-8")
            connection.executescript(f"BEGIN IMMEDIATE;\n{snapshot}\nCOMMIT;")
            return
        if version > HEAD:
            raise _too_new(version)
        upgrade(connection)


def migrate_postgres(connection: Connection, url: str) -> None:
    """Create or upgrade the schema in PostgreSQL, while `connection` holds the server's lock.

    Raises:
        StoreVersionError: a newer Pullcord wrote this database.
    """
    there = connection.execute("SELECT to_regclass('alembic_version')").fetchone()[0]
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if there else None
    version = None if row is None else str(row[0])
    if version == HEAD:
        return
    if version is not None and version > HEAD:
        raise _too_new(version)
    import psycopg
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    _run(create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool), "head")


def _too_new(version: str) -> StoreVersionError:
    return StoreVersionError(
        f"this database has schema {version}, written by a newer Pullcord than this one (schema {HEAD}); "
        "install the newer version, or use another --data-dir"
    )


def upgrade(connection: sqlite3.Connection, revision: str = "head") -> None:
    """Run Alembic's migrations up to a revision on an open SQLite connection."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    _run(create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool), revision)


def _run(engine: Engine, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("pullcord.store").joinpath("migrations")))
    with engine.begin() as shared:
        config.attributes["connection"] = shared
        command.upgrade(config, revision)


def snapshot(connection: sqlite3.Connection) -> str:
    """Return the SQL that rebuilds the schema of a migrated database, as `schema.sql` holds it."""
    rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC, name").fetchall()
    statements = [f"{row[0].strip()};" for row in rows]
    return "\n".join([*statements, f"INSERT INTO alembic_version VALUES ('{HEAD}');"]) + "\n"


def _version(connection: sqlite3.Connection) -> str | None:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
    if known is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])
