"""Importing a location's own code: from its source, or from bytecode that was made of exactly this source.

Python believes bytecode when the source is as long as it was and was changed within the same second. So code that is
deployed twice within a second, or unpacked with fixed times, would be the old code under the new version. Here bytecode
is kept with a hash of its source, in the form that PEP 552 calls checked; Python itself can use it too.
"""

from __future__ import annotations

import marshal
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
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from pathlib import Path
from types import CodeType
from typing import Final

_CHECKED: Final = MAGIC_NUMBER + (0b11).to_bytes(4, "little")
_INSTALLED: Final = ("site-packages", "dist-packages")

_roots: set[Path] = set()


class ExactLoader(SourceFileLoader):
    """Loads a module from its source, or from bytecode of exactly this source."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the module's code, and keep it for the next time."""
        path = self.get_filename(fullname)
        source = self.get_data(path)
        head, kept = _CHECKED + source_hash(source), cache_from_source(path)
        code = self._kept(kept, head, path)
        if code is None:
            code = self.source_to_code(source, path)
            if not sys.dont_write_bytecode:
                self.set_data(kept, head + marshal.dumps(code))
        return code

    def _kept(self, kept: str, head: bytes, path: str) -> CodeType | None:
        """Return what is kept of this source, unless it is of another place or damaged."""
        try:
            data = self.get_data(kept)
            code = marshal.loads(data[len(head) :]) if data.startswith(head) else None
        except (OSError, EOFError, ValueError, TypeError):
            return None
        return code if isinstance(code, CodeType) and code.co_filename == path else None


def import_exactly(root: Path) -> None:
    """Import what is below a folder with `ExactLoader` from now on, except what is installed there."""
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
        (ExactLoader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )


def _is_own(place: Path) -> bool:
    if any(part in _INSTALLED for part in place.parts) or place.is_relative_to(sysconfig.get_path("stdlib")):
        return False
    return any(place.is_relative_to(root) for root in _roots)
