"""One server per data folder: a lock file says who, and the kernel frees it when that process dies."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from pullcord.core.errors import StoreError, StoreFullError, StoreLockedError, StoreReadOnlyError

RESTORING: Final = "restoring"
"""A folder in the data folder while a restore moves its files, see `store.restore`."""


class FolderLock:
    """Holds a data folder.

    Args:
        folder: the data folder; it must exist.

    Raises:
        StoreLockedError: another process holds it; the message names its process id.
        StoreReadOnlyError: the folder cannot be written.
        StoreFullError: the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreReadOnlyError(
                f"the data folder {folder} cannot be written ({error.strerror}); check its permissions"
            ) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 20).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise StoreLockedError(
                f"the data folder {folder} is in use by process {holder}; stop it or use another --data-dir",
                pid=holder,
            ) from None
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._file)
            kind = StoreFullError if error.errno == errno.ENOSPC else StoreReadOnlyError
            raise kind(f"the data folder {folder} cannot be written: {error.strerror}") from None

    def release(self) -> None:
        """Give the folder back."""
        os.close(self._file)


def hold(folder: Path) -> FolderLock:
    """Make a data folder where it is not there, and hold it.

    Raises:
        StoreLockedError: another process holds it.
        StoreReadOnlyError: it cannot be made or written.
        StoreFullError: the disk is full.
        StoreError: a restore of it was cut short.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreReadOnlyError(f"the data folder {folder} cannot be made: {error.strerror}") from None
    lock = FolderLock(folder)
    try:
        _refuse_half_restored(folder)
    except BaseException:
        lock.release()
        raise
    return lock


def _refuse_half_restored(folder: Path) -> None:
    if (folder / RESTORING).exists():
        raise StoreError(
            f"a restore of {folder} was cut short; give `pullcord restore FILE --force` again, and it is completed"
        )
