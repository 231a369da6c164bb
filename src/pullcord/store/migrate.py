"""Bring a database to the schema this version needs.

A new file is made from `schema.sql`, a snapshot of what the migrations give (a test holds them equal), because
importing Alembic takes longer than everything else at start. Only an older file pays for it, and PostgreSQL once. A
file is copied aside before, and is upgraded in one transaction, so that an upgrade which fails or is killed leaves it
as it was.
"""

from __future__ import annotations

import logging
import sqlite3
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from pullcord.core.errors import StoreError, StoreVersionError
from pullcord.store.connection import Connection
from pullcord.store.copy import copy_before_upgrade, schema_of
from pullcord.store.errors import translate, translated

if TYPE_CHECKING:
    from sqlalchemy import Engine

log = logging.getLogger(__name__)

HEAD = "0011"
"""The newest migration."""

MIGRATIONS = str(files("pullcord.store").joinpath("migrations"))
"""Alembic's folder."""


def migrate(connection: sqlite3.Connection, copies: Path | None = None) -> None:
    """Create or upgrade the schema. The caller holds the data folder's lock.

    Args:
        connection: the writing connection.
        copies: where a copy is put before an older file is upgraded; None for none.

    Raises:
        StoreVersionError: a newer Pullcord wrote this file.
        StoreError: the file cannot be read or written, or an upgrade failed and was undone.
    """
    with translated():
        version = schema_of(connection)
        if version == HEAD:
            return
        if version is None:
            snapshot = files("pullcord.store").joinpath("schema.sql").read_text(encoding="utf-8")
            connection.executescript(f"BEGIN IMMEDIATE;\n{snapshot}\nCOMMIT;")
            return
        if version > HEAD:
            raise too_new("this database", version)
    kept = None if copies is None else copy_before_upgrade(connection, copies, version)
    log.warning(
        "upgrading the database from schema %s to %s%s", version, HEAD, f"; a copy of it is {kept}" if kept else ""
    )
    _upgrade_or_undo(connection, version)


def too_new(what: str, version: str) -> StoreVersionError:
    """Return the error for something that a newer Pullcord wrote."""
    return StoreVersionError(
        f"{what} has schema {version}, written by a newer Pullcord than this one (schema {HEAD}); "
        "install the newer version, or use another --data-dir"
    )


def _upgrade_or_undo(connection: sqlite3.Connection, version: str) -> None:
    from sqlalchemy.exc import DBAPIError

    try:
        upgrade(connection)
    except Exception as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        known = translate(cause) if isinstance(cause, sqlite3.Error) else StoreError(repr(cause))
        raise type(known)(
            f"upgrading the database from schema {version} to {HEAD} failed and was undone, nothing is lost: "
            f"{known.message}. If this stays so, go on with the older Pullcord and report it"
        ) from error


def migrate_postgres(connection: Connection, url: str) -> None:
    """Create or upgrade the schema in PostgreSQL, in one transaction, while `connection` holds the server's lock.

    Raises:
        StoreVersionError: a newer Pullcord wrote this database.
        psycopg.Error: an upgrade failed and was undone.
    """
    version = schema_of_postgres(connection)
    if version == HEAD:
        return
    if version is not None and version > HEAD:
        raise too_new("this database", version)
    import psycopg
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    try:
        _run(engine, "head")
    except DBAPIError as error:
        raise error.orig or error from None


def schema_of_postgres(connection: Connection) -> str | None:
    """Return the schema version of a PostgreSQL database, or None when it is not one of Pullcord's."""
    there = connection.execute("SELECT to_regclass('alembic_version')").fetchone()[0]
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if there else None
    return None if row is None else str(row[0])


def upgrade(connection: sqlite3.Connection, revision: str = "head") -> None:
    """Run Alembic's migrations up to a revision on an open SQLite connection, all of them in one transaction."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import StaticPool

    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    # The connection commits by itself, and SQLAlchemy trusts the driver to begin.
    event.listen(engine, "begin", lambda shared: shared.exec_driver_sql("BEGIN IMMEDIATE"))
    _run(engine, revision)


def _run(engine: Engine, revision: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", MIGRATIONS.replace("%", "%%"))
    with engine.begin() as shared:
        config.attributes["connection"] = shared
        command.upgrade(config, revision)


def snapshot(connection: sqlite3.Connection) -> str:
    """Return the SQL that rebuilds the schema of a migrated database, as `schema.sql` holds it."""
    rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC, name").fetchall()
    statements = [f"{row[0].strip()};" for row in rows]
    return "\n".join([*statements, f"INSERT INTO alembic_version VALUES ('{HEAD}');"]) + "\n"
