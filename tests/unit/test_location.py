"""Loading a code location: files, folders, packages and modules; what is broken is named and stops nothing else."""

from __future__ import annotations

import importlib
import importlib.util
import marshal
import os
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from pydantic_core import to_json

from pullcord.worker.location import Location, load
from pullcord.worker.sources import ExactLoader

FLOW = """
import pullcord as pc

@pc.flow
def {name}(x: int = 1) -> int:
    "Adds nothing."
    return x
"""


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Leave no imported module and no path entry behind."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = dict(sys.modules)
    importlib.invalidate_caches()
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]
    sys.modules.update(before)


def write(path: Path, text: str = "") -> Path:
    """Write a file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text), encoding="utf-8")
    return path


def flow_file(path: Path, name: str) -> Path:
    """Write a file with one flow."""
    return write(path, FLOW.format(name=name))


def places(location: Location) -> list[str]:
    """Return where the failures are."""
    return [failure["place"] for failure in location.failures]


def test_a_file(tmp_path: Path) -> None:
    path = flow_file(tmp_path / "etl.py", "load_all")
    location = load("file", str(path))
    assert location.failures == []
    (spec,) = location.specs
    assert spec["name"] == "load-all"
    assert spec["place"] == f"{path}:4"
    assert spec["description"] == "Adds nothing."
    assert spec["input_schema"]["properties"]["x"]["default"] == 1
    assert spec["settings"]["concurrency"]["limit"] == 1
    assert spec["is_async"] is False
    assert location.flows["load-all"](5) == 5


def test_the_version_follows_the_source(tmp_path: Path) -> None:
    one = load("file", str(flow_file(tmp_path / "a" / "one.py", "f"))).specs[0]["version"]
    same = load("file", str(flow_file(tmp_path / "b" / "two.py", "f"))).specs[0]["version"]
    other = load("file", str(flow_file(tmp_path / "c" / "three.py", "g"))).specs[0]["version"]
    assert one == same != other
    assert len(one) == 12


def test_a_file_may_import_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "helper.py", "SIZE = 3\n")
    path = write(
        tmp_path / "main.py", "import pullcord as pc\nfrom helper import SIZE\n\n@pc.flow\ndef f(): return SIZE\n"
    )
    location = load("file", str(path))
    assert location.failures == []
    assert location.flows["f"]() == 3


@pytest.mark.parametrize("kind", ["file", "folder", "module"])
@pytest.mark.parametrize("changed", ["main.py", "parts/deep.py"])
def test_code_that_python_takes_for_unchanged_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, changed: str
) -> None:
    main = "import pullcord as pc\nfrom parts.deep import SIZE\n\n@pc.flow\ndef f(): return 1, SIZE\n"
    texts = {"main.py": main, "parts/__init__.py": "", "parts/deep.py": "SIZE = 1\n"}
    for name, text in texts.items():
        path = write(tmp_path / name, text)
        py_compile.compile(str(path), doraise=True)
        if name == changed:  # as long as before, and changed in the same second
            at = path.stat().st_mtime
            path.write_text(text.replace("1", "2"), encoding="utf-8")
            os.utime(path, (at, at))
    monkeypatch.chdir(tmp_path)
    location = load(kind, {"file": "main.py", "folder": ".", "module": "main"}[kind])
    assert location.failures == []
    assert location.flows["f"]() == ((2, 1) if changed == "main.py" else (1, 2))


def bytecode(path: Path) -> Path:
    """Return where Python keeps what it has compiled of a file."""
    return Path(importlib.util.cache_from_source(str(path)))


def test_code_is_compiled_once_and_python_can_use_that_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = flow_file(tmp_path / "a" / "etl.py", "f")
    assert set(load("file", str(path)).flows) == {"f"}
    kept = bytecode(path)
    by_us = kept.read_bytes()
    py_compile.compile(str(path), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    assert kept.read_bytes()[:16] == by_us[:16], "the head is as PEP 552 says"
    del sys.modules["etl"]
    with monkeypatch.context() as patched:
        patched.setattr(ExactLoader, "source_to_code", lambda *_: pytest.fail("it is compiled again"))
        assert set(load("file", str(path)).flows) == {"f"}


@pytest.mark.parametrize("damage", ["cut", "no code", "of another place", "not to be read"])
def test_bytecode_that_cannot_be_used_is_left_alone(tmp_path: Path, damage: str) -> None:
    path = flow_file(tmp_path / "etl.py", "f")
    kept = bytecode(path)
    py_compile.compile(str(path), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    head, whole = kept.read_bytes()[:16], kept.read_bytes()
    if damage == "cut":
        kept.write_bytes(whole[:-20])
    elif damage == "no code":
        kept.write_bytes(head + marshal.dumps(7))
    elif damage == "of another place":
        kept.write_bytes(head + marshal.dumps(compile("flow = None", "/elsewhere.py", "exec")))
    else:
        kept.unlink()
        kept.mkdir()
    location = load("file", str(path))
    assert (location.failures, location.specs[0]["place"]) == ([], f"{path}:4")


def test_a_file_called_like_an_installed_module_is_the_users_file(tmp_path: Path) -> None:
    sys.modules.pop("wave", None)
    assert set(load("file", str(flow_file(tmp_path / "wave.py", "mine"))).flows) == {"mine"}


def test_a_file_called_like_a_module_that_others_use_is_refused_with_advice(tmp_path: Path) -> None:
    installed = importlib.import_module("wave")
    path = flow_file(tmp_path / "wave.py", "mine")
    flow_file(tmp_path / "good.py", "good")
    location = load("folder", str(tmp_path))
    assert set(location.flows) == {"good"}
    assert location.failures[0]["place"].startswith(str(path))
    assert "rename the file" in location.failures[0]["message"]
    assert sys.modules["wave"] is installed


@pytest.mark.parametrize("name", ["my-flows.py", "2026.py", "flows.v2.py", "mañana.py"])
def test_a_file_may_be_called_anything(tmp_path: Path, name: str) -> None:
    location = load("file", str(flow_file(tmp_path / name, "f")))
    assert location.failures == []
    assert set(location.flows) == {"f"}


def test_a_folder_with_its_sub_folders(tmp_path: Path) -> None:
    flow_file(tmp_path / "a.py", "a")
    flow_file(tmp_path / "deep" / "er" / "b.py", "b")
    flow_file(tmp_path / "package" / "c.py", "c")
    write(tmp_path / "package" / "__init__.py")
    for skipped in (".hidden", "__pycache__", "node_modules", ".venv", "venv"):
        flow_file(tmp_path / skipped / "x.py", "skipped")
    location = load("folder", str(tmp_path))
    assert location.failures == []
    assert set(location.flows) == {"a", "b", "c"}


def test_a_package_whose_modules_import_each_other(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    write(package / "__init__.py", "from .orders import ship\n")
    write(
        package / "orders.py", "import pullcord as pc\nfrom .common import RATE\n\n@pc.flow\ndef ship(): return RATE\n"
    )
    write(package / "common.py", "RATE = 7\n")
    location = load("folder", str(package))
    assert location.failures == []
    assert list(location.flows) == ["ship"], "once, although two modules have it"
    assert location.flows["ship"]() == 7


def test_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow_file(tmp_path / "job_module.py", "job")
    monkeypatch.chdir(tmp_path)
    assert set(load("module", "job_module").flows) == {"job"}


def test_a_module_that_is_not_there_is_named() -> None:
    location = load("module", "no_such_module_anywhere")
    assert places(location) == ["no_such_module_anywhere"]
    assert "ModuleNotFoundError" in location.failures[0]["message"]


BROKEN = {
    "syntax.py": ("x = 1\ndef f(:\n    pass\n", 2, "SyntaxError"),
    "raises.py": ("import pullcord as pc\n\n1 / 0\n", 3, "ZeroDivisionError"),
    "exits.py": ("import sys\nsys.exit(3)\n", 2, "SystemExit"),
    "missing.py": ("\n\n\nimport not_installed_at_all\n", 4, "ModuleNotFoundError"),
    "below.py": ("def f():\n    raise OSError('deep')\n\nf()\n", 2, "OSError: deep"),
    "definition.py": (
        "import pullcord as pc\n\n@pc.flow(concurrency=0)\ndef f(): pass\n", 3, "concurrency must be a whole number",
    ),
    "arguments.py": ("import pullcord as pc\n\n@pc.flow\ndef f(*rows): pass\n", 3, "takes *rows"),
    "pattern.py": (
        "import pullcord as pc\nfrom typing import Annotated\nfrom pydantic import Field\n\n@pc.flow\n"
        "def f(x: Annotated[str, Field(pattern='(')]): pass\n", 5, "unclosed group",
    ),
    "annotation.py": ("import pullcord as pc\n\n@pc.flow\ndef f(x: 'pc.Nothing'): pass\n", 3, "Nothing"),
    "type.py": (
        "import pullcord as pc\n\nclass T:\n    @classmethod\n    def __get_pydantic_core_schema__(cls, *_):\n"
        "        raise RuntimeError('no schema')\n\n@pc.flow\ndef f(x: T): pass\n", 8, "no schema",
    ),
    "return_type.py": ("import pullcord as pc\n\n@pc.flow\ndef f() -> 'pc.Nothing': pass\n", 3, "Nothing"),
    "result.py": ("import pullcord as pc\nclass T: pass\n@pc.flow\ndef f() -> T: pass\n", 3, "return annotation"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_its_line_and_stops_no_other(tmp_path: Path, name: str) -> None:
    text, line, message = BROKEN[name]
    path = write(tmp_path / name, text)
    flow_file(tmp_path / "a_good.py", "before")
    flow_file(tmp_path / "z_good.py", "after")
    location = load("folder", str(tmp_path))
    assert set(location.flows) == {"before", "after"}
    assert places(location) == [f"{path}:{line}"]
    assert message in location.failures[0]["message"]


def test_the_line_is_one_of_the_file_that_is_named(tmp_path: Path) -> None:
    """A file that imports a broken neighbour fails at the line of its import."""
    helper = write(tmp_path / "lib" / "helper.py", "\n" * 8 + "def f(:\n")
    main = write(tmp_path / "main.py", "import sys\nsys.path.insert(0, 'LIB')\nimport helper\n")
    main.write_text(main.read_text().replace("LIB", str(helper.parent)))
    location = load("file", str(main))
    assert places(location) == [f"{main}:3"]
    assert f'"{helper}", line 9' in location.failures[0]["traceback"]


REFUSED_SECRET = """
import pullcord as pc

