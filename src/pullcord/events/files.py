"""Files that are new in a folder, have changed, or were moved there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, Unpack

from pullcord.clock import Clock, SystemClock, rfc3339
from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import DefinitionError
from pullcord.core.event import Cursor, EventTrigger, Fire, PollError, Skip
from pullcord.events.declare import Flows, Options, declared

MOST_FILES: Final = 10_000
"""No more files than this may match: the cursor knows each of them."""

AT_ONCE: Final = 1_000
"""One poll fires for so many files at most; the next one goes on."""

_TEMPORARY: Final = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".swp", ".filepart", "~")


class _File(NamedTuple):
    path: str
    inode: int
    modified: int  # nanoseconds
    size: int

    @property
    def key(self) -> str:
        return ":".join(map(str, self))

    @property
    def digest(self) -> str:
        return blake2b(self.key.encode(), digest_size=8).hexdigest()


class FileWatcher:
    """Fires for each file that is new in a folder, has changed, or was moved there.

    The cursor holds a digest for each file that is there now and was fired for. So a file that is taken away and put
    back counts as new, and a folder that cannot be read forgets nothing: for what is mounted, watch a folder inside.

    Args:
        folder: the folder; a relative path begins where the server was started.
        pattern: which files, as `pathlib` matches: `*.csv`, or `**/*.csv` for subfolders too.
        settle: seconds that size and time of a file must stay the same before it counts as complete.
        details: put name, size in bytes and time of modification into the context too.
    """

    clock: ClassVar[Clock] = SystemClock()

    def __init__(self, folder: str, pattern: str = "*", settle: float = 1.0, details: bool = False) -> None:
        parts = pattern.split("/")
        if not parts[0] or ".." in parts or any("**" in part and part != "**" for part in parts):
            raise DefinitionError(f"the pattern {pattern!r} is none within the folder, like '*.csv' or '**/*.csv'")
        self.folder, self.pattern, self.settle, self.details = Path(folder), pattern, settle, details
        self._first_seen: dict[str, int] = {}

    def poll(self, state: Cursor) -> list[Fire] | Skip:
        """Look at the folder.

        Raises:
            PollError: the folder is missing or cannot be read, or too many files match.
        """
        found = {file.digest: file for file in self._look()}
        if len(found) > MOST_FILES:
            raise PollError(
                f"more than {MOST_FILES} files match {self.pattern!r} in {self.folder}; "
                "move files away when they are done, or watch fewer"
            )
        kept = [digest for digest in state.value or () if digest in found]
        fresh = [found[digest] for digest in found.keys() - kept]
        now = sorted(self._complete(fresh), key=lambda file: (file.modified, file.path))[:AT_ONCE]
        state.value = kept + [file.digest for file in now]
        if now:
            return [Fire(self._context(file), key=file.key) for file in now]
        return Skip(f"{len(fresh)} still being written" if fresh else "nothing new")

    def _look(self) -> Iterator[_File]:
        folder = self.folder.absolute()
        try:
            os.scandir(folder).close()  # glob() would take what cannot be read for an empty folder
        except FileNotFoundError:
            raise PollError(f"the folder {folder} is missing; make it") from None
        except OSError as error:
            raise PollError(f"the folder {folder} cannot be read: {error.strerror}") from None
        begin = len(str(folder).rstrip("/")) + 1
        for path in map(str, folder.glob(self.pattern)):
            hidden = any(part.startswith((".", "~$")) for part in path[begin:].split("/"))
            if hidden or path.lower().endswith(_TEMPORARY):
                continue
            try:
                path.encode()
                about = os.stat(path)  # noqa: PTH116  many thousand files are looked at
            except (OSError, UnicodeEncodeError):  # gone meanwhile, a broken link, or a name that JSON cannot hold
                continue
            if stat.S_ISREG(about.st_mode):
                yield _File(path, about.st_ino, about.st_mtime_ns, about.st_size)

    def _complete(self, files: list[_File]) -> list[_File]:
        """Return the files that have not changed for long enough, by their own times or by what was seen here."""
        seen, now = self._first_seen, self.clock.now()
        self._first_seen = {file.digest: seen.get(file.digest, now) for file in files}
        since = {file: min(self._first_seen[file.digest], file.modified // 1000) for file in files}
        return [file for file in files if now - since[file] >= self.settle * 1_000_000]

    def _context(self, file: _File) -> dict[str, Any]:
        context: dict[str, Any] = {"path": file.path}
        more = {"name": Path(file.path).name, "size": file.size, "modified": rfc3339(file.modified // 1000)}
        return context | more if self.details else context


def files(
    folder: str | os.PathLike[str],
    pattern: str = "*",
    *,
    settle: Duration = "1s",
    details: bool = False,
    flow: Flows = (),
    every: Duration = "2s",
    name: str | None = None,
    **options: Unpack[Options],
) -> EventTrigger:
    """Run a flow for each file that is new in a folder, has changed, or was moved there.

    Hidden and temporary files (`.x`, `~$x`, `x~`, `x.tmp`, `x.part` and the like) are left out. Files that are there
    already at the first look are new.

    Args:
        folder: the folder; a relative path begins where the server was started. While it is missing, polls fail.
        pattern: which files: `*.csv`, or `**/*.csv` for subfolders too.
        settle: a file counts as complete when its size and time have not changed for so long.
        details: the context is `{"path": …}`, and with details also `name`, `size` (bytes) and `modified` (RFC 3339).
        flow: what to run: a flow, its name, or a list.
        every: time between looks.
        name: `{flow}-files` unless given.
        **options: `allow_concurrent`, `max_errors` and `enabled`, as `pc.event` takes them.

    Raises:
        DefinitionError: the declaration cannot work.
    """
    parameters = {"folder": os.fspath(folder), "pattern": pattern, "settle": seconds(settle), "details": details}
    return declared(FileWatcher, "files", parameters, flow=flow, every=every, name=name, options=options)
