"""What can be stored as an artifact and what cannot, whatever the file is; nothing is left of what cannot."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pullcord as pc
from pullcord.core.artifact import LIMIT, NAME_LIMIT, UNFINISHED, Wanted, artifact, check_name, content_path
from pullcord.core.context import current
from pullcord.core.errors import ArtifactError, PullcordRuntimeError, UsageError
from pullcord.engine.contents import Contents
from pullcord.worker import artifacts
from pullcord.worker.artifacts import write
from pullcord.worker.failures import describe, rebuild


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "artifacts"


def of(path: Path | None = None, content: bytes | None = None) -> Wanted:
    return Wanted("it", path, content, None, None)


def why(folder: Path, wanted: Wanted, limit: int = LIMIT) -> str:
    """Try to store it; return why it cannot be, and make sure that nothing is left."""
    with pytest.raises(ArtifactError) as caught:
        write(folder, wanted, limit)
    assert caught.value.name == "it"
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    return caught.value.why


def test_a_file_is_stored_by_its_content(folder: Path, tmp_path: Path) -> None:
    data = os.urandom(3 * 1024 * 1024 + 5)
    source = tmp_path / "source"
    source.write_bytes(data)
    sha256, size = write(folder, of(source), LIMIT)
    assert (sha256, size) == (hashlib.sha256(data).hexdigest(), len(data))
    stored = folder / content_path(sha256)
    assert stored.read_bytes() == data
    assert stored.stat().st_mode & 0o777 == 0o400
    source.write_bytes(b"something else")
    assert stored.read_bytes() == data, "what the flow does with its file later is no matter"
    assert list((folder / UNFINISHED).iterdir()) == []


def test_equal_contents_are_stored_once_and_touched(folder: Path) -> None:
    sha256, _ = write(folder, of(content=b"same"), LIMIT)
    stored = folder / content_path(sha256)
    inode = stored.stat().st_ino
    os.utime(stored, (1, 1))
    assert write(folder, of(content=b"same"), LIMIT) == (sha256, 4)
    assert stored.stat().st_ino == inode
    assert stored.stat().st_mtime > 1, "who stored it last is about to speak of it"


def test_a_content_that_was_cut_off_is_replaced(folder: Path) -> None:
    sha256, _ = write(folder, of(content=b"whole"), LIMIT)
    stored = folder / content_path(sha256)
    stored.chmod(0o600)
    stored.write_bytes(b"wh")
    write(folder, of(content=b"whole"), LIMIT)
    assert stored.read_bytes() == b"whole"


def test_an_empty_one_is_one(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert write(folder, of(tmp_path / "empty"), LIMIT)[1] == write(folder, of(content=b""), 0)[1] == 0


def test_a_link_is_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert write(folder, of(tmp_path / "link"), LIMIT)[1] == 4


def test_what_is_no_file_is_refused(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert why(folder, of(tmp_path)) == "not_a_file"
    assert why(folder, of(tmp_path / "fifo")) == "not_a_file", "and nobody waits for someone to write into it"
    assert why(folder, of(Path("/dev/zero"))) == "not_a_file"
    for name in ("nothing", "dangling", "loop", "nothing/at/all"):
        assert why(folder, of(tmp_path / name)) == "missing"


def test_what_is_too_large_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 11)
    assert why(folder, of(tmp_path / "file"), 10) == "too_large"
    assert why(folder, of(content=b"x" * 11), 10) == "too_large"
    assert write(folder, of(content=b"x" * 10), 10)[1] == 10


def test_what_changes_meanwhile_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "growing"
    source.write_bytes(b"x" * 100)
    monkeypatch.setattr(artifacts, "PIECE", 10)
    written = iter(range(1000))

    def grow(name: str) -> None:
        if name == "artifact.in_write" and next(written) == 3:
            with source.open("ab") as file:
                file.write(b"more")

    monkeypatch.setattr(artifacts, "hit", grow)
    assert why(folder, of(source)) == "changed"


def test_a_refusal_is_the_same_on_a_replay(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        write(folder, of(tmp_path / "nothing"), LIMIT)
    again = rebuild(describe(caught.value))
    assert isinstance(again, ArtifactError)
    assert (str(again), again.name, again.why) == (str(caught.value), "it", "missing")


@pytest.mark.parametrize(
    "name",
    ["", "a/b", "/", "..", ".", "a\\b", "a\nb", "a\x00b", "a\x7f", "a\u202eb", "\ud800", "x" * 201, "ü" * 101, " a",
     "a\t", 7, None, "\u200b", "a\u200bb.txt", "\ufeff", "\u2060", "\u00ad", "\u3164", "\u115f", "a\u1160",
     "\uffa0.txt", "a\u200db", "a\U000e0041", "a\u2028b", "a\u2029b", "a\u061cb", "a\x85b", "a\u2066b"],
)  # fmt: skip
def test_a_name_that_could_be_taken_for_something_else_is_refused(name: object) -> None:
    with pytest.raises(UsageError):
        check_name(name)


@pytest.mark.parametrize("name", ["ä.txt", "報告.pdf", "a b.csv", "a\u0308.txt", "🎉.html", "\u1112\u1161\u11ab"])
def test_a_name_may_be_in_any_writing(name: str) -> None:
    assert check_name(name) == name


@given(st.text())
def test_a_name_is_refused_or_safe(name: str) -> None:
    try:
        check_name(name)
    except UsageError:
        return
    assert 0 < len(name.encode()) <= NAME_LIMIT
    assert Path("/folder", name).name == name
    assert not {"/", "\\", "\n", "\r", "\x00"} & set(name)


def test_outside_a_run_it_is_an_error() -> None:
    with pytest.raises(PullcordRuntimeError):
        pc.artifact("file")


class Nowhere:
    """A run that stores nothing."""

    def artifact(self, wanted: Wanted) -> Wanted:
        return wanted


class BytesPath:
    """A path that is bytes."""

    def __fspath__(self) -> bytes:
        return b"flows.py"


def test_arguments_that_make_no_sense_are_refused() -> None:
    token = current.set(Nowhere())  # type: ignore[arg-type]
    try:
        for arguments in (
            {}, {"path": "a", "content": b""}, {"content": b""}, {"content": 5, "name": "a"},
            {"path": "a", "media_type": "html"}, {"path": "a", "media_type": "text/html\r\nX: y"}, {"path": ".."},
            {"path": "/"}, {"path": 5}, {"path": b"flows.py"}, {"path": BytesPath()}, {"path": "a\x00b", "name": "a"},
            {"content": "\ud800", "name": "x"},
        ):  # fmt: skip
            with pytest.raises(UsageError):
                artifact(**arguments)  # type: ignore[arg-type]
        wanted = artifact("folder/file.txt", description="\x00" + "x" * 5000)
        assert (wanted.name, wanted.path, wanted.content) == ("file.txt", Path("folder/file.txt"), None)
        assert len(wanted.description) == 2000
        wanted = artifact(name="a", content="ü", media_type="text/plain; charset=utf-8")
        assert (wanted.content, wanted.path) == ("ü".encode(), None)
    finally:
        current.reset(token)


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("a.html", "text/html"), ("a.csv", "text/csv"), ("a.csv.gz", "application/gzip"), ("a.tar.xz", None), ("a", None)],
)
def test_a_media_type_is_guessed_from_the_name(name: str, media_type: str | None) -> None:
    assert artifacts._guessed(name) == media_type


def test_what_was_not_finished_is_swept_when_it_is_old(folder: Path) -> None:
    (folder / UNFINISHED).mkdir(parents=True)
    for name, at in (("old", 100), ("new", 300)):
        (folder / UNFINISHED / name).write_text("part")
        os.utime(folder / UNFINISHED / name, (at, at))
    sha256, _ = write(folder, of(content=b"kept"), LIMIT)
    contents = Contents(folder)
    assert contents.sweep(200.0) == (1, 4)
    assert [path.name for path in (folder / UNFINISHED).iterdir()] == ["new"]
    assert list(contents.old(0.0)) == [[]]
    assert list(contents.old(2**40)) == [[sha256]]
    assert Contents(folder / "nowhere").sweep(0.0) == (0, 0)
