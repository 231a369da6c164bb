"""Artifacts: files that a run keeps, stored by content; `pc.artifact`."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from unicodedata import category

from pullcord.core.context import current
from pullcord.core.errors import PullcordRuntimeError, UsageError

FOLDER: Final = "artifacts"
"""Where contents are, in the data folder."""

UNFINISHED: Final = "tmp"
"""Where contents are while they are written, in that folder."""

TRASH: Final = "trash"
"""Where contents are that nobody needs any more, in that folder, until they are deleted."""

LIMIT: Final = 1024**3
"""How large an artifact may be unless the settings say otherwise, bytes."""

NAME_LIMIT: Final = 200
"""A name is not longer, in UTF-8 bytes."""

TEXT_LIMIT: Final = 2000
"""A description is not longer, in characters."""

SHA256: Final = re.compile(r"[0-9a-f]{64}")

_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}(; ?[a-z]+=[A-Za-z0-9_.-]{1,50})?")
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of characters that cannot be seen: two names would look alike, or like none."""

_FILLERS: Final = frozenset("\u115f\u1160\u3164\uffa0")
"""Letters, to Unicode, that nobody sees."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a run has stored.

    Attributes:
        name: what it is called in the run.
        sha256: hash of its content, hexadecimal.
        size: bytes.
        media_type: for example `text/html`.
    """

    name: str
    sha256: str
    size: int
    media_type: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be stored.

    Attributes:
        name: what it will be called.
        path: the file, or None where the content is given.
        content: the content, or None.
        media_type: as given, or None.
        description: for people, or None.
    """

    name: str
    path: Path | None
    content: bytes | None
    media_type: str | None
    description: str | None


def artifact(
    path: str | os.PathLike[str] | None = None,
    name: str | None = None,
    media_type: str | None = None,
    description: str | None = None,
    *,
    content: bytes | str | None = None,
) -> Any:
    """Store a file, or some content, with the current run. Returns an `Artifact`; in async code, await it.

    The content is copied, so the file may be changed or removed afterwards. Of artifacts with the same name in a run
    the last one counts.

    Args:
        path: the file; a symbolic link is followed.
        name: what it is called; the file's own name unless given. No slashes, no characters
            that cannot be seen, 200 bytes.
        media_type: for example `text/html`; guessed from the name unless given.
        description: a few words for people.
        content: bytes or text instead of a file; then `name` is needed.

    Raises:
        PullcordRuntimeError: the calling code is not part of a run.
        UsageError: an argument makes no sense.
        ArtifactError: the file cannot be stored.
    """
    runtime = current.get()
    if runtime is None:
        raise PullcordRuntimeError("pc.artifact works only inside a run; start one with `pullcord run FLOW`")
    if (path is None) == (content is None):
        raise UsageError("pc.artifact takes either a path or content=")
    if content is not None and name is None:
        raise UsageError("pc.artifact with content= needs a name=, for example name='report.html'")
    source = None if path is None else _checked_path(path)
    wanted = Wanted(
        check_name(name if name is not None else source.name if source is not None else ""),
        source,
        None if content is None else _checked_content(content),
        _checked_type(media_type),
        _checked_text(description),
    )
    return runtime.artifact(wanted)


def check_name(name: object) -> str:
    """Return the name of an artifact.

    Raises:
        UsageError: it cannot be the name of one.
    """
    if not isinstance(name, str) or not name:
        raise UsageError(f"the name of an artifact is a text, for example 'report.html', not {name!r}")
    if len(name.encode("utf-8", "replace")) > NAME_LIMIT:
        raise UsageError(f"the name of an artifact has at most {NAME_LIMIT} bytes; this one begins with {name[:40]!r}")
    if "/" in name or "\\" in name or _has_unseen(name) or name in (".", "..") or name != name.strip():
        raise UsageError(
            f"{name!r} cannot be the name of an artifact: no slashes, no characters that cannot be seen, no spaces at "
            "its ends, not '.' or '..'"
        )
    return name


def _has_unseen(name: str) -> bool:
    return not _FILLERS.isdisjoint(name) or any(category(character) in _UNSEEN for character in name)


def content_path(sha256: str) -> str:
    """Return where a content is, below `FOLDER`: `ab/cdef…`."""
    return f"{sha256[:2]}/{sha256[2:]}"


def _checked_path(path: object) -> Path:
    given = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(given, str):
        raise UsageError(
            f"the path of an artifact is a text or a pathlib.Path, not {type(given).__name__}; "
            "os.fsdecode makes a text of bytes, and content= stores bytes without a file"
        )
    if "\x00" in given:
        raise UsageError("the path of an artifact holds a NUL character, which no file's name does; leave it out")
    return Path(given)


def _checked_content(content: object) -> bytes:
    if isinstance(content, str):
        try:
            return content.encode("utf-8")
        except UnicodeEncodeError:
            raise UsageError(
                "the content of an artifact has a character that UTF-8 cannot write, half of a surrogate pair; "
                "encode the text yourself and give bytes, for example content=text.encode('utf-8', 'replace')"
            ) from None
    if not isinstance(content, bytes | bytearray | memoryview):
        raise UsageError(f"the content of an artifact is bytes or text, not {type(content).__name__}")
    return bytes(content)


def _checked_type(media_type: str | None) -> str | None:
    if media_type is not None and (not isinstance(media_type, str) or not _TYPE.fullmatch(media_type)):
        raise UsageError(f"{media_type!r} is no media type; write it like 'text/html' or 'text/csv; charset=utf-8'")
    return media_type


def _checked_text(description: str | None) -> str | None:
    if description is None:
        return None
    text = str(description).replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    return text[:TEXT_LIMIT]
