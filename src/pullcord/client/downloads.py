"""Downloads of artifacts: into a file that has its name only when it is whole and what it should be."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from pullcord.client import calls
from pullcord.client.calls import Call
from pullcord.core.errors import PullcordError, UsageError
from pullcord.core.replacing import check_replaceable

Told = Callable[[int, int], None]
"""Is told how many bytes are there, and how many there will be."""


class DownloadError(PullcordError):
    """What was received is not what was stored: it was cut off or changed on the way."""

    code = "download_failed"


class Download:
    """A file that is being received.

    Args:
        target: the file; an existing one is replaced when all is there.
        headers: of the answer.
        told: is told how far it is.
    """

    def __init__(self, target: Path, headers: Mapping[str, str], told: Told | None = None) -> None:
        self._target = target
        self._digest = hashlib.sha256()
        self._wanted = headers.get("etag", "").strip('"')
        self._total = int(headers.get("content-length", 0))
        self._told = told
        self._done = 0

    def __enter__(self) -> Self:
        try:
            self._file = tempfile.NamedTemporaryFile(
                dir=self._target.parent, prefix=f".{self._target.name[:50]}-", suffix=".part", delete=False
            )
        except OSError as error:
            raise UsageError(f"{self._target} cannot be written: {error.strerror}") from None
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self._file.close()
        path = Path(self._file.name)
        if kind is not None:
            path.unlink(missing_ok=True)
            return
        if self._digest.hexdigest() != self._wanted:
            path.unlink(missing_ok=True)
            raise DownloadError("the download was cut off or changed on the way; nothing was kept, try again")
        path.chmod(0o644)
        path.replace(self._target)

    def write(self, piece: bytes) -> None:
        """Take a piece."""
        self._digest.update(piece)
        self._done += len(piece)
        try:
            self._file.write(piece)
        except OSError as error:
            raise UsageError(f"{self._target} cannot be written: {error.strerror}") from None
        if self._told is not None:
            self._told(self._done, self._total)


def artifact_path(run_id: str, name: str) -> str:
    """Return the address of an artifact."""
    return f"/v1/runs/{calls.segment(run_id)}/artifacts/{calls.segment(name)}"


def list_artifacts(run_id: str) -> Call[list[dict[str, Any]]]:
    """`GET /v1/runs/{id}/artifacts`."""
    return calls.get(f"/v1/runs/{calls.segment(run_id)}/artifacts", lambda data: list(data["items"]))


def target_of(target: str | Path | None, name: str) -> Path:
    """Return the file to write.

    Raises:
        UsageError: it is there, and is no regular file.
    """
    path = Path(name) if target is None else Path(target)
    check_replaceable(path, name, "name another file (`pullcord runs download` writes to stdout with `-o -`)")
    return path
