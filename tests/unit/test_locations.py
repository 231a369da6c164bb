"""Where code locations are: what a user types, what the settings say, and both for the same place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pullcord.core.errors import LocationError
from pullcord.engine.locations import CodeLocation, locate, locate_all, path_location

OTHER = "/envs/other/bin/python"


def test_a_typed_place_is_loaded_by_the_servers_own_interpreter(tmp_path: Path) -> None:
    (tmp_path / "flows.py").touch()
    for place, kind in ((tmp_path, "folder"), (tmp_path / "flows.py", "file")):
        location = locate(str(place))
        assert location == CodeLocation(place.name, kind, str(place), sys.executable)
        assert not location.foreign


def test_a_link_stays_one_so_that_a_deploy_may_point_it_elsewhere(tmp_path: Path) -> None:
    for name in ("release-1", "release-2"):
        (tmp_path / name).mkdir()
    link = tmp_path / "current"
    link.symlink_to("release-1")
    before = locate(str(link))
    link.unlink()
    link.symlink_to("release-2")
    assert locate(str(link)) == before == CodeLocation("current", "folder", str(link))


def test_a_place_of_the_settings_may_be_missing(tmp_path: Path) -> None:
    location = path_location(tmp_path / "soon", OTHER, None)
    assert location == CodeLocation("soon", "folder", str(tmp_path / "soon"), OTHER)
    assert location.foreign
    assert path_location(tmp_path / "soon.py", None, "mine") == CodeLocation(
        "mine", "file", str(tmp_path / "soon.py"), sys.executable
    )


def test_a_file_that_is_no_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for make in (
        lambda: locate(str(tmp_path / "notes.txt")),
        lambda: path_location(tmp_path / "notes.txt", None, None),
    ):
        with pytest.raises(LocationError, match=r"notes\.txt is not a Python file"):
            make()


def test_the_settings_decide_on_the_interpreter_of_a_place_that_is_typed_as_well(tmp_path: Path) -> None:
    for name in ("etl", "lab"):
        (tmp_path / name).mkdir()
    code = path_location(tmp_path / "etl", OTHER, "nightly")
    assert locate_all([str(tmp_path / "etl"), f"{tmp_path}/lab/../etl", str(tmp_path / "lab")], [code]) == [
        locate(str(tmp_path / "lab")), code,
    ]  # fmt: skip


def test_two_places_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for name in ("a/etl", "b/etl"):
        (tmp_path / name).mkdir(parents=True)
    locations = locate_all([str(tmp_path / "a/etl")], [path_location(tmp_path / "b/etl", OTHER, None)])
    assert [location.name for location in locations] == ["etl", str(tmp_path / "b/etl")]