HOOK = pc.webhook("orders", secret="whsec_MfKQ9r8GKYqrTwjU")
"""
REFUSED_AND_RAISED_ANEW = """
import pullcord as pc

try:
    HOOK = pc.webhook("orders", secret="whsec_MfKQ9r8GKYqrTwjU")
except pc.PullcordError as error:
    raise RuntimeError("no hook") from error
"""


@pytest.mark.parametrize("source", [REFUSED_SECRET, REFUSED_AND_RAISED_ANEW])
def test_a_secret_that_is_refused_in_code_gets_into_no_log(tmp_path: Path, source: str) -> None:
    path = tmp_path / "hooks.py"
    path.write_text(source, encoding="utf-8")
    (failure,) = load("file", str(path)).failures
    assert "is not the secret itself" in failure["traceback"]
    assert f'File "{path}", line ' in failure["traceback"]
    assert "MfKQ9r8GKYqrTwjU" not in str(failure)


def test_the_traceback_shows_the_users_frames_only(tmp_path: Path) -> None:
    path = write(tmp_path / "raises.py", "def inner():\n    1 / 0\n\ninner()\n")
    traceback = load("file", str(path)).failures[0]["traceback"]
    assert traceback.count('File "') == 2
    assert "inner()" in traceback
    assert traceback.rstrip().endswith("ZeroDivisionError: division by zero")


def test_a_broken_file_can_be_mended(tmp_path: Path) -> None:
    path = write(tmp_path / "mended.py", "1 / 0\n")
    assert load("file", str(path)).failures
    flow_file(path, "works")
    assert set(load("file", str(path)).flows) == {"works"}


def test_two_flows_of_one_name_are_reported_with_both_places(tmp_path: Path) -> None:
    first = flow_file(tmp_path / "a.py", "twin")
    second = flow_file(tmp_path / "b.py", "twin")
    location = load("folder", str(tmp_path))
    assert [spec["place"] for spec in location.specs] == [f"{first}:4"]
    (failure,) = location.failures
    assert failure["place"] == f"{second}:4"
    assert f"{first}:4 and {second}:4" in failure["message"]
    assert "'twin'" in failure["message"]


def test_a_flow_that_is_imported_elsewhere_is_no_twin(tmp_path: Path) -> None:
    path = flow_file(tmp_path / "a.py", "once")
    path.write_text(path.read_text() + "\nalias = once\n")
    write(tmp_path / "b.py", "from a import once\nagain = once\n")
    location = load("folder", str(tmp_path))
    assert location.failures == []
    assert list(location.flows) == ["once"]


def test_what_the_server_could_not_read_costs_one_flow_and_not_the_location(tmp_path: Path) -> None:
    text = """
        from typing import Annotated
        from pydantic import Field
        import pullcord as pc

        deep = []
        for _ in range(220):
            deep = [deep]

        @pc.flow
        def good() -> None:
            "Words \\ud800"

        @pc.flow
        def deeply(x: Annotated[int, Field(json_schema_extra={"x": deep})]) -> None: ...

        @pc.flow
        def described(x: Annotated[int, Field(description="\\ud800")]) -> None: ...

        @pc.flow(version="\\ud800")
        def versioned() -> None: ...
        """
    location = load("file", str(write(tmp_path / "saying.py", text)), triggers=True)
    assert [(spec["name"], spec["description"]) for spec in location.specs] == [("good", "Words ?")]
    assert list(location.flows) == ["good"]
    refused = [failure["message"] for failure in location.failures]
    assert [name for name in ("deeply", "described", "versioned") if any(repr(name) in text for text in refused)] == [
        "deeply", "described", "versioned",
    ]  # fmt: skip
    to_json(location.specs)


def test_the_error_of_a_file_is_shown_whatever_it_says(tmp_path: Path) -> None:
    location = load("file", str(write(tmp_path / "loud.py", "raise ValueError('a\\ud800')")))
    assert [failure["message"] for failure in location.failures] == ["ValueError: a?"]
    to_json(location.failures)
