"""Artifacts: a row for each that a run stored, while its content is on disk; and contents that nobody needs any more.

Rows are inserted, and contents are taken away, on the writer's thread alone. So no row is ever without its content.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

from pullcord.core.artifact import TRASH, content_path
from pullcord.core.errors import StoreError
from pullcord.store.statement import dump, names, rows
from pullcord.store.transaction import Transaction

_COLUMNS: Final = "run:int token:int identity step name sha256 size:int media_type description rank:int"
_WRITTEN: Final = "identity step name sha256 size:int media_type description rank:int"
_STORE = f"""
INSERT INTO artifacts (run_id, {names(_WRITTEN)}, at)
SELECT s.run, {", ".join(f"s.{name}" for name in names(_WRITTEN).split(", "))}, :now
FROM {rows(_COLUMNS)} AS s WHERE EXISTS (
    SELECT 1 FROM runs r WHERE r.id = s.run AND r.token = s.token AND r.state IN ('running', 'waiting', 'cancelling'))
ON CONFLICT (run_id, identity, name) DO UPDATE SET step = excluded.step, sha256 = excluded.sha256,
    size = excluded.size, media_type = excluded.media_type, description = excluded.description, at = excluded.at,
    rank = excluded.rank"""
_COPY = f"""
INSERT INTO artifacts (run_id, {names(_WRITTEN)}, at)
SELECT :copy, {", ".join(f"a.{name}" for name in names(_WRITTEN).split(", "))}, a.at
FROM artifacts a WHERE a.run_id = :origin AND a.identity IN (SELECT s.identity FROM steps s WHERE s.run_id = :copy)
ON CONFLICT (run_id, identity, name) DO NOTHING"""
_NEEDED = "SELECT EACH[sha256] FROM artifacts WHERE sha256 IN VALUES[contents]"


@dataclass(slots=True)
class NotStored:
    """What became of artifacts.

    Attributes:
        refused: `(run, token, why)` of those that were not stored.
    """

    refused: list[tuple[int, int, str]] = field(default_factory=list)


@dataclass(slots=True)
class StoreArtifacts:
    """Note artifacts whose content is on disk.

    Attributes:
        folder: where contents are.
        messages: `artifact` messages as `wire.messages` describes them.

    The result is a `NotStored`. Of a run that has lost its worker, nothing is noted, and nothing is said.
    """

    keep_trying: ClassVar[bool] = True

    folder: Path
    messages: list[list[Any]]
    done: Callable[[Any], None]

    def split(self) -> Sequence[StoreArtifacts]:
        """One command an artifact."""
        return [StoreArtifacts(self.folder, [message], self.done) for message in self.messages]

    def failure(self, error: StoreError) -> NotStored:
        """Return the result when nothing could be written."""
        return NotStored([(message[1], message[2], error.message) for message in self.messages])

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[StoreArtifacts]) -> list[NotStored]:
        """Look for each content, and insert a row where it is."""
        results: list[NotStored] = []
        latest: dict[tuple[int, str, str], list[Any]] = {}
        for command in commands:
            result = NotStored()
            for message in command.messages:
                _, run, token, identity, step, name, sha256, size, media_type, description = message
                if _size(command.folder / content_path(sha256)) != size:
                    result.refused.append((run, token, f"the content of the artifact {name!r} is not in the folder"))
                    continue
                # A statement must not meet a row twice; the last one counts.
                latest[run, identity, name] = [
                    run, token, identity, step, name, sha256, size, media_type, description, len(latest)
                ]  # fmt: skip
            results.append(result)
        if latest:
            tx.execute(_STORE, {"rows": dump(list(latest.values())), "now": tx.now})
        return results


def copy_artifacts(tx: Transaction, origin: int, copy: int) -> None:
    """Give a run that has copies of another one's step records the artifacts which those steps stored.

    Args:
        tx: the transaction, in which the copies of the records are written already.
        origin: number of the run that stored them.
        copy: number of the run that goes on from its records.
    """
    tx.execute(_COPY, {"origin": origin, "copy": copy})


@dataclass(slots=True)
class DropContents:
    """Take contents away that no artifact has any more; they are moved aside, for the pruner to delete.

    Attributes:
        folder: where contents are.
        contents: their hashes.
        before: what was touched at or after this time, in seconds since 1970 as the file system counts them, stays:
            a worker may be about to report it.

    The result is how many were moved.
    """

    keep_trying: ClassVar[bool] = False

    folder: Path
    contents: list[str]
    before: float
    done: Callable[[Any], None]

    def split(self) -> Sequence[DropContents]:
        """Hashes poison nothing."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[DropContents]) -> list[int]:
        """Look once more who has them, and move the others aside.

        That holds also when the transaction fails: who has them is decided by rows that were there before it, and
        what it adds it adds before this.
        """
        wanted = sorted({content for command in commands for content in command.contents})
        needed = {row[0] for row in tx.array(_NEEDED, {"contents": dump(wanted)})}
        return [_move(command, needed) for command in commands]


def _move(command: DropContents, needed: set[str]) -> int:
    moved = 0
    trash = command.folder / TRASH
    for content in command.contents:
        path = command.folder / content_path(content)
        with contextlib.suppress(FileNotFoundError):
            if content not in needed and path.stat().st_mtime < command.before:
                trash.mkdir(exist_ok=True, mode=0o700)
                path.rename(trash / content)
                moved += 1
    return moved


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
