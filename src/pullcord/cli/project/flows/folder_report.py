"""Which files in a folder take the most space?"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

import pullcord as pc


class File(BaseModel):
    """A file and its size."""

    path: str
    bytes: int


class Share(BaseModel):
    """What one folder contains."""

    folder: str
    files: int
    bytes: int
    largest: list[File]


class Report(BaseModel):
    """What the flow returns."""

    files: int
    megabytes: float
    largest: list[File] = Field(description="The largest files, largest first")


@pc.flow(tags=["starter"])
def folder_report(
    folder: Annotated[Path, Field(description="The folder to look at")] = Path(),
    top: Annotated[int, Field(ge=1, le=100, description="How many files to name")] = 10,
) -> Report:
    """Measure a folder, one part after the other, and name its **largest files**."""
    log = pc.run().logger
    parts = list_parts(folder)
    shares: list[Share] = []
    for number, part in enumerate(parts, start=1):
        share = measure(part, part != str(folder), top)
        log.info("%s: %d files, %.1f MB", share.folder, share.files, share.bytes / 1e6)
        pc.progress(number, len(parts), share.folder)
        shares.append(share)
    return Report(
        files=sum(share.files for share in shares),
        megabytes=round(sum(share.bytes for share in shares) / 1e6, 3),
        largest=largest((file for share in shares for file in share.largest), top),
    )


@pc.step
def list_parts(folder: Path) -> list[str]:
    """Return the folder itself and the folders in it."""
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    return [str(folder), *sorted(str(path) for path in folder.iterdir() if path.is_dir() and not path.is_symlink())]


@pc.step(retries=1)
def measure(folder: str, deep: bool, top: int) -> Share:
    """Measure the files of one part; a result that is recorded is not measured again."""
    paths = Path(folder).rglob("*") if deep else Path(folder).glob("*")
    files: list[File] = []
    for path in paths:
        try:
            if path.is_file() and not path.is_symlink():
                files.append(File(path=str(path), bytes=path.stat().st_size))
        except OSError as error:
            pc.run().logger.warning("%s is left out: %s", path, error.strerror)
    return Share(folder=folder, files=len(files), bytes=sum(file.bytes for file in files), largest=largest(files, top))


def largest(files: Iterable[File], top: int) -> list[File]:
    """Return the largest of some files."""
    return sorted(files, key=lambda file: file.bytes, reverse=True)[:top]
