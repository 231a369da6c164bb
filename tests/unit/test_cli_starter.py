"""`pullcord init` writes a project that works, and never over a file; `pullcord doctor` finds what is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pullcord.cli.checks import examine
from pullcord.cli.database import lock_holder
from pullcord.cli.main import app
from pullcord.settings import load_settings
from pullcord.store.lock import FolderLock
from pullcord.worker.location import load

runner = CliRunner()


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("PULLCORD_"):
            monkeypatch.delenv(name)


def test_a_project_is_written_and_loads(tmp_path: Path) -> None:
    done = runner.invoke(app, ["init", "project"])
    assert done.exit_code == 0, done.output
    assert load_settings({}, {}, tmp_path / "project").flows == ("flows",)
    location = load("file", str(tmp_path / "project" / "flows" / "folder_report.py"))
    assert not location.failures
    assert list(location.flows) == ["folder-report"]


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    done = runner.invoke(app, ["init", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["kept"] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"
    again = runner.invoke(app, ["init", "--json"])
    assert json.loads(again.stdout)["written"] == []


def test_the_data_folder_goes_into_the_settings(tmp_path: Path) -> None:
    runner.invoke(app, ["init", "--data-dir", "else where"])
    assert load_settings({}, {}, tmp_path).data_dir == Path("else where")


def states(data_dir: Path) -> dict[str, str]:
    return {finding.name: finding.state for finding in examine(data_dir)}


def test_a_new_folder_is_well(tmp_path: Path) -> None:
    found = states(tmp_path / "data")
    assert "wrong" not in found.values()
    assert found["flows"] == "note"


def test_broken_flows_and_readable_tokens_are_found(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text("import nonesuch_module\n")
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "token").write_text("secret\n")
    (data / "token").chmod(0o644)
    found = states(data)
    assert (found["flows"], found["token"], found["data folder"]) == ("wrong", "wrong", "ok")
    done = runner.invoke(app, ["doctor", "--json", "--data-dir", str(data)])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["healthy"] is False


def test_a_damaged_database_is_found(tmp_path: Path) -> None:
    (tmp_path / "pullcord.db").write_text("this is no database")
    assert states(tmp_path)["database"] == "wrong"


def test_the_holder_of_the_lock_is_named(tmp_path: Path) -> None:
    assert lock_holder(tmp_path) is None
    lock = FolderLock(tmp_path)
    try:
        assert lock_holder(tmp_path) == str(os.getpid())
    finally:
        lock.release()
    assert lock_holder(tmp_path) is None
