"""Back-ups: what is in one, what is refused, and that a restore is all or nothing and loses nothing."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pullcord.core.errors import (
    NotFoundError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
    UsageError,
)
from pullcord.store import archive as archive_module
from pullcord.store import restore as restore_module
from pullcord.store.archive import Manifest, back_up
from pullcord.store.copy import check, opened_read_only
from pullcord.store.lock import RESTORING, FolderLock
from pullcord.store.migrate import HEAD
from pullcord.store.restore import restore
from pullcord.store.store import Store
from tests.store.harness import DrivenClock, Server, SQLiteDatabase, admit, spec

LOG = "logs/01a1fc/01a1fc1a-c276-7419-a668-6cc10c328f2e.jsonl"


def pack(folder: Path, target: Path, force: bool = False) -> Manifest:
    return back_up(folder, target, at="2026-01-01T00:00:00.000000Z", pullcord="0.1.0", force=force)


def files(folder: Path) -> dict[str, bytes]:
    """Return everything below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


CONTENT = f"artifacts/0a/{'0b' * 31}"


def test_artifacts_are_in_it_unless_they_are_left_out(data: Path, tmp_path: Path) -> None:
    (data / CONTENT).parent.mkdir(parents=True)
    (data / CONTENT).write_bytes(b"stored")
    (data / "artifacts" / "tmp").mkdir()
    (data / "artifacts" / "tmp" / "part").write_bytes(b"no content")
    archive, without = tmp_path / "with.tar.gz", tmp_path / "without.tar.gz"
    assert pack(data, archive).artifacts == 1
    manifest = back_up(data, without, at="2026-01-01T00:00:00.000000Z", pullcord="0.1.0", artifacts=False)
    assert manifest.artifacts is None
    restore(archive, tmp_path / "new")
    assert {name for name in files(tmp_path / "new") if name.startswith("artifacts")} == {CONTENT}
    restore(without, tmp_path / "new", force=True)
    assert files(tmp_path / "new")[CONTENT] == b"stored", "what is there may still be needed"
    restore(archive, tmp_path / "new", force=True)
    assert files(tmp_path / "new")[CONTENT] == b"stored"
    restore(without, tmp_path / "newer")
    assert not (tmp_path / "newer" / "artifacts").exists()


def runs(folder: Path) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(folder / "pullcord.db")) as connection:
        return connection.execute("SELECT id, state FROM runs ORDER BY id").fetchall()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Make a data folder with five runs, of which three are only in the write-ahead log, a run's log, and a token."""
    folder = tmp_path / "data"
    server = Server(SQLiteDatabase(folder))
    server.register(spec("f", None))
    server.begin(admit("f", limited=False), admit("f", limited=False))
    server.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    server.begin(*[admit("f", limited=False) for _ in range(3)])
    killed = tmp_path / "killed"
    shutil.copytree(folder, killed)
    server.close()
    (killed / LOG).parent.mkdir(parents=True)
    (killed / LOG).write_text('{"text":"whole"}\n{"text":"being writ')
    (killed / "token").write_text("secret-token")
    (killed / "server.json").write_text("{}")
    (killed / "pullcord.db-shm").unlink()
    return killed


@pytest.fixture
def archive(data: Path, tmp_path: Path) -> Path:
    target = tmp_path / "archive.tar.gz"
    pack(data, target)
    return target


def rewritten(archive: Path, target: Path, **changes: bytes | None) -> Path:
    """Copy an archive with members changed, added or left out."""
    with tarfile.open(archive) as old, tarfile.open(target, "w:gz") as new:
        members = {member.name: (old.extractfile(member) or io.BytesIO()).read() for member in old}
        for name, content in (members | {name.replace("__", "."): value for name, value in changes.items()}).items():
            if content is not None:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                new.addfile(member, io.BytesIO(content))
    return target


# --- a back-up ---------------------------------------------------------------------------------------------------


def test_it_holds_what_was_committed_and_the_logs_and_nothing_else(data: Path, archive: Path) -> None:
    with tarfile.open(archive) as members:
        names = members.getnames()
        first = members.extractfile(names[0])
        assert first is not None
        manifest = json.load(first)
        log = members.extractfile(LOG)
        assert log is not None
        assert log.read() == b'{"text":"whole"}\n', "half a line would spoil the next one after a restore"
    assert names == ["pullcord.json", "pullcord.db", LOG]
    assert (manifest["schema"], manifest["runs"], manifest["requests"], manifest["logs"]) == (HEAD, 5, 5, 1)
    assert b"secret-token" not in gzip.decompress(archive.read_bytes())
    assert archive.stat().st_mode & 0o777 == 0o600


