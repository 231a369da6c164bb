"""Which files a watcher fires for, with real files; the clock alone is the test's."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

import pullcord as pc
from pullcord.core.errors import DefinitionError
from pullcord.events import FileWatcher
from pullcord.events import files as module_function
from pullcord.events.files import AT_ONCE

MINUTE = 60.0


def old(path: Path, seconds: float = MINUTE) -> Path:
    """Let a file have been written so many seconds ago."""
    moment = time.time() - seconds
    os.utime(path, (moment, moment))
    return path


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    return old(path)


def fired(watcher: FileWatcher, state: pc.Cursor) -> list[str]:
    """Poll; return the names of the files that were fired for."""
    seen = watcher.poll(state)
    return [] if isinstance(seen, pc.Skip) else [Path(str(fire.context["path"])).name for fire in seen]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.mkdir()
    return path


def test_each_file_fires_once_and_again_when_it_has_changed(folder: Path, state: pc.Cursor) -> None:
    watcher = FileWatcher(str(folder), "*.csv")
    a = write(folder / "a.csv")
    write(folder / "b.txt")
    assert fired(watcher, state) == ["a.csv"]
    assert fired(watcher, state) == []
    assert fired(FileWatcher(str(folder), "*.csv"), state) == []
    a.write_text("longer")
    assert fired(watcher, old(a) and state) == ["a.csv"]
    old(a, 5 * MINUTE)
    assert fired(watcher, state) == ["a.csv"]
    assert fired(watcher, state) == []


def test_a_file_that_is_moved_counts_where_it_is_now(folder: Path, tmp_path: Path, state: pc.Cursor) -> None:
    watcher = FileWatcher(str(folder))
    outside = write(tmp_path / "x.csv")
    assert fired(watcher, state) == []
    inside = outside.rename(folder / "x.csv")
    assert fired(watcher, state) == ["x.csv"]
    renamed = inside.rename(folder / "y.csv")
    assert fired(watcher, state) == ["y.csv"]
    renamed.rename(outside)
    assert fired(watcher, state) == []
    outside.rename(renamed)
    assert fired(watcher, state) == ["y.csv"]


def test_the_context_is_the_path_and_more_where_it_is_wanted(folder: Path, state: pc.Cursor) -> None:
    path = write(folder / "a.csv", "12345")
    moment = 1_700_000_000_123_456_000
    os.utime(path, ns=(moment, moment))
    (plain,) = FileWatcher(str(folder)).poll(pc.Cursor())  # type: ignore[misc]
    assert plain.context == {"path": str(path)}
    about = path.stat()
    assert plain.key == f"{path}:{about.st_ino}:{moment}:5"
    (detailed,) = FileWatcher(str(folder), details=True).poll(state)  # type: ignore[misc]
    assert detailed.context == {
        "path": str(path), "name": "a.csv", "size": 5, "modified": "2023-11-14T22:13:20.123456Z",
    }  # fmt: skip


def test_a_relative_folder_gives_whole_paths(folder: Path, state: pc.Cursor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    path = write(folder / "a.csv")
    (fire,) = FileWatcher("in").poll(state)  # type: ignore[misc]
    assert fire.context == {"path": str(path)}


@pytest.mark.parametrize(
    "name", [".a.csv", "~$a.csv", "a.csv~", "a.csv.tmp", "a.csv.PART", "a.crdownload", ".cache/a.csv", "folder/"]
)
def test_hidden_and_temporary_files_are_left_out(folder: Path, state: pc.Cursor, name: str) -> None:
    if name.endswith("/"):
        (folder / name).mkdir()
    else:
        write(folder / name)
    write(folder / "sub" / "seen.csv")
    (folder / "broken").symlink_to(folder / "nowhere")
    assert fired(FileWatcher(str(folder), "**/*"), state) == ["seen.csv"]


def test_subfolders_are_searched_only_where_the_pattern_says_so(folder: Path, state: pc.Cursor) -> None:
    write(folder / "sub" / "a.csv")
    assert fired(FileWatcher(str(folder), "*.csv"), state) == []
    assert fired(FileWatcher(str(folder), "**/*.csv"), state) == ["a.csv"]


class Hands:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.microseconds = time.time_ns() // 1000

    def now(self) -> int:
        return self.microseconds

    def pass_(self, seconds: float) -> None:
        self.microseconds += round(seconds * 1_000_000)


@pytest.mark.parametrize("ahead", [0.0, 3600.0])
def test_a_file_that_is_being_written_waits(folder: Path, state: pc.Cursor, ahead: float) -> None:
    """Also on a file server whose clock is an hour ahead."""
    clock = Hands()
    watcher = FileWatcher(str(folder), settle=2.0)
    watcher.clock = clock  # type: ignore[misc]
    path = write(folder / "a.csv")

    def written(text: str) -> None:
        path.write_text(text)
        moment = clock.now() * 1000 + round(ahead * 1e9)
        os.utime(path, ns=(moment, moment))

    written("1")
    assert fired(watcher, state) == []
    assert watcher.poll(state) == pc.Skip("1 still being written")
    clock.pass_(1.9)
    assert fired(watcher, state) == []
    written("12")
    clock.pass_(1.9)
    assert fired(watcher, state) == []
    clock.pass_(2.0)
    assert fired(watcher, state) == ["a.csv"]


def test_the_oldest_come_first_and_not_too_many_at_once(folder: Path, state: pc.Cursor) -> None:
    for number in range(AT_ONCE + 3):
        old(write(folder / f"{number:04}"), 10_000 - number)
    watcher = FileWatcher(str(folder))
    first = fired(watcher, state)
    assert first == [f"{number:04}" for number in range(AT_ONCE)]
    assert fired(watcher, state) == ["1000", "1001", "1002"]
    assert fired(watcher, state) == []


def test_the_cursor_holds_what_is_there_and_no_more(
    folder: Path, state: pc.Cursor, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write(folder / f"{number}") for number in range(5)]
    watcher = FileWatcher(str(folder))
    assert len(fired(watcher, state)) == 5 == len(state.value)
    for path in paths[1:]:
        path.unlink()
    assert fired(watcher, state) == []
    assert len(state.value) == 1
    monkeypatch.setitem(FileWatcher.poll.__globals__, "MOST_FILES", 2)
    for number in range(2):
        write(folder / f"more-{number}")
    before = list(state.value)
    with pytest.raises(pc.PollError, match="more than 2 files match"):
        watcher.poll(state)
    assert state.value == before


def test_a_missing_folder_is_an_error_that_forgets_nothing(folder: Path, state: pc.Cursor) -> None:
    write(folder / "a.csv")
    watcher = FileWatcher(str(folder))
    assert fired(watcher, state) == ["a.csv"]
    away = folder.rename(folder.with_name("away"))
    with pytest.raises(pc.PollError, match=r"the folder /.*/in is missing; make it") as caught:
        watcher.poll(state)
    assert not caught.value.permanent
    folder.touch()
    with pytest.raises(pc.PollError, match="Not a directory"):
        watcher.poll(state)
    folder.unlink()
    away.rename(folder)
    assert fired(watcher, state) == []


def test_a_name_that_is_no_text_stops_no_other(folder: Path, state: pc.Cursor) -> None:
    write(folder / os.fsdecode(b"\xff.csv"))
    write(folder / "a.csv")
    assert fired(FileWatcher(str(folder)), state) == ["a.csv"]


def test_the_function_declares_an_event(folder: Path) -> None:
    @pc.flow
    def load(path: str) -> None:
        """Load."""

    event = pc.events.files(folder, "*.csv", flow=load, settle="500ms", every="3s", max_errors=None)
    assert (event.name, event.flows, event.every, event.max_errors) == ("load-files", ["load"], 3.0, None)
    assert event.parameters == {"folder": str(folder), "pattern": "*.csv", "settle": 0.5, "details": False}
    assert pc.events.files("in").name == "files"
    assert pc.events.files("in", flow=load, name="inbox").name == "inbox"
    assert module_function is pc.events.files


@pytest.mark.parametrize("pattern", ["", "/etc/*", "../*", "a/../../b", "a**/b"])
def test_a_pattern_that_leaves_the_folder_is_refused(pattern: str) -> None:
    with pytest.raises(DefinitionError, match="is none within the folder"):
        pc.events.files("in", pattern, flow="load")


def test_what_is_no_json_is_refused() -> None:
    wrong: Any = object()
    with pytest.raises(DefinitionError, match="parameters must be JSON"):
        pc.events.files("in", flow="load", details=wrong)
