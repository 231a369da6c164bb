"""Opening a data folder: who may, who holds it, and what is said about one that cannot be used."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pullcord.core.errors import (
    StoreCorruptError,
    StoreError,
    StoreLockedError,
    StoreReadOnlyError,
)
from pullcord.store import sqlite
from pullcord.store.errors import translated
from pullcord.store.lock import FolderLock
from pullcord.store.migrate import migrate
from pullcord.store.store import Store
from tests.store.harness import DrivenClock, Server, SQLiteDatabase, admit, finished, note

NOBODY = 65534

HOLDER = """
import sys
from pathlib import Path
from pullcord.store.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


async def closed(store: Store) -> None:
    """Start and stop a store."""
    store.start()
    await store.stop()


@contextlib.contextmanager
def unprivileged() -> Iterator[Path]:
    """Yield a folder that this process may read but not write: permissions do not bind root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "inner").mkdir(mode=0o555)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        try:
            yield folder / "inner"
        finally:
            if user == 0:
                os.seteuid(user)
            folder.chmod(0o755)


# --- the lock --------------------------------------------------------------------------------------------------------


async def test_a_second_server_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    first = Store(tmp_path, DrivenClock())
    for _ in range(2):
        with pytest.raises(StoreLockedError, match=f"in use by process {os.getpid()}") as caught:
            Store(tmp_path, DrivenClock())
        assert caught.value.fields == {"pid": str(os.getpid())}
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    first.start()
    assert await first.write(lambda done: note(done, uuid="u")) == "u", "it was not disturbed"
    await first.stop()
    await closed(Store(tmp_path, DrivenClock()))


def test_a_server_in_another_process_is_named_and_its_death_frees_the_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreLockedError, match=f"process {holder.pid}"):
            FolderLock(tmp_path)
        holder.kill()
        holder.wait(60)
    FolderLock(tmp_path).release()


def test_a_lock_file_that_a_dead_server_left_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("123456789 and more\n")
    lock = FolderLock(tmp_path)
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    lock.release()


# --- permissions -----------------------------------------------------------------------------------------------------


async def test_others_may_not_look_into_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    await closed(Store(folder, DrivenClock()))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "pullcord.db", folder / "lock")}
    assert modes == {"data": 0o700, "pullcord.db": 0o600, "lock": 0o600}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with (
        unprivileged() as folder,
        pytest.raises(StoreReadOnlyError, match=rf"{folder} cannot be written .*permissions"),
    ):
        Store(folder, DrivenClock())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreReadOnlyError, match="cannot be made"):
        Store(tmp_path / "file", DrivenClock())
    with unprivileged() as folder, pytest.raises(StoreReadOnlyError, match="cannot be made"):
        Store(folder / "new", DrivenClock())


def test_a_database_that_cannot_be_written_is_a_clear_error() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        SQLiteDatabase(folder).writer().close()
        (folder / "lock").touch()
        for path, mode in ((folder / "lock", 0o666), (folder / "pullcord.db", 0o444), (folder, 0o555)):
            path.chmod(mode)
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        try:
            with pytest.raises(StoreReadOnlyError, match="permissions"):
                Store(folder, DrivenClock())
        finally:
            if user == 0:
                os.seteuid(user)
            folder.chmod(0o755)


def test_where_the_database_should_be_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "pullcord.db").mkdir()
    with pytest.raises(StoreError):
        Store(tmp_path, DrivenClock())


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"hello", b"x" * 5000, b"SQLite format 2\0" + b"\0" * 4080, bytes(range(256)) * 32], ids=len
)
async def test_a_file_that_is_no_database_is_said_to_be_none_and_is_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pullcord.db"
    path.write_bytes(content)
    with pytest.raises(StoreCorruptError, match=r"is not a database; move it away or use another --data-dir"):
        Store(tmp_path, DrivenClock())
    assert path.read_bytes() == content
    path.unlink()
    await closed(Store(tmp_path, DrivenClock()))


async def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    (tmp_path / "pullcord.db").touch()
    await closed(Store(tmp_path, DrivenClock()))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Make a database with a history."""
    database = SQLiteDatabase(tmp_path_factory.mktemp("good"))
    server = Server(database)
    for run in server.begin(*[admit("free", limited=False, key=str(number)) for number in range(300)]):
        server.finish(finished(run))
    server.close()
    return database.path.read_bytes()


def use(path: Path) -> None:
    """Open a database and look at all of it, as its server would say it."""
    with translated():
        connection = sqlite.writer(path)
        try:
            migrate(connection)
            connection.execute("UPDATE runs SET state = 'failed', error = '{}'")
            for table in ("requests", "runs", "keys", "audit"):
                connection.execute(f"SELECT * FROM {table}").fetchall()
        finally:
            connection.close()


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_a_truncated_database_is_said_to_be_damaged(tmp_path: Path, good: bytes, share: float) -> None:
    path = tmp_path / "pullcord.db"
    path.write_bytes(good[: int(len(good) * share)])
    with pytest.raises(StoreCorruptError, match="damaged"):
        use(path)


@pytest.mark.parametrize("page", [1, 5, 20])
def test_a_damaged_database_is_said_to_be_damaged(tmp_path: Path, good: bytes, page: int) -> None:
    damaged = good[: page * 4096] + random.Random(page).randbytes(len(good) - page * 4096)
    (tmp_path / "pullcord.db").write_bytes(damaged)
    with pytest.raises(StoreCorruptError, match="damaged"):
        use(tmp_path / "pullcord.db")


async def test_damage_that_shows_later_reaches_the_caller_as_such(tmp_path: Path, good: bytes) -> None:
    damaged = bytearray(good)
    damaged[8 * 4096 :] = b"\xaa" * (len(good) - 8 * 4096)
    (tmp_path / "pullcord.db").write_bytes(damaged)
    with pytest.raises(StoreCorruptError):
        store = Store(tmp_path, DrivenClock())
        store.start()
        try:
            await store.read(lambda connection: connection.execute("SELECT * FROM runs").fetchall())
        finally:
            await store.stop()


async def test_a_folder_that_could_not_be_opened_is_free_again(tmp_path: Path) -> None:
    (tmp_path / "pullcord.db").write_bytes(b"x" * 100)
    with pytest.raises(StoreCorruptError):
        Store(tmp_path, DrivenClock())
    FolderLock(tmp_path).release()


# --- how it is opened ------------------------------------------------------------------------------------------------


def test_every_commit_is_synced(tmp_path: Path) -> None:
    """Rule 1: WAL, and synchronous FULL."""
    connection = SQLiteDatabase(tmp_path, synced=True).writer()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()


def test_readers_cannot_write(tmp_path: Path) -> None:
    database = SQLiteDatabase(tmp_path)
    database.writer().close()
    reader = database.reader()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM runs")
    reader.close()


async def test_a_stopped_store_leaves_one_file(tmp_path: Path) -> None:
    store = Store(tmp_path, DrivenClock())
    store.start()
    await store.write(lambda done: admit(done=done))
    await store.read(lambda connection: connection.execute("SELECT 1"))
    await store.stop()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "pullcord.db"]


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(StoreError, match=r"too old, 3\.35\.0 or newer is needed"):
        sqlite.writer(tmp_path / "pullcord.db")
