"""Where flows come from: a module, a file or a folder, with the interpreter that loads it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from pullcord.core.errors import LocationError


@dataclass(frozen=True, slots=True)
class CodeLocation:
    """One code location.

    Attributes:
        name: how it is called in lists and lanes.
        kind: `module`, `file` or `folder`.
        target: the module's name, or the absolute path.
        python: the interpreter.
    """

    name: str
    kind: str
    target: str
    python: str = sys.executable


def locate(text: str) -> CodeLocation:
    """Make a location of what a user typed: a path that exists, or the name of a module.

    Raises:
        LocationError: it is neither.
    """
    path = Path(text)
    if path.is_dir():
        return CodeLocation(path.resolve().name, "folder", str(path.resolve()))
    if path.is_file():
        if path.suffix != ".py":
            raise LocationError(f"{text} is not a Python file; name a .py file, a folder or a module")
        return CodeLocation(path.name, "file", str(path.resolve()))
    looks_like_path = "/" in text or text.endswith(".py")
    if not looks_like_path and all(part.isidentifier() for part in text.split(".")):
        if "" not in sys.path:
            sys.path.insert(0, "")
        try:
            found = importlib.util.find_spec(text.partition(".")[0])
        except (ImportError, ValueError):
            found = None
        if found is not None:
            return CodeLocation(text, "module", text)
    raise LocationError(f"there is no file, folder or module {text!r} here; give the path to your flows")


def locate_all(texts: list[str]) -> list[CodeLocation]:
    """Make locations with names of their own.

    Raises:
        LocationError: one does not exist.
    """
    locations: list[CodeLocation] = []
    names: set[str] = set()
    for text in texts:
        location = locate(text)
        name = location.name if location.name not in names else location.target
        if name not in names:
            names.add(name)
            locations.append(CodeLocation(name, location.kind, location.target, location.python))
    return locations
