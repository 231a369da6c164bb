"""A location's interpreter: it finds the package, and nothing else of the server's installation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zoneinfo
from pathlib import Path
from typing import Any

import pytest

import pullcord
from pullcord.engine.environment import command, expose_package, variables
from tests.environments import OLDEST, PYDANTIC, Environment

PACKAGE = Path(str(pullcord.__path__[0]))
ROOT = Path(__file__).parents[2]
LENT = {"pullcord", "cronsim"} if any(map(os.path.isdir, zoneinfo.TZPATH)) else {"pullcord", "cronsim", "tzdata"}


@pytest.fixture(scope="module")
def lean(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Give an environment with pydantic alone."""
    return Environment(tmp_path_factory.mktemp("lean") / "env")


def asked(line: list[str], cwd: Path, environment: dict[str, str] | None = None) -> Any:
    """Run a command that prints JSON."""
    done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nothing_but_the_package_and_what_it_needs_is_exposed(tmp_path: Path) -> None:
    exposed = expose_package(tmp_path)
    assert {entry.name for entry in exposed.iterdir()} == LENT
    assert (exposed / "pullcord").resolve() == PACKAGE.resolve()


def test_a_system_without_a_zone_database_lends_its_package(tmp_path: Path, lean: Environment) -> None:
    everywhere = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([])
    try:
        exposed = expose_package(tmp_path)
    finally:
        zoneinfo.reset_tzpath(everywhere)
    assert {entry.name for entry in exposed.iterdir()} == {"pullcord", "cronsim", "tzdata"}
    ask = """
import json, zoneinfo
zoneinfo.reset_tzpath([])
import pullcord as pc
print(json.dumps(pc.cron("30 2 * * *", tz="Europe/Berlin").settings()["tz"]))
"""
    line = command(str(lean.python), exposed, ask)
    assert asked(line, tmp_path, variables(str(lean.python))) == "Europe/Berlin"


def test_another_installation_takes_the_place_of_the_last_one(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "pullcord").symlink_to("/gone")
    (tmp_path / "lib" / "pullcord.new").symlink_to("/left/by/a/crash")
    exposed = expose_package(tmp_path)
    assert (exposed / "pullcord").resolve() == PACKAGE.resolve()
    assert expose_package(tmp_path) == exposed
    assert {entry.name for entry in exposed.iterdir()} == LENT


def test_what_is_installed_beside_the_package_stays_hidden(tmp_path: Path, lean: Environment) -> None:
    """A server that was installed has its other packages in the same folder; none of them may reach a worker."""
    installed = tmp_path / "site-packages"
    shutil.copytree(PACKAGE, installed / "pullcord", ignore=shutil.ignore_patterns("__pycache__"))
    (installed / "clashing.py").write_text("VERSION = 'of the server'\n")
    script = f"""
import subprocess, sys
sys.path.insert(0, {str(installed)!r})
from pathlib import Path
import clashing, pullcord
from pullcord.engine.environment import command, expose_package, variables
assert pullcord.__file__.startswith({str(installed)!r})
ask = '''
import json, pullcord.core.flow
try:
    import clashing
except ImportError as error:
    print(json.dumps([pullcord.__file__, str(error), sys.path]))
'''
line = command(sys.argv[1], expose_package(Path(sys.argv[2])), ask)
sys.exit(subprocess.run(line, env=variables(sys.argv[1])).returncode)
"""
    home, error, path = asked([sys.executable, "-c", script, str(lean.python), str(tmp_path)], tmp_path)
    assert Path(home).resolve() == installed / "pullcord" / "__init__.py"
    assert error == "No module named 'clashing'"
    assert str(installed) not in path


def test_a_worker_needs_pydantic_cronsim_and_the_standard_library(tmp_path: Path, lean: Environment) -> None:
    everything = """
import importlib, json, pkgutil, pullcord.core, pullcord.wire, pullcord.worker
names = [
    module.name
    for package in (pullcord.core, pullcord.wire, pullcord.worker)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
]
for name in names:
    importlib.import_module(name)
pullcord.cron("@daily")
homes = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names
print(json.dumps([names, sorted(home for home in homes if not home.startswith("_"))]))
"""
    line = command(str(lean.python), expose_package(tmp_path), everything)
    names, homes = asked(line, tmp_path, variables(str(lean.python)))
    assert "pullcord.worker.main" in names
    assert "pullcord.core.timetable.kinds" in names
    assert set(homes) <= {"pullcord", "cronsim", *PYDANTIC}


def test_the_folder_that_it_starts_in_hides_no_module(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('not me')\n")
    (tmp_path / "pullcord.py").write_text("raise RuntimeError('nor me')\n")
    exposed = expose_package(tmp_path / "..")
    assert asked(command(sys.executable, exposed, "import json, pullcord; print(json.dumps(1))"), tmp_path) == 1


def test_the_programs_of_an_environment_go_before_the_servers(lean: Environment) -> None:
    own = variables(sys.executable)
    assert (own["PATH"], own.get("VIRTUAL_ENV")) == (os.environ["PATH"], os.environ.get("VIRTUAL_ENV"))
    other = variables(str(lean.python))
    assert other["PATH"] == f"{lean.folder}/bin{os.pathsep}{os.environ['PATH']}"
    assert other["VIRTUAL_ENV"] == str(lean.folder)


@pytest.mark.skipif(not OLDEST.exists(), reason="`make test` makes the environment with the oldest pydantic")
def test_the_oldest_pydantic_passes_the_tests_of_what_uses_it(tmp_path: Path) -> None:
    modules = ("inputs", "results", "location", "decorators", "failures", "identity")
    tests = [str(ROOT / "tests" / "unit" / f"test_{name}.py") for name in modules]
    beside = str(Path(pytest.__file__).parents[1])
    script = (
        f"import sys; sys.path.append({beside!r}); import pydantic, pytest; print(pydantic.__file__); "
        f"sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', *{tests!r}]))"
    )
    line = [str(OLDEST / "bin" / "python"), "-c", script]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith(str(OLDEST)), "it was tested with another pydantic"


def test_the_servers_database_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULLCORD_DATABASE_URL", "postgresql://u:secret@h/p")
    monkeypatch.setenv("PULLCORD_API_KEY", "a flow may call a server")
    given = variables(sys.executable)
    assert "PULLCORD_DATABASE_URL" not in given
    assert given["PULLCORD_API_KEY"] == "a flow may call a server"
