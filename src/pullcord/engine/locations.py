"""Where flows come from: a module, a file or a folder, with the interpreter that loads it."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pullcord.core.errors import LocationError, UsageError

_SETTINGS = {"path", "module", "python", "name"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class CodeLocation:
    """One code location.

    Attributes:
        name: how it is called in lists and lanes.
        kind: `module`, `file` or `folder`.
        target: the module's name, or the absolute path.
        python: the interpreter: an absolute path, or a command that is looked up on `PATH`.
    """

    name: str
    kind: str
    target: str
    python: str = sys.executable

    @property
    def foreign(self) -> bool:
        """Whether another interpreter than the server's own loads it."""
        return self.python != sys.executable


def locate(text: str) -> CodeLocation:
    """Make a location of what a user typed: a path that exists, or the name of a module.

    Raises:
        LocationError: it is neither.
    """
    path = _absolute(Path(text))
    if path.is_dir():
        return CodeLocation(path.name, "folder", str(path))
    if path.is_file():
        if path.suffix != ".py":
            raise LocationError(f"{text} is not a Python file; name a .py file, a folder or a module")
        return CodeLocation(path.name, "file", str(path))
    looks_like_path = "/" in text or text.endswith(".py")
    if not looks_like_path and _is_module_name(text):
        if "" not in sys.path:
            sys.path.insert(0, "")
        try:
            found = importlib.util.find_spec(text.partition(".")[0])
        except (ImportError, ValueError):
            found = None
        if found is not None:
            return CodeLocation(text, "module", text)
    raise LocationError(f"there is no file, folder or module {text!r} here; give the path to your flows")


def locate_all(texts: Iterable[str], code: Sequence[CodeLocation] = ()) -> list[CodeLocation]:
    """Make locations with names of their own.

    Args:
        texts: what the user typed.
        code: locations from the settings; one that is typed as well keeps the interpreter that it has here.

    Raises:
        LocationError: one does not exist.
    """
    known = {(location.kind, location.target) for location in code}
    typed = [location for location in map(locate, texts) if (location.kind, location.target) not in known]
    locations: list[CodeLocation] = []
    names: set[str] = set()
    for location in [*typed, *code]:
        name = location.name if location.name not in names else location.target
        if name not in names:
            names.add(name)
            locations.append(replace(location, name=name))
    return locations


def path_location(path: Path, python: str | None, name: str | None) -> CodeLocation:
    """Make a location of a path in the settings. It may be missing: that is reported when it is loaded.

    Args:
        path: a folder or a Python file, absolute.
        python: the interpreter; the server's own unless given.
        name: the file's or folder's name unless given.

    Raises:
        LocationError: it is a file, and no Python file.
    """
    path = _absolute(path)
    is_file = path.is_file() or (not path.is_dir() and path.suffix == ".py")
    if is_file and path.suffix != ".py":
        raise LocationError(f"{path} is not a Python file; name a .py file or a folder")
    kind = "file" if is_file else "folder"
    return CodeLocation(name or path.name, kind, str(path), python or sys.executable)


def read_locations(value: Any, home: Path) -> tuple[CodeLocation, ...]:
    """Make locations of what the settings file says under `code`.

    Args:
        value: the tables.
        home: the file's folder, where paths begin.

    Raises:
        UsageError: something in it makes no sense.
    """
    if not isinstance(value, list | tuple) or not all(isinstance(item, dict) for item in value):
        raise UsageError(f"code must be tables, each under a line [[code]] ([[tool.pullcord.code]]), not {value!r}")
    found: dict[str, CodeLocation] = {}
    for item in value:
        location = _read_location(item, home)
        if location.name in found:
            raise UsageError(f"two code locations are called {location.name!r}; give one another name =")
        found[location.name] = location
    return tuple(found.values())


def _read_location(item: dict[str, Any], home: Path) -> CodeLocation:
    unknown = set(item) - _SETTINGS
    if unknown:
        raise UsageError(
            f"a code location has unknown settings: {', '.join(sorted(unknown))}; known: {', '.join(sorted(_SETTINGS))}"
        )
    for key, each in item.items():
        if not isinstance(each, str) or not each:
            raise UsageError(f"{key} of a code location must be a text, not {each!r}")
    if ("path" in item) == ("module" in item):
        raise UsageError("a code location needs either path = (a file or folder) or module = (a module's name)")
    name = item.get("name")
    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name of a code location: 1 to 100 letters, digits, dots, dashes and underscores, "
            "beginning with a letter or digit"
        )
    python = None if "python" not in item else _interpreter(item["python"], home)
    if "path" in item:
        try:
            return path_location(home / Path(item["path"]).expanduser(), python, name)
        except LocationError as error:
            raise UsageError(error.message) from None
    module = item["module"]
    if not _is_module_name(module):
        raise UsageError(f"{module!r} is no name of a module; files and folders are named with path =")
    return CodeLocation(name or module, "module", module, python or sys.executable)


def _interpreter(text: str, home: Path) -> str:
    """Return a path in full, and a bare command as it is. Links stay: a virtual environment's interpreter is one."""
    return os.path.abspath(home / Path(text).expanduser()) if os.sep in text else text  # noqa: PTH100


def _absolute(path: Path) -> Path:
    """Return a path in full. Links stay, so that a deploy may point one to other code under the same name."""
    return Path(os.path.abspath(path))  # noqa: PTH100  Path.absolute() keeps `..`


def _is_module_name(text: str) -> bool:
    """Say whether a text can be the dotted name of a module."""
    return all(part.isidentifier() for part in text.split("."))
