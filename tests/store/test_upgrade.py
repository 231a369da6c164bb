"""Upgrading a database with data in it: copied aside first, all or nothing, whatever happens in the middle.

The next migration is the tests' own.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import pytest

from pullcord.core.errors import StoreError, StoreFullError, StoreVersionError
from pullcord.store import migrate as migrate_module
from pullcord.store.copy import KEPT, check
from pullcord.store.migrate import HEAD
from pullcord.store.restore import restore
from pullcord.store.store import Store
from tests.store.harness import DrivenClock, Server, SQLiteDatabase, admit, spec

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "{head}"

def upgrade():
    op.add_column("runs", sa.Column("colour", sa.Text))
    op.execute("UPDATE runs SET colour = 'red'")
    op.create_index("runs_colour", "runs", ["colour"])
    {then}
    op.execute("UPDATE runs SET state = 'succeeded'")
"""

UPGRADING = """
import sys
from pathlib import Path
from pullcord.clock import SystemClock
from pullcord.store import migrate
from pullcord.store.store import Store
migrate.HEAD, migrate.MIGRATIONS = "9001", sys.argv[2]
Store(Path(sys.argv[1]), SystemClock())
"""

Next = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a data folder of the present schema with three active runs, left by a server that was killed."""
    data = tmp_path / "data"
    server = Server(SQLiteDatabase(data))
    server.register(spec("f", None))
    server.begin(*[admit("f", limited=False) for _ in range(3)])
    killed = tmp_path / "killed"
    shutil.copytree(data, killed)
    server.close()
    return killed


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Next:
    """Return what makes this Pullcord one with another migration, which does `then` half-way."""

    def make(then: str = "pass") -> str:
        scripts = tmp_path / "migrations"
        shutil.copytree(str(files("pullcord.store").joinpath("migrations")), scripts, dirs_exist_ok=True)
        (scripts / "versions" / "9001_colour.py").write_text(NEXT.format(then=then, head=HEAD))
        monkeypatch.setattr(migrate_module, "MIGRATIONS", str(scripts))
        monkeypatch.setattr(migrate_module, "HEAD", "9001")
        return str(scripts)

    return make


def content(folder: Path) -> list[str]:
    """Return a database as SQL, in which the number of starts is left out."""
    with closing(sqlite3.connect(folder / "pullcord.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [line for line in connection.iterdump() if "incarnation" not in line]


def copies(folder: Path) -> list[Path]:
    return sorted((folder / "backups").iterdir())


async def start_and_stop(folder: Path) -> None:
    store = Store(folder, DrivenClock())
    store.start()
    await store.stop()


async def test_an_older_database_is_copied_aside_and_upgraded(
    folder: Path, newer: Next, caplog: pytest.LogCaptureFixture
) -> None:
    before = content(folder)
    newer()
    with caplog.at_level(logging.WARNING):
        await start_and_stop(folder)
    (copied,) = copies(folder)
    assert f"from schema {HEAD} to 9001; a copy of it is {copied}" in caplog.text
    assert copied.name.startswith(f"pullcord-{HEAD}-")
    check(copied)
    with closing(sqlite3.connect(folder / "pullcord.db")) as connection:
        assert connection.execute("SELECT DISTINCT colour, state FROM runs").fetchall() == [("red", "succeeded")]
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9001",)]
    restore(copied, folder, force=True)
    assert content(folder) == before


async def test_a_new_database_and_a_present_one_are_not_copied(tmp_path: Path) -> None:
    for _ in range(2):
        await start_and_stop(tmp_path / "data")
    assert not (tmp_path / "data" / "backups").exists()


@pytest.mark.parametrize(
    ("then", "says"),
    [
        ("raise RuntimeError('on purpose')", "on purpose"),
        ("op.execute('UPDATE runs SET taste = 1')", "no such column: taste"),
        ("op.execute('INSERT INTO runs SELECT * FROM runs')", "UNIQUE constraint failed"),
    ],
)
def test_an_upgrade_that_fails_half_way_changes_nothing(folder: Path, newer: Next, then: str, says: str) -> None:
    before = content(folder)
    newer(then)
    for _ in range(KEPT + 2):
        with pytest.raises(StoreError, match="failed and was undone, nothing is lost: .*" + says):
            Store(folder, DrivenClock())
    assert content(folder) == before
    assert len(copies(folder)) == KEPT, "also one that restarts all the time fills no disk"


async def test_the_older_pullcord_goes_on_after_a_failed_upgrade(
    folder: Path, newer: Next, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as upgraded:
        newer("raise RuntimeError")
        with pytest.raises(StoreError):
            Store(folder, DrivenClock())
        upgraded.setattr(migrate_module, "HEAD", HEAD)
        await start_and_stop(folder)


async def test_after_an_upgrade_the_older_pullcord_is_refused(
    folder: Path, newer: Next, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer()
    await start_and_stop(folder)
    monkeypatch.setattr(migrate_module, "HEAD", HEAD)
    before = content(folder)
    with pytest.raises(StoreVersionError, match="install the newer version"):
        Store(folder, DrivenClock())
    assert content(folder) == before


def test_an_upgrade_that_is_killed_half_way_is_done_by_the_next_start(folder: Path, newer: Next) -> None:
    """With a real process and a real signal; the file then holds pages of the unfinished transaction."""
    before = content(folder)
    scripts = newer(
        "op.execute('CREATE TABLE big AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 40000)"
        " SELECT i, hex(zeroblob(500)) AS t FROM n'); import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", UPGRADING, str(folder), scripts], capture_output=True, timeout=60, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (folder / "pullcord.db-wal").stat().st_size > 10_000_000
    assert content(folder) == before
    newer()
    asyncio.run(start_and_stop(folder))
    with closing(sqlite3.connect(folder / "pullcord.db")) as connection:
        assert connection.execute("SELECT DISTINCT colour FROM runs").fetchall() == [("red",)]


def test_without_room_for_the_copy_there_is_no_upgrade(
    folder: Path, newer: Next, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(folder)
    newer()
    (folder / "backups").mkdir()
    small = folder / "backups"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=True)
    try:
        with pytest.raises(StoreFullError, match="before the upgrade the database is copied"):
            Store(folder, DrivenClock())
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert content(folder) == before


def test_two_servers_that_start_at_once_upgrade_once(folder: Path, newer: Next) -> None:
    """The folder's lock is held before the schema is looked at."""
    scripts = newer()
    command = [sys.executable, "-c", UPGRADING, str(folder), scripts]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert any(process.returncode == 0 for process in processes), said
    for process, text in zip(processes, said, strict=True):
        assert process.returncode == 0 or "is in use by process" in text
    assert len(copies(folder)) == 1
