"""Template processes that a command starts ahead are the ones that its server takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pullcord.core.errors import LocationError
from pullcord.engine.launch import Launched, launch, launch_ahead
from pullcord.engine.locations import CodeLocation
from pullcord.store.lock import FolderLock

Launch = Callable[[Path], Launched]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Say where data lives, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows.py").write_text("")
    return Path("data")


@pytest.fixture
def launched() -> Iterator[Launch]:
    """Launch templates; they end with the test."""
    those: list[Launched] = []

    def one(folder: Path, python: str = sys.executable) -> Launched:
        those.append(launch(python, Path.cwd(), folder))
        return those[-1]

    yield one
    for each in those:
        each.socket.close()
        each.process.wait(60)


def test_what_was_started_ahead_is_taken_once(data: Path, launched: Launch) -> None:
    launch_ahead(["flows.py"], [], data)
    (data / "lib").rename(data / "gone")
    first = launched(data)
    assert not (data / "lib").exists(), "nothing was started anew"
    second = launched(data)
    assert (data / "lib").exists()
    assert first.process.pid != second.process.pid


def test_asking_again_starts_no_more(data: Path, launched: Launch) -> None:
    launch_ahead(["flows.py"], [], data)
    launch_ahead(["flows.py"], [], data)
    launched(data)
    (data / "lib").rename(data / "gone")
    launched(data)
    assert (data / "lib").exists()


def test_there_is_one_for_each_location(data: Path, launched: Launch) -> None:
    launch_ahead(["flows.py"], [CodeLocation("more", "folder", str(data.absolute()))], data)
    (data / "lib").rename(data / "gone")
    assert launched(data).process.pid != launched(data).process.pid
    assert not (data / "lib").exists()


def test_another_folder_has_its_own(data: Path, launched: Launch) -> None:
    launch_ahead(["flows.py"], [], data)
    Path("other").mkdir()
    other = launched(Path("other"))
    assert Path("other/lib").exists()
    assert launched(data).process.pid != other.process.pid


def test_the_folder_is_free_for_the_server(data: Path, launched: Launch) -> None:
    launch_ahead(["flows.py"], [], data)
    FolderLock(data).release()
    launched(data)


def test_what_is_in_the_way_is_left_for_the_server_to_tell(data: Path, launched: Launch) -> None:
    missing = CodeLocation("bad", "folder", str(data.absolute()), "/no/python")
    launch_ahead(["flows.py"], [missing], data)
    launched(data)
    with pytest.raises(LocationError, match="there is no interpreter /no/python"):
        launch("/no/python", Path.cwd(), data)


def test_a_folder_that_somebody_holds_is_left_alone(data: Path) -> None:
    data.mkdir()
    lock = FolderLock(data)
    launch_ahead(["flows.py"], [], data)
    assert [path.name for path in data.iterdir()] == ["lock"]
    lock.release()


def test_flows_that_are_not_there_are_left_for_the_server_to_tell(data: Path) -> None:
    launch_ahead(["nowhere.py"], [], data)
    assert not data.exists()
