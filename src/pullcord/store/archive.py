"""The back-up archive: one compressed file with the database, the runs' logs and artifacts, and a manifest in front.

The manifest comes first, so that an archive of a newer Pullcord is refused before anything is unpacked; gzip's checksum
at the end finds what was cut off or damaged on the way. The token is not in it.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import IO, Any, Final

from pullcord.core.artifact import FOLDER
from pullcord.core.errors import (
    NotFoundError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    UsageError,
)
from pullcord.core.replacing import check_replaceable
from pullcord.store.copy import Progress, check, copy, opened_read_only, schema_of, silent, sync
from pullcord.store.errors import translated

FORMAT: Final = 1
MANIFEST, DATABASE, LOGS = "pullcord.json", "pullcord.db", "logs"
_LOG = re.compile(r"logs/[0-9a-f]{6}/[0-9a-f-]{36}\.jsonl")
_CONTENT = re.compile(r"artifacts/[0-9a-f]{2}/[0-9a-f]{62}")
_PIECE: Final = 1024 * 1024
_QUICKLY: Final = 1
"""gzip's level: a database shrinks to a fifth or so, and higher levels take three times as long for a little more."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive says about itself.

    Attributes:
        format: the archive's own version.
        pullcord: the version that wrote it.
        schema: the database's schema version.
        at: when it was begun, RFC 3339 UTC.
        runs: how many runs are in it.
        requests: how many rows the ledger has.
        database_bytes: size of the database.
        logs: how many runs have a log in it.
        artifacts: how many contents of artifacts are in it; None where they were left out.
    """

    format: int
    pullcord: str
    schema: str
    at: str
    runs: int
    requests: int
    database_bytes: int
    logs: int
    artifacts: int | None = None


def back_up(
    folder: Path,
    target: Path,
    *,
    at: str,
    pullcord: str,
    force: bool = False,
    artifacts: bool = True,
    progress: Progress = silent,
) -> Manifest:
    """Write a data folder into an archive; a server may run on the folder and write meanwhile.

    Args:
        folder: the data folder.
        target: the archive. It gets its name when it is complete, checked and on the disk.
        at: the present time, RFC 3339.
        pullcord: the version of this Pullcord.
        force: replace a regular file that is there.
        artifacts: put the contents of artifacts into it; without them, these are listed, and are not there.
        progress: is told how far it is.

    Raises:
        NotFoundError: the folder holds no database.
        UsageError: the archive is there already, is no regular file, or cannot be put there.
        StoreError: the database cannot be read, the copy is damaged, or the disk is full.
    """
    if not (folder / DATABASE).is_file():
        raise NotFoundError(f"there is no database in {folder}; name the right data folder with --data-dir")
    check_replaceable(target, "pullcord.tar.gz")
    if target.exists() and not force:
        raise UsageError(f"{target} is there already; name another file, or give --force to replace it")
    with _written_to(target), tempfile.TemporaryDirectory(prefix=".pullcord-backup-", dir=target.parent) as name:
        copied, unfinished = Path(name) / DATABASE, Path(name) / "archive"
        with opened_read_only(folder / DATABASE) as source:
            copy(source, copied, progress)
        progress("checking the copy", 0, 0)
        check(copied)
        logs = _logs(folder / LOGS)
        contents = sorted((folder / FOLDER).glob("??/*")) if artifacts else []
        manifest = _describe(copied, len(logs), len(contents) if artifacts else None, at, pullcord)
        _pack(unfinished, manifest, copied, logs, contents, progress)
        unfinished.chmod(0o600)
        sync(unfinished)
        unfinished.replace(target)
        sync(target.parent)
    return manifest


def unpack(archive: Path, folder: Path, newest: str, progress: Progress = silent) -> Manifest:
    """Write what is in an archive into an empty folder, and check it.

    Args:
        archive: the file.
        folder: an empty folder.
        newest: the newest schema that this Pullcord knows.
        progress: is told how far it is.

    Raises:
        UsageError: the file cannot be read.
        StoreVersionError: a newer Pullcord wrote it.
        StoreCorruptError: it is no back-up, is damaged, or was cut off.
        StoreFullError: the disk is full.
    """
    from pullcord.store.migrate import too_new

    with _read_from(archive), archive.open("rb") as file, gzip.GzipFile(fileobj=file) as unzipped:
        size = archive.stat().st_size
        with tarfile.open(fileobj=unzipped, mode="r|") as members:
            manifest = _manifest(archive, members)
            if manifest.format > FORMAT or manifest.schema > newest:
                raise too_new(str(archive), manifest.schema)
            while (member := members.next()) is not None:
                part = _LOG.fullmatch(member.name) or _CONTENT.fullmatch(member.name)
                if member.name != DATABASE and not part:
                    raise StoreCorruptError(f"{archive} holds {member.name!r}, which is no part of a back-up")
                content = members.extractfile(member)
                if content is None:
                    raise StoreCorruptError(f"{archive} holds {member.name!r}, which is no file")
                path = folder / member.name
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with path.open("xb") as out:
                    while piece := content.read(_PIECE):
                        out.write(piece)
                        progress("unpacking", file.tell(), size)
        while unzipped.read(_PIECE):
            """The checksum comes at the very end."""
    if not (folder / DATABASE).is_file():
        raise StoreCorruptError(f"{archive} holds no database; it is no complete back-up")
    return manifest


def _describe(database: Path, logs: int, artifacts: int | None, at: str, pullcord: str) -> Manifest:
    with opened_read_only(database, immutable=True) as connection, translated():
        schema = schema_of(connection)
        if schema is None:
            raise StoreCorruptError(f"{DATABASE} is no database of Pullcord's; nothing was backed up")
        runs, requests = (
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("runs", "requests")
        )
    return Manifest(FORMAT, pullcord, schema, at, runs, requests, database.stat().st_size, logs, artifacts)


def _logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.jsonl"))


def _pack(
    target: Path, manifest: Manifest, database: Path, logs: list[Path], contents: list[Path], progress: Progress
) -> None:
    total = manifest.database_bytes + sum(_size(file) for file in [*logs, *contents])
    done = 0
    with (
        target.open("xb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=_QUICKLY, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w|", format=tarfile.PAX_FORMAT) as members,
    ):
        text = json.dumps(asdict(manifest), indent=2).encode()
        _add(members, MANIFEST, io.BytesIO(text), len(text))
        with database.open("rb") as content:
            counted = _Counted(content, lambda read: progress("packing", read, total))
            _add(members, DATABASE, counted, manifest.database_bytes)
        done = manifest.database_bytes
        for log in logs:
            data = _whole_lines(log)
            if data is not None:
                _add(members, f"{LOGS}/{log.parent.name}/{log.name}", io.BytesIO(data), len(data))
                done += len(data)
                progress("packing", min(done, total), total)
        for kept in contents:
            # It never changes; where the pruner has taken it away meanwhile, it is no artifact's any longer.
            with contextlib.suppress(FileNotFoundError), kept.open("rb") as opened:
                size = _size(kept)
                _add(members, f"{FOLDER}/{kept.parent.name}/{kept.name}", opened, size)
                done += size
                progress("packing", min(done, total), total)


def _whole_lines(log: Path) -> bytes | None:
    """Read a log that a server may be writing to; None when it is gone by now. A log has a cap, so it fits."""
    try:
        data = log.read_bytes()
    except FileNotFoundError:
        return None
    return data[: data.rfind(b"\n") + 1]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class _Counted:
    """A file that tells how much was read from it."""

    def __init__(self, file: IO[bytes], told: Any) -> None:
        self._file = file
        self._told = told

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._told(self._file.tell())
        return data


def _add(members: tarfile.TarFile, name: str, content: Any, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o600
    members.addfile(member, content)


def _manifest(archive: Path, members: tarfile.TarFile) -> Manifest:
    first = members.next()
    content = None if first is None or first.name != MANIFEST else members.extractfile(first)
    if content is None:
        raise StoreCorruptError(f"{archive} is no back-up of Pullcord's")
    try:
        said = json.loads(content.read(65536))
        # A newer format may say more, and is refused by its number.
        return Manifest(**{name: said[name] for name in Manifest.__slots__ if name in said or name != "artifacts"})
    except (ValueError, KeyError, TypeError):
        raise StoreCorruptError(f"{archive} is no back-up of Pullcord's: its manifest cannot be read") from None


@contextmanager
def _written_to(target: Path) -> Iterator[None]:
    try:
        yield
    except StoreFullError as error:
        raise StoreFullError(_full(target)) from error
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT):
            raise StoreFullError(_full(target)) from error
        raise UsageError(f"the back-up cannot be written to {target}: {error.strerror or error}") from error


def _full(target: Path) -> str:
    free = shutil.disk_usage(target.parent).free / 1024**2
    return (
        f"the disk of {target.parent.absolute()} is full ({free:.0f} MB free); a back-up needs room for a copy of the "
        "database and for the archive. Free some space, or name a file on another disk"
    )


@contextmanager
def _read_from(archive: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, tarfile.TarError, gzip.BadGzipFile) as error:
        raise StoreCorruptError(
            f"{archive} is damaged or was cut off ({error}); nothing was restored. Use another back-up"
        ) from error
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT):
            raise StoreFullError("the disk is full; free some space, then try again. Nothing was restored") from error
        raise StoreError(f"{archive} cannot be restored: {error.strerror or error}") from error
