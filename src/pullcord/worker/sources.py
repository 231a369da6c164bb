"""Importing a location's own code from its source, never from the bytecode that Python keeps of it.

Python believes bytecode when the source is as long as it was and was changed within the same second (PEP 552).
Code that is deployed twice within a second, or unpacked with fixed times, would be the old code under the new version.
Reading the source costs about a second per 100,000 lines, once for all workers of a location.
"""

from __future__ import annotations

import sys
import sysconfig
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from typing import NoReturn

_INSTALLED = ("site-packages", "dist-packages")

_roots: set[Path] = set()


class FromSource(SourceFileLoader):
    """Loads a module from its source, and keeps no bytecode."""

    def path_stats(self, path: str) -> NoReturn:
        """Know nothing of the file's age: then Python neither reads nor writes bytecode (`SourceLoader.get_code`)."""
        raise OSError


def import_from_source(root: Path) -> None:
    """Import what is in a folder, and in those below it, from its source from now on; not what is installed there."""
    if root in _roots:
        return
    _roots.add(root)
    if _finder not in sys.path_hooks:
        sys.path_hooks.insert(0, _finder)
    for known in [place for place in sys.path_importer_cache if _is_own(Path(place))]:
        del sys.path_importer_cache[known]


def _finder(place: str) -> FileFinder:
    if not _is_own(Path(place)):
        raise ImportError("somebody else's")  # how a path hook says that it is not asked
    return FileFinder(
        place,
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (FromSource, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )


def _is_own(place: Path) -> bool:
    if any(part in _INSTALLED for part in place.parts) or place.is_relative_to(sysconfig.get_path("stdlib")):
        return False
    return any(place.is_relative_to(root) for root in _roots)
