"""Put a back-up into a data folder: all of it or nothing, and what was there before is kept.

What is unpacked and checked stands in a folder of its own. Then that gets the name `restoring`, and while the name is
there no server starts: a restore that is cut short between two renames never looks like an empty data folder.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Final

from pullcord.core.artifact import FOLDER
from pullcord.core.errors import StoreReadOnlyError, UsageError
from pullcord.store.archive import DATABASE, LOGS, Manifest, unpack
from pullcord.store.copy import Progress, check, copy, opened_read_only, schema_of, silent, stamp, sync
from pullcord.store.lock import RESTORING, FolderLock
from pullcord.store.migrate import HEAD, too_new

_SQLITE: Final = b"SQLite format 3\0"
_UNFINISHED: Final = ".restore-"
_DATABASE_FILES: Final = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm")


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored.

    Attributes:
        schema: the schema version of what was restored; the next start upgrades an older one.
        manifest: what the archive says, or None for a bare copy of a database.
        aside: where that is which was there before, or None when nothing was.
    """

    schema: str
    manifest: Manifest | None
    aside: Path | None


def restore(source: Path, folder: Path, *, force: bool = False, progress: Progress = silent) -> Restored:
    """Put a back-up, or the copy of a database from before an upgrade, into a data folder.

    Args:
        source: an archive of `pullcord backup`, or a file of the data folder's `backups`. The latter holds no logs, so
            the folder's logs stay.
        folder: the data folder; made when it is not there.
        force: replace the data that is there; it is moved into a folder beside the new.
        progress: is told how far it is.

    Raises:
        UsageError: there is no such file, or the folder holds data already.
        StoreLockedError: a server, or another restore, holds the folder.
        StoreVersionError: a newer Pullcord wrote the back-up.
        StoreCorruptError: the back-up is damaged or was cut off.
        StoreFullError: the disk is full.
    """
    if not source.is_file():
        raise UsageError(f"there is no file {source}")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreReadOnlyError(f"the data folder {folder} cannot be made: {error.strerror}") from None
    with _held(folder):
        for left in folder.glob(f"{_UNFINISHED}*"):  # by one that was killed
            if left.is_dir() and left.resolve() not in source.resolve().parents:
                shutil.rmtree(left)
        replaced = [name for name in (*_DATABASE_FILES, LOGS, RESTORING) if (folder / name).exists()]
        if replaced and not force:
            raise UsageError(
                f"{folder} holds data already; name another --data-dir, or give --force to replace it: it is kept aside"
            )
        unpacked = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
        try:
            with source.open("rb") as file:
                bare = file.read(len(_SQLITE)) == _SQLITE
            manifest = None
            if bare:
                _take_copy(source, unpacked / DATABASE, progress)
            else:
                manifest = unpack(source, unpacked, HEAD, progress)
            progress("checking the database", 0, 0)
            check(unpacked / DATABASE)
            with opened_read_only(unpacked / DATABASE, immutable=True) as connection:
                schema = schema_of(connection)
            if schema is None:
                raise UsageError(f"{source} is no database of Pullcord's")
            if schema > HEAD:
                raise too_new(str(source), schema)
            for path in (unpacked, *unpacked.rglob("*")):
                sync(path)
            parts = _DATABASE_FILES if bare else (*_DATABASE_FILES, LOGS)
            if manifest is not None and manifest.artifacts is not None:
                parts = (*parts, FOLDER)  # without contents in the archive, those that are there may still be needed
            return Restored(schema, manifest, _swap(folder, unpacked, parts))
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)


def _take_copy(source: Path, target: Path, progress: Progress) -> None:
    log = source.with_name(f"{source.name}-wal")
    if log.exists() and log.stat().st_size:
        advice = "copy that file too, open both with sqlite3 and close it: that puts them together"
        if source.name == DATABASE:
            advice = f"back it up with `pullcord backup --data-dir {quote(str(source.parent))}`, and restore that"
        raise UsageError(f"{source} is a database in use, or one that was: a part of it is in {log.name}; {advice}")
    progress("copying the database", 0, 0)
    with opened_read_only(source, immutable=True) as connection:
        copy(connection, target, progress)


def _swap(folder: Path, unpacked: Path, parts: tuple[str, ...]) -> Path | None:
    """Move the old parts aside and the new ones into their places."""
    restoring = folder / RESTORING
    if restoring.exists():  # One before was cut short: the name must not be gone for a moment.
        for path in list(restoring.iterdir()):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in list(unpacked.iterdir()):
            path.rename(restoring / path.name)
        sync(restoring)
    else:
        unpacked.rename(restoring)
    sync(folder)
    old = [name for name in parts if (folder / name).exists()]
    aside = folder / f"before-restore-{stamp()}" if old else None
    if aside is not None:
        aside.mkdir(mode=0o700)
        for name in old:
            (folder / name).rename(aside / name)
        sync(aside)
    for path in list(restoring.iterdir()):
        path.rename(folder / path.name)
    sync(folder)
    restoring.rmdir()
    sync(folder)
    return aside


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    lock = FolderLock(folder)
    try:
        yield
    finally:
        lock.release()
