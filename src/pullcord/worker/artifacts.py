"""Storing artifacts: a content is written to a temporary file in the data folder, synced, and renamed to its hash.

At the level of the flow an artifact is recorded like a step, so that a replay stores nothing twice and needs no file.
Inside a step it belongs to the step: when that is executed again, it is stored again.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import mimetypes
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json, to_json

from pullcord.core.artifact import UNFINISHED, Artifact, Wanted, content_path
from pullcord.core.errors import ArtifactError
from pullcord.core.states import StepState
from pullcord.failpoints import hit
from pullcord.wire import messages as kinds
from pullcord.worker.failures import describe, rebuild
from pullcord.worker.moment import enclosing, now

if TYPE_CHECKING:
    from pullcord.worker.execution import Execution

NAME: Final = "artifact"
"""The name that artifacts of the flow itself are recorded under."""

PIECE: Final = 1024 * 1024
"""Bytes that are read at once."""


def store(execution: Execution, wanted: Wanted) -> Artifact:
    """Store an artifact on this thread, or return what is recorded."""
    call = _ArtifactCall(execution, wanted)
    if call.record is not None:
        return call.replay()
    if not call.step:
        execution.boundary()
    return call.conclude()


async def store_async(execution: Execution, wanted: Wanted) -> Artifact:
    """Do the same while other code of the worker goes on."""
    call = _ArtifactCall(execution, wanted)
    if call.record is not None:
        return call.replay()
    if not call.step:
        await execution.boundary_async()
    return await asyncio.to_thread(call.conclude)


class _ArtifactCall:
    """One call of `pc.artifact` within an execution."""

    def __init__(self, execution: Execution, wanted: Wanted) -> None:
        self.execution = execution
        self.wanted = wanted
        self.step = enclosing.get()
        self.identity = self.step or execution.identify(NAME, wanted.name.encode())
        outer = execution.enclosing_call()
        self.step_name = None if outer is None else outer.name
        self.record = None if self.step else execution.record_of(self.identity)
        if not self.step and self.record is None:
            execution.check_code(f"the artifact {wanted.name!r}")
        self.started = now()

    def replay(self) -> Artifact:
        """Return what was stored, or raise why it was not."""
        record = self.record
        if record is not None and record[4] == StepState.SUCCEEDED:
            return Artifact(**from_json(record[5]))
        raise rebuild(from_json(record[6] if record is not None else "{}"))

    def conclude(self) -> Artifact:
        """Store the content and report it; the row counts once it is acknowledged, like the record."""
        wanted = self.wanted
        settings = self.execution.worker.artifacts
        try:
            sha256, size = write(Path(settings["folder"]), wanted, settings["limit"])
        except ArtifactError as error:
            self._record(StepState.FAILED, None, describe(error))
            raise
        media_type = wanted.media_type or _guessed(wanted.name)
        artifact = Artifact(wanted.name, sha256, size, media_type)
        hit("artifact.before_report")
        self.execution.send(
            [kinds.ARTIFACT, self.execution.run, self.execution.token, self.identity, self.step_name, wanted.name,
             sha256, size, media_type, wanted.description]
        )  # fmt: skip
        self._record(StepState.SUCCEEDED, to_json(artifact.as_json()).decode(), None)
        return artifact

    def _record(self, state: StepState, result: str | None, error: dict[str, Any] | None) -> None:
        if not self.step:
            sequence = next(self.execution.sequence)
            self.execution.record(self.identity, sequence, NAME, 1, state, self.started, result, error)


def _guessed(name: str) -> str | None:
    """Return the media type that a name speaks of; what is compressed is what the compression makes of it."""
    media_type, encoding = mimetypes.guess_type(name)
    return media_type if encoding is None else "application/gzip" if encoding == "gzip" else None


def write(folder: Path, wanted: Wanted, limit: int) -> tuple[str, int]:
    """Write a content into the folder; return its hash and size. A content that is there already is left as it is.

    Args:
        folder: where contents are.
        wanted: the file or content.
        limit: how large it may be, bytes.

    Raises:
        ArtifactError: it cannot be stored; nothing is left of it.
    """
    name = wanted.name
    with _explained(name, str(wanted.path) if wanted.path is not None else None, folder):
        for path in (folder, folder / UNFINISHED):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=folder / UNFINISHED)
    try:
        with _explained(name, None, folder), os.fdopen(handle, "wb") as out:
            digest, size = hashlib.sha256(), 0
            for piece in _pieces(wanted, limit, folder):
                digest.update(piece)
                size += len(piece)
                out.write(piece)
                hit("artifact.in_write")
            out.flush()
            os.fsync(out.fileno())
            os.fchmod(out.fileno(), 0o400)
        hit("artifact.before_rename")
        sha256 = digest.hexdigest()
        with _explained(name, None, folder):
            _settle(Path(temporary), folder / content_path(sha256), size)
        return sha256, size
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()


def _settle(temporary: Path, target: Path, size: int) -> None:
    """Give a content its name, or touch the equal one: what was touched just now is not swept away."""
    with contextlib.suppress(FileNotFoundError):
        if target.stat().st_size == size:
            os.utime(target)
            return
    if not target.parent.is_dir():
        target.parent.mkdir(exist_ok=True, mode=0o700)
        _sync(target.parent.parent)
    temporary.rename(target)
    _sync(target.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _pieces(wanted: Wanted, limit: int, folder: Path) -> Iterator[bytes]:
    """Yield a content in pieces.

    Raises:
        ArtifactError: it is no file, is too large, or changed meanwhile.
    """
    name = wanted.name
    if wanted.path is None:
        content = wanted.content or b""
        if len(content) > limit:
            raise _too_large(name, len(content), limit)
        yield from (content[start : start + PIECE] for start in range(0, len(content), PIECE))
        return
    with _explained(name, str(wanted.path), folder):
        # A FIFO that nobody writes to would hold up a plain open for ever.
        handle = os.open(wanted.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(handle)
        if not stat.S_ISREG(before.st_mode):
            kind = "a folder; pack it into an archive" if stat.S_ISDIR(before.st_mode) else "no regular file"
            raise ArtifactError(f"the artifact {name!r} cannot be stored: {wanted.path} is {kind}", name, "not_a_file")
        if before.st_size > limit:
            raise _too_large(name, before.st_size, limit)
        read = 0
        while piece := os.read(handle, PIECE):
            read += len(piece)
            if read > limit:
                raise _too_large(name, read, limit)
            yield piece
        after = os.fstat(handle)
    finally:
        os.close(handle)
    if read != before.st_size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ArtifactError(
            f"the artifact {name!r} was not stored: {wanted.path} changed while it was read; close it first",
            name, "changed",
        )  # fmt: skip


def _too_large(name: str, size: int, limit: int) -> ArtifactError:
    return ArtifactError(
        f"the artifact {name!r} has {size:,} bytes, and {limit:,} are allowed; raise artifact_limit in the settings",
        name, "too_large",
    )  # fmt: skip


@contextlib.contextmanager
def _explained(name: str, source: str | None, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"the artifact {name!r} cannot be stored: "
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ArtifactError(f"{what}the disk of {folder} is full", name, "disk") from None
        if source is not None and error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise ArtifactError(f"{what}there is no file {source}", name, "missing") from None
        where = source if source is not None else str(folder)
        why = "unreadable" if source is not None else "disk"
        raise ArtifactError(f"{what}{where}: {error.strerror or error}", name, why) from None