def test_reading_a_dead_servers_file_writes_nothing_into_it(data: Path, tmp_path: Path) -> None:
    """SQLite checkpoints when the last connection closes; this one must not be able to."""
    before = {name: (data / name).read_bytes() for name in ("pullcord.db", "pullcord.db-wal")}
    pack(data, tmp_path / "archive.tar.gz")
    assert {name: (data / name).read_bytes() for name in before} == before
    with opened_read_only(data / "pullcord.db") as connection, pytest.raises(sqlite3.OperationalError):
        connection.execute("PRAGMA query_only = OFF")
        connection.execute("DELETE FROM runs")
    with pytest.raises(StoreError), opened_read_only(data / "pullcord.db") as connection:
        connection.execute("PRAGMA query_only = OFF")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert {name: (data / name).read_bytes() for name in before} == before


def test_it_is_of_one_moment_however_much_is_written_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pullcord.store.copy.PAGES", 1)
    server = Server(SQLiteDatabase(tmp_path / "data"))
    server.register(spec("f", None))
    server.begin(*[admit("f", limited=False) for _ in range(50)])
    copied = []

    def busy(what: str, done: int, total: int) -> None:
        if what == "copying the database":
            copied.append((done, total))
            server.begin(admit("f", limited=False))

    target = tmp_path / "archive.tar.gz"
    manifest = back_up(tmp_path / "data", target, at="", pullcord="", progress=busy)
    assert len(copied) > 10
    assert len({total for _, total in copied}) == 1, "it never began anew"
    assert manifest.runs == manifest.requests == 50
    assert server.count("runs") == 50 + len(copied)
    server.close()


def test_an_existing_file_is_replaced_only_by_force(data: Path, archive: Path, tmp_path: Path) -> None:
    good = archive.read_bytes()
    with pytest.raises(UsageError, match="--force"):
        pack(data, archive)
    assert archive.read_bytes() == good
    pack(data, archive, force=True)
    with pytest.raises(UsageError, match="is a folder"):
        pack(data, tmp_path)
    with pytest.raises(UsageError, match="No such file"):
        pack(data, tmp_path / "nowhere" / "archive.tar.gz")


def test_what_is_no_regular_file_is_never_replaced(data: Path, archive: Path, tmp_path: Path) -> None:
    pipe, link, nowhere = tmp_path / "pipe", tmp_path / "link", tmp_path / "dangling"
    os.mkfifo(pipe)
    link.symlink_to(archive)
    nowhere.symlink_to(tmp_path / "nothing")
    for target in (pipe, link, nowhere):
        with pytest.raises(UsageError, match="no regular file"):
            pack(data, target, force=True)
    assert pipe.is_fifo() and link.is_symlink() and nowhere.is_symlink()


def test_a_folder_without_data_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no database in"):
        pack(tmp_path, tmp_path / "archive.tar.gz")
    (tmp_path / "pullcord.db").write_bytes(b"nothing like it" * 100)
    with pytest.raises(StoreCorruptError):
        pack(tmp_path, tmp_path / "archive.tar.gz")
    (tmp_path / "pullcord.db").unlink()
    with closing(sqlite3.connect(tmp_path / "pullcord.db")) as other:
        other.execute("CREATE TABLE mine (id)")
    with pytest.raises(StoreCorruptError, match="no database of Pullcord's"):
        pack(tmp_path, tmp_path / "archive.tar.gz")
    assert {path.name for path in tmp_path.iterdir()} <= {"pullcord.db", "pullcord.db-shm", "pullcord.db-wal"}


def test_a_damaged_database_gives_no_back_up(data: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(data / "pullcord.db")) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs_uuid'").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (data / "pullcord.db").open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xaa" * 4096)
    target = tmp_path / "archive.tar.gz"
    with pytest.raises(StoreCorruptError):
        pack(data, target)
    assert not target.exists()
    assert not list(tmp_path.glob(".pullcord-backup-*"))


