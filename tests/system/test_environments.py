"""Code locations with interpreters of their own: real virtual environments under one server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.environments import OLDEST, Environment, wheel
from tests.system.harness import STEADY, Server, Start
from tests.system.processes import await_end, kill, poll
from tests.system.witnessed import executions, lines_of

FLOW = """
import sys
import ledgerlib
import pullcord as pc

@pc.flow
def {name}() -> dict[str, str]:
    try:
        import fastapi
    except ImportError as error:
        others = str(error)
    return {{"ledgerlib": ledgerlib.VERSION, "python": sys.executable, "others": others}}
"""
CODE = """
[[code]]
path = "{path}"
python = "{python}"
"""


def locations(tmp_path: Path, *places: tuple[str, Path | str]) -> None:
    """Write a settings file with code locations, `(path, python)`."""
    text = "".join(CODE.format(path=path, python=python) for path, python in places)
    (tmp_path / "pullcord.toml").write_text(text)


def project(tmp_path: Path, name: str, code: str = FLOW) -> Path:
    """Write a folder with a flow."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "main.py").write_text(dedent(code.format(name=name)))
    return tmp_path / name


@pytest.fixture(scope="module")
def lean(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Give an environment with pydantic alone."""
    return Environment(tmp_path_factory.mktemp("lean") / "env")


def failures(server: Server) -> dict[str, str]:
    """Return by location why it could not be loaded."""
    return {failure["location"]: failure["message"] for failure in server.api.get("/readyz").body["failures"]}


def test_two_locations_with_clashing_dependencies_under_one_server(serve: Start, tmp_path: Path) -> None:
    environments = {}
    for name, version in (("shop", "1.0"), ("lab", "2.0")):
        project(tmp_path, name)
        environments[name] = Environment(tmp_path / name / ".venv")
        environments[name].install(wheel(tmp_path, "ledgerlib", version, f"VERSION = {version!r}\n"))
    locations(tmp_path, ("shop/", "shop/.venv/bin/python"), ("lab", environments["lab"].python))
    server = serve(STEADY, workers=1)
    assert server.api.get("/readyz").body["locations"] == {"steady.py": "ready", "shop": "ready", "lab": "ready"}
    for name, version in (("shop", "1.0"), ("lab", "2.0")):
        ended = server.api.result(name)
        assert ended["result"] == {
            "ledgerlib": version, "python": str(environments[name].python), "others": "No module named 'fastapi'",
        }  # fmt: skip
    assert server.stop() == 0
    assert not (tmp_path / "data" / "server.json").exists()


def test_a_location_without_an_interpreter_stops_no_other_and_comes_back_by_itself(
    serve: Start, tmp_path: Path, log: Path
) -> None:
    project(tmp_path, "shop")
    locations(tmp_path, ("shop/", "shop/.venv/bin/python"))
    server = serve(STEADY, workers=1, constants={"pullcord.engine.fleet": {"LONGEST_PAUSE": 1.0}})
    assert server.api.result("chain", {"log": str(log)})["state"] == "succeeded"
    python = tmp_path / "shop" / ".venv" / "bin" / "python"
    assert failures(server)["shop"] == (
        f"there is no interpreter {python}; make the environment, or correct python = in the settings"
    )
    assert server.api.ask("shop").body["code"] == "unknown_flow"

    environment = Environment(tmp_path / "made" / ".venv")
    environment.install(wheel(tmp_path, "ledgerlib", "3.0", "VERSION = '3.0'\n"))
    shutil.move(tmp_path / "made" / ".venv", tmp_path / "shop" / ".venv")
    poll(lambda: not failures(server))
    assert server.api.result("shop")["result"]["ledgerlib"] == "3.0"
    assert server.says.count("there is no interpreter") == server.says.count(str(python)) <= 2


def test_an_environment_is_loaded_again_when_something_was_installed(
    serve: Start, tmp_path: Path, lean: Environment
) -> None:
    environment = Environment(project(tmp_path, "shop") / ".venv")
    locations(tmp_path, ("shop", environment.python))
    server = serve(STEADY, workers=1)
    assert "No module named 'ledgerlib'" in failures(server)["shop"]
    templates = server.templates
    for version in ("1.0", "1.1"):
        environment.install(wheel(tmp_path, "ledgerlib", version, f"VERSION = {version!r}\n"))
        os.kill(server.pid, signal.SIGHUP)
        poll(lambda: not failures(server))
        poll(lambda version=version: server.api.result("shop")["result"]["ledgerlib"] == version)
    await_end(set(templates) - set(server.templates))
    poll(lambda: len(server.templates) == 2)
    assert len(set(templates) & set(server.templates)) == 1, "the server's own environment has not changed"


def test_an_interpreter_that_goes_away_is_named_to_who_asks(serve: Start, tmp_path: Path) -> None:
    environment = Environment(project(tmp_path, "shop") / ".venv")
    environment.install(wheel(tmp_path, "ledgerlib", "1.0", "VERSION = '1.0'\n"))
    (tmp_path / "pullcord.toml").write_text(CODE.format(path="shop", python=environment.python))
    soon = {"pullcord.engine.fleet": {"LONGEST_PAUSE": 0.5}, "pullcord.engine.validation": {"DEADLINE": 5.0}}
    server = serve(tmp_path / "shop", workers=1, constants=soon)
    assert server.api.result("shop")["result"]["ledgerlib"] == "1.0"
    environment.python.rename(environment.python.with_name("away"))
    kill(server.templates)
    poll(lambda: failures(server))
    refused = server.api.ask("shop")
    assert (refused.status, refused.body["code"]) == (503, "location_unavailable")
    assert f"there is no interpreter {environment.python}" in refused.body["detail"]
    environment.python.with_name("away").rename(environment.python)
    poll(lambda: not failures(server))
    assert server.api.result("shop")["result"]["ledgerlib"] == "1.0"


UNFIT = [
    ("no_pydantic", "pydantic cannot be imported there (ModuleNotFoundError: No module named 'pydantic')"),
    ("old_pydantic", "it has pydantic 2.6.4; a worker needs pydantic 2.7 or newer"),
    ("broken_pydantic", "pydantic cannot be imported there (SystemError: the core does not fit)"),
    ("old_python", "it is Python 3.10; flows need Python 3.11 or newer"),
    ("no_python", "ended with status 3"),
    ("no_program", "cannot be started: Permission denied"),
    ("folder", "is a folder; name the program in it"),
]


def unfit(kind: str, folder: Path) -> Path:
    """Make something that is no interpreter for flows."""
    environment = Environment(folder / "env", pydantic=False)
    fake = {
        "old_pydantic": "VERSION = '2.6.4'\nclass BaseModel: pass\n",
        "broken_pydantic": "raise SystemError('the core does not fit')\n",
    }
    if kind in fake:
        (environment.packages / "pydantic.py").write_text(fake[kind])
    script = {
        "old_python": "import sys; sys.version_info = (3, 10, 4); code = sys.argv[2]; del sys.argv[1:3]; exec(code)",
        "no_python": "raise SystemExit(3)",
    }
    if kind in script:
        program = folder / "python"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{script[kind]}" "$@"\n')
        program.chmod(0o700)
        return program
    if kind == "no_program":
        (folder / "python").touch()
        return folder / "python"
    return environment.folder if kind == "folder" else environment.python


@pytest.mark.parametrize(("kind", "reason"), UNFIT)
def test_an_environment_that_cannot_hold_a_worker_says_why(
    kind: str, reason: str, serve: Start, tmp_path: Path, log: Path
) -> None:
    project(tmp_path, "shop")
    python = unfit(kind, tmp_path)
    locations(tmp_path, ("shop", python))
    server = serve(STEADY, workers=1)
    assert server.api.get("/readyz").body["locations"] == {"steady.py": "ready", "shop": "failed"}
    message = failures(server)["shop"]
    assert reason in message
    assert str(python) in message
    if "pydantic" in kind:
        assert f"{python} -m pip install 'pydantic>=2.7'" in message
    assert server.api.result("chain", {"log": str(log)})["state"] == "succeeded"


def test_a_module_need_not_be_importable_by_the_server(serve: Start, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "env")
    environment.install(wheel(tmp_path, "ledgerlib", "5.0", "VERSION = '5.0'\n"))
    environment.install(wheel(tmp_path, "ledgerflows", "5.0", dedent(FLOW.format(name="installed"))))
    (tmp_path / "pullcord.toml").write_text(f'[[code]]\nmodule = "ledgerflows"\npython = "{environment.python}"\n')
    server = serve(STEADY, workers=1)
    assert server.api.get("/v1/flows/installed").body["location"] == "ledgerflows"
    assert server.api.result("installed")["result"]["ledgerlib"] == "5.0"


def test_a_run_without_a_server_uses_the_interpreters_of_the_settings(tmp_path: Path) -> None:
    environment = Environment(project(tmp_path, "shop") / ".venv")
    environment.install(wheel(tmp_path, "ledgerlib", "7.0", "VERSION = '7.0'\n"))
    locations(tmp_path, ("shop", environment.python))
    run = pullcord("run", "shop", "--wait", "--json", cwd=tmp_path)
    assert run["result"]["ledgerlib"] == "7.0"
    found = {finding["text"]: finding["state"] for finding in pullcord("doctor", "--json", cwd=tmp_path)["findings"]}
    assert found["shop: 1 flow"] == "ok"


@pytest.mark.skipif(not OLDEST.exists(), reason="`make test` makes the environment with the oldest pydantic")
def test_a_worker_does_its_work_with_the_oldest_pydantic(serve: Start, tmp_path: Path, log: Path) -> None:
    (tmp_path / "pullcord.toml").write_text(CODE.format(path=STEADY, python=OLDEST / "bin" / "python"))
    server = serve(STEADY)
    assert server.api.get("/readyz").body["locations"] == {"steady.py": "ready"}
    runs = [server.api.run(flow, {"log": str(log), "steps": 3}) for flow in ("chain", "chain-async", "family")]
    killed = server.api.run("chain", {"log": str(log), "steps": 3, "pause": 0.3})
    server.api.step(killed, "work")
    server.kill()
    server.start()
    for run in [*runs, killed]:
        assert server.api.end(run)["state"] == "succeeded"
    assert set(executions(lines_of(log))[killed]) == {0, 1, 2}
    refused = server.api.ask("chain", {"log": str(log), "steps": "many"})
    assert (refused.status, refused.body["errors"][0]["type"]) == (422, "int_parsing")


def pullcord(*arguments: str, cwd: Path) -> dict[str, object]:
    """Run a command with a person's folder; return the JSON that it prints."""
    import subprocess

    environment = {key: value for key, value in os.environ.items() if not key.startswith("PULLCORD_")}
    line = [sys.executable, "-m", "pullcord", *arguments]
    done = subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer
