"""Contents of artifacts on the disk: which there are, and what is left over of those that were not finished."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pullcord.core.artifact import SHA256, TRASH, UNFINISHED

GRACE: Final = 3600.0
"""Seconds that a file must have been left alone before it is swept: a worker may be about to speak of it."""


class Contents:
    """The folder of contents.

    Args:
        folder: where they are; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def old(self, before: float) -> Iterator[list[str]]:
        """Yield the hashes of contents that nobody touched since a time, one folder after the other.

        Args:
            before: seconds since 1970, as the file system counts them.
        """
        for folder in sorted(_entries(self.folder), key=lambda entry: entry.name):
            if len(folder.name) == 2:
                found = [entry for entry in _entries(Path(folder.path)) if _modified(entry) < before]
                names = [folder.name + entry.name for entry in found]
                yield [name for name in names if SHA256.fullmatch(name)]

    def sweep(self, before: float) -> tuple[int, int]:
        """Delete what is in the trash, and what a worker that died left unfinished; return files and bytes.

        Args:
            before: unfinished files that were written to since then stay.
        """
        files = size = 0
        for name, bound in ((TRASH, float("inf")), (UNFINISHED, before)):
            for entry in _entries(self.folder / name):
                if _modified(entry) < bound:
                    with contextlib.suppress(FileNotFoundError):
                        size += entry.stat().st_size
                        Path(entry.path).unlink()
                        files += 1
        return files, size

    def size(self) -> int:
        """Return how large they are together, bytes."""
        return sum(entry.stat().st_size for folder in _entries(self.folder) for entry in _entries(Path(folder.path)))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _modified(entry: os.DirEntry[str]) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