def test_a_full_disk_is_said_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    before = files(data)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=True)
    try:
        with pytest.raises(StoreFullError, match=r"is full .* on another disk"):
            pack(data, small / "archive.tar.gz")
        assert list(small.iterdir()) == []
        archive = tmp_path / "archive.tar.gz"
        pack(data, archive)
        with pytest.raises(StoreFullError, match="Nothing was restored"):
            restore(archive, small / "data")
        assert [path.name for path in small.rglob("*")] == ["data", "lock"]
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert files(data) | {"pullcord.db-shm": b""} == before | {"pullcord.db-shm": b""}


# --- a restore ---------------------------------------------------------------------------------------------------


def test_what_is_restored_is_what_was_backed_up(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    done = restore(archive, folder)
    assert (done.schema, done.aside) == (HEAD, None)
    assert done.manifest is not None
    assert len(runs(folder)) == done.manifest.runs == 5
    assert sorted(files(folder)) == ["lock", LOG, "pullcord.db"]
    assert folder.stat().st_mode & 0o777 == 0o700


async def test_runs_that_were_active_are_to_be_taken_over(archive: Path, tmp_path: Path) -> None:
    restore(archive, tmp_path / "new")
    store = Store(tmp_path / "new", DrivenClock())
    store.start()
    assert [state for _, state in runs(tmp_path / "new")] == ["running"] * 5
    await store.stop()


def test_data_that_is_there_is_replaced_only_by_force_and_kept_aside(data: Path, archive: Path, tmp_path: Path) -> None:
    before = files(data)
    with pytest.raises(UsageError, match="holds data already"):
        restore(archive, data)
    assert files(data) | {"lock": b""} == before | {"lock": b""}
    with closing(sqlite3.connect(data / "pullcord.db")) as connection:
        connection.execute("DELETE FROM runs WHERE id > 1")
        connection.commit()
        shutil.copy(data / "pullcord.db-wal", tmp_path / "wal")
    shutil.copy(tmp_path / "wal", data / "pullcord.db-wal")
    done = restore(archive, data, force=True)
    assert len(runs(data)) == 5
    assert done.aside is not None
    assert len(runs(done.aside)) == 1, "with what was only in its write-ahead log"
    assert (done.aside / LOG).exists()
    assert (data / "token").read_text() == "secret-token"
    assert not (data / RESTORING).exists()


def test_a_folder_in_use_is_left_alone(archive: Path, data: Path) -> None:
    lock = FolderLock(data)
    before = files(data)
    with pytest.raises(StoreLockedError):
        restore(archive, data, force=True)
    assert files(data) == before
    lock.release()


def test_a_bare_copy_is_restored_and_the_logs_stay(data: Path, archive: Path, tmp_path: Path) -> None:
    restore(archive, tmp_path / "elsewhere")
    done = restore(tmp_path / "elsewhere" / "pullcord.db", data, force=True)
    assert done.manifest is None
    assert len(runs(data)) == 5
    assert (data / LOG).exists()
    with pytest.raises(UsageError, match="no file"):
        restore(tmp_path / "nothing", data, force=True)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"pullcord__json": b"{}"}, StoreCorruptError, "manifest"),
        ({"pullcord__json": b"\xff"}, StoreCorruptError, "manifest"),
        ({"pullcord__json": b"[]"}, StoreCorruptError, "manifest"),
        ({"pullcord__json": None}, StoreCorruptError, "no back-up of Pullcord's"),
        ({"pullcord__db": None}, StoreCorruptError, "holds no database"),
        ({"pullcord__db": b"x" * 9000}, StoreCorruptError, "not a database"),
        ({"../token": b"mine"}, StoreCorruptError, "no part of a back-up"),
        ({"/etc/cron__d/mine": b"mine"}, StoreCorruptError, "no part of a back-up"),
        ({"logs/01a1fc/../../x__jsonl": b"mine"}, StoreCorruptError, "no part of a back-up"),
    ],
)
def test_what_is_no_sound_back_up_is_refused_and_nothing_is_touched(
    archive: Path, tmp_path: Path, data: Path, changes: dict[str, bytes | None], error: type[StoreError], says: str
) -> None:
    before = files(data) | {"lock": b""}
    with pytest.raises(error, match=says):
        restore(rewritten(archive, tmp_path / "other.tar.gz", **changes), data, force=True)
    assert files(data) | {"lock": b""} == before
    assert not [path for path in data.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("change", [{"schema": "9999"}, {"format": 2}])
def test_a_back_up_of_a_newer_pullcord_is_refused(archive: Path, tmp_path: Path, change: dict[str, object]) -> None:
    with tarfile.open(archive) as members:
        content = members.extractfile("pullcord.json")
        assert content is not None
        manifest = json.dumps(json.load(content) | change | {"more": 1}).encode()
    with pytest.raises(StoreVersionError, match="newer Pullcord"):
        restore(rewritten(archive, tmp_path / "new.tar.gz", pullcord__json=manifest), tmp_path / "new")


def test_a_database_newer_than_its_manifest_says_is_refused_too(data: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(data / "pullcord.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    with pytest.raises(StoreVersionError, match="9999"):
        restore(data / "pullcord.db", tmp_path / "new")


@settings(max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), cut=st.booleans(), bit=st.integers(0, 7))
def test_every_cut_and_every_flipped_bit_is_found(
    tmp_path_factory: pytest.TempPathFactory, place: float, cut: bool, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    server = Server(SQLiteDatabase(folder / "data"))
    server.register(spec("f", None))
    server.close()
    pack(folder / "data", folder / "archive")
    good = (folder / "archive").read_bytes()
    index = int(place * len(good))
    bad = bytearray(good[:index]) if cut else bytearray(good)
    if not cut:
        bad[index] ^= 1 << bit
    (folder / "bad").write_bytes(bad)
    try:
        restore(folder / "bad", folder / "new")
    except StoreError:
        assert not (folder / "new" / "pullcord.db").exists()
    else:  # bits that mean nothing, or the same: another match of the same length
        assert not cut
        assert gzip.decompress(bytes(bad)) == gzip.decompress(good)
        check(folder / "new" / "pullcord.db")


def test_no_server_starts_on_half_a_restore_and_the_next_one_completes_it(
    data: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut short after every single rename and sync."""
    for left in range(100):
        steps = iter([None] * left)

        def stop(path: Path, steps: object = steps) -> None:
            if next(steps, "die") == "die":  # type: ignore[call-overload]
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(restore_module, "sync", stop)
            try:
                restore(archive, data, force=True)
            except KeyboardInterrupt:
                pass
            else:
                break
        if (data / RESTORING).exists():
            with pytest.raises(StoreError, match="cut short"):
                Store(data, DrivenClock())
        else:
            assert len(runs(data)) == 5, "it is the old data or the new, never none"
    assert left > 5
    restore(archive, data, force=True)
    assert len(runs(data)) == 5
    assert not (data / RESTORING).exists()


class Killed(BaseException):
    """As far as files are concerned, the process is dead."""


class Reaper:
    """Kills at the first change of a name after so many; whatever is tried later, cleaning up too, does not happen."""

    left: int | None = None

    def __call__(self, event: str, _: object) -> None:
        if self.left is None or event not in ("os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            return
        if self.left == 0:
            raise Killed
        self.left -= 1


reaper = Reaper()
sys.addaudithook(reaper)


@pytest.mark.parametrize("cut_before", [False, True])
def test_a_restore_that_is_killed_anywhere_leaves_no_empty_folder(
    cut_before: bool, data: Path, archive: Path, tmp_path: Path
) -> None:
    if cut_before:
        shutil.copytree(data, data / RESTORING, ignore=shutil.ignore_patterns("lock"))
    for left in range(200):
        folder = tmp_path / f"copy{left}"
        shutil.copytree(data, folder)
        reaper.left = left
        try:
            restore(archive, folder, force=True)
            break
        except Killed:
            pass
        finally:
            reaper.left = None
        if (folder / RESTORING).exists():
            with pytest.raises(StoreError, match="cut short"):
                Store(folder, DrivenClock())
        else:
            assert len(runs(folder)) == 5, "it is the old data or the new, never none"
        restore(archive, folder, force=True)
        assert len(runs(folder)) == 5
        assert not list(folder.glob(".restore-*")), "what the dead one left is gone"
    assert left > 5


def test_a_live_database_is_no_copy(data: Path, tmp_path: Path) -> None:
    """A part of it is in its log, and would be left out."""
    source = data / "pullcord.db"
    (data / "pullcord.db-wal").write_bytes(b"x")
    with pytest.raises(UsageError, match=f"pullcord backup --data-dir {data}"):
        restore(source, tmp_path / "new")


def test_the_digest_of_a_back_up_depends_on_its_content_alone(data: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        pack(data, tmp_path / name)
    digests = {sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("one", "two")}
    assert len(digests) == 1
    assert archive_module.FORMAT == 1
