"""Where a whole file is put under its name when it is complete."""

from __future__ import annotations

from pathlib import Path

from pullcord.core.errors import UsageError


def check_replaceable(path: Path, name: str, instead: str = "name another file") -> None:
    """Refuse what a file that is renamed to this path must not replace: a folder, a device, a pipe, a link.

    Args:
        path: where the file is to be.
        name: what a file in a folder could be called.
        instead: what to do where something else than a file is there.

    Raises:
        UsageError: it is there, and is no regular file.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it, for example {path / name}")
    # /dev/stdout is a link.
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UsageError(f"{path} is no regular file, and would be replaced by one; {instead}")
