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


def refuse_half_restored(folder: Path) -> None:
    """Let no server start on a folder whose restore was cut short.

    Raises:
        StoreError: it was.
    """
    if (folder / RESTORING).exists():
        raise StoreError(
            f"a restore of {folder} was cut short; give `pullcord restore FILE --force` again, and it is completed"
        )
