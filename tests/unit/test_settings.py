"""Settings: arguments over environment over file over defaults; what makes no sense is refused by name."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from pullcord.core.errors import UsageError
from pullcord.engine.locations import CodeLocation
from pullcord.settings import Settings, default_workers, load_settings


def load(folder: Path, environment: dict[str, str] | None = None, **arguments: Any) -> Settings:
    """Load settings that know nothing of this machine's environment."""
    return load_settings(arguments, environment or {}, folder)


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    assert load(tmp_path) == Settings(Path(".pullcord"), (), "127.0.0.1", 8321, default_workers())
    assert default_workers() >= 1


def test_arguments_beat_the_environment_beats_the_file(tmp_path: Path) -> None:
    (tmp_path / "pullcord.toml").write_text('host = "file"\nport = 1\nworkers = 3\ndata_dir = "d"\nflows = ["a"]\n')
    environment = {"PULLCORD_HOST": "environment", "PULLCORD_PORT": "2", "PULLCORD_FLOWS": os.pathsep.join("xy")}
    assert load(tmp_path) == Settings(Path("d"), ("a",), "file", 1, 3)
    assert load(tmp_path, environment) == Settings(Path("d"), ("x", "y"), "environment", 2, 3)
    assert load(tmp_path, environment, host="argument", flows=("z",)) == Settings(Path("d"), ("z",), "argument", 2, 3)


def test_what_was_not_given_takes_nothings_place(tmp_path: Path) -> None:
    (tmp_path / "pullcord.toml").write_text('port = 5\nflows = "one"\n')
    settings = load(tmp_path, {"PULLCORD_PORT": ""}, port=None, flows=[], host=None)
    assert settings.port == 5
    assert settings.flows == ("one",)
    assert load(tmp_path, port=0).port == 0


def test_a_table_in_pyproject_counts_where_there_is_no_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.other]\nx = 1\n[tool.pullcord]\nport = 7\n")
    assert load(tmp_path).port == 7
    (tmp_path / "pullcord.toml").write_text("port = 8\n")
    assert load(tmp_path).port == 8


def test_a_pyproject_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert load(tmp_path).port == 8321


@pytest.mark.parametrize("name", ["pullcord.toml", "pyproject.toml"])
def test_an_unknown_setting_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    table = "[tool.pullcord]\n" if name == "pyproject.toml" else ""
    (tmp_path / name).write_text(f"{table}prot = 1\n")
    with pytest.raises(UsageError, match=rf"{name} has unknown settings: prot; known: .*port"):
        load(tmp_path)


@pytest.mark.parametrize("body", [b"port = ", b"port = 1\nport = 2", b"\xff", b"[tool"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "pullcord.toml").write_bytes(body)
    with pytest.raises(UsageError, match=r"pullcord\.toml cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize("port", [-1, 65536, "http", "80.5", 80.5, True, [80]])
def test_a_port_that_makes_no_sense(tmp_path: Path, port: Any) -> None:
    with pytest.raises(UsageError, match="port must be a whole number from 0 to 65535"):
        load(tmp_path, port=port)


@pytest.mark.parametrize("name", ["log_format", "log_level"])
def test_a_log_setting_that_makes_no_sense(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} must be one of auto, .*, not 'loud'"):
        load(tmp_path, {f"PULLCORD_{name.upper()}": "loud"})


def test_how_the_log_is_written(tmp_path: Path) -> None:
    (tmp_path / "pullcord.toml").write_text('log_format = "json"\nlog_level = "debug"\n')
    assert (load(tmp_path).log_format, load(tmp_path).log_level) == ("json", "debug")
    assert load(tmp_path, log_format="text").log_format == "text"


@pytest.mark.parametrize("workers", ["0", "257", "many"])
def test_workers_that_make_no_sense(tmp_path: Path, workers: str) -> None:
    with pytest.raises(UsageError, match="workers must be a whole number from 1 to 256"):
        load(tmp_path, {"PULLCORD_WORKERS": workers})


@pytest.mark.parametrize("flows", ["5", "[1]", '{a = "b"}'])
def test_flows_that_make_no_sense(tmp_path: Path, flows: str) -> None:
    (tmp_path / "pullcord.toml").write_text(f"flows = {flows}\n")
    with pytest.raises(UsageError, match="flows must be a list"):
        load(tmp_path)


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load(tmp_path, data_dir="~/data").data_dir == tmp_path / "data"


CODE = """
[[tool.pullcord.code]]
path = "etl/"
python = "etl/.venv/bin/python"

[[tool.pullcord.code]]
module = "shop.flows"
python = "python3.13"
name = "shop"
"""


def test_a_code_location_is_found_from_the_settings_files_folder(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(CODE)
    (tmp_path / "etl").mkdir()
    assert load(tmp_path, {"PULLCORD_CODE": "nothing"}, flows=("typed",)).code == (
        CodeLocation("etl", "folder", str(tmp_path / "etl"), str(tmp_path / "etl/.venv/bin/python")),
        CodeLocation("shop", "module", "shop.flows", "python3.13"),
    )
    (tmp_path / "pullcord.toml").write_text(CODE.replace("tool.pullcord.code", "code"))
    assert len(load(tmp_path).code) == 2


def test_the_interpreter_of_an_environment_is_no_resolved_link(tmp_path: Path) -> None:
    """Python finds its environment through the link that was called."""
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").symlink_to("/usr/bin/python3")
    (tmp_path / "pullcord.toml").write_text('[[code]]\npath = "a"\npython = "x/../env/bin/python"\n')
    assert load(tmp_path).code[0].python == str(tmp_path / "env/bin/python")


def test_a_location_without_an_interpreter_has_the_servers(tmp_path: Path) -> None:
    (tmp_path / "pullcord.toml").write_text('[[code]]\npath = "/flows/a.py"\nname = "mine"\n')
    assert load(tmp_path).code == (CodeLocation("mine", "file", "/flows/a.py", sys.executable),)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("code = 'etl'", "code must be tables"),
        ("code = ['etl']", "code must be tables"),
        ("[code]\npath = 'etl'", "code must be tables"),
        ("[[code]]\npath = 'etl'\npyhton = 'p'", "unknown settings: pyhton; known: module, name, path, python"),
        ("[[code]]\npath = 5", "path of a code location must be a text, not 5"),
        ("[[code]]\npath = ''", "path of a code location must be a text"),
        ("[[code]]\npath = 'a'\npython = ['p']", "python of a code location must be a text"),
        ("[[code]]\npython = 'p'", "either path = .* or module ="),
        ("[[code]]\npath = 'a'\nmodule = 'b'", "either path = .* or module ="),
        ("[[code]]\nmodule = 'flows/a.py'", "'flows/a.py' is no name of a module"),
        ("[[code]]\npath = 'a'\nname = 'a b'", "'a b' is no name of a code location"),
        ("[[code]]\npath = 'a'\n[[code]]\npath = 'x/a'", "two code locations are called 'a'; give one another name ="),
        ("[[code]]\npath = 'pullcord.toml'", "is not a Python file"),
    ],
)
def test_code_locations_that_make_no_sense(tmp_path: Path, body: str, message: str) -> None:
    (tmp_path / "pullcord.toml").write_text(body)
    with pytest.raises(UsageError, match=message):
        load(tmp_path)
