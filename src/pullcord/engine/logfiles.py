"""Log lines of runs: a file of JSON lines for each run, with a cap. Best-effort durable, not in the database."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from pydantic_core import from_json

from pullcord.clock import rfc3339

log = logging.getLogger(__name__)

CAP: Final = 10 * 1024 * 1024
"""A run's log is not longer, in bytes; what follows is dropped, and a last line says so."""


PREFIX: Final = 6
"""So many characters of a run's id are the name of its log's folder."""


class LogFiles:
    """Writes log lines on a thread of its own, so that a slow disk delays nobody.

    Args:
        folder: where the files go; a folder for each day of the run's id.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._queue: SimpleQueue[tuple[str, list[list[Any]]] | threading.Event | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="pullcord-logs", daemon=True)
        self._thread.start()

    def append(self, run: str, lines: list[list[Any]]) -> None:
        """Add lines `[at, level, logger, text]` to a run's log."""
        self._queue.put((run, lines))

    def written(self) -> threading.Event:
        """Return an event that is set when everything appended before is in the files."""
        event = threading.Event()
        self._queue.put(event)
        return event

    def stop(self) -> None:
        """Write what is queued and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def path(self, run: str) -> Path:
        """Return the file of a run's log."""
        return log_path(self._folder, run)

    def read(self, run: str, skip: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the log items of a run.

        Args:
            skip: how many to leave out at the beginning.
        """
        try:
            with self.path(run).open("rb") as file:
                for number, line in enumerate(file):
                    if number >= skip and line.endswith(b"\n"):
                        yield from_json(line)
        except FileNotFoundError:
            return

    def _work(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, threading.Event):
                item.set()
                continue
            try:
                self._write(*item)
            except OSError as error:
                log.warning("log lines of run %s are lost: %s", item[0], error, extra={"run_id": item[0]})

    def _write(self, run: str, lines: list[list[Any]]) -> None:
        path = self.path(run)
        try:
            file = path.open("ab")
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = path.open("ab")
        with file:
            size = file.tell()
            for line in lines:
                if size > CAP:
                    return
                data = (json.dumps(log_item(line), ensure_ascii=False) + "\n").encode("utf-8", "replace")
                size += len(data)
                if size > CAP:
                    text = f"the log is full ({CAP:,} bytes): further lines are dropped"
                    notice = json.dumps(log_item([line[0], "warning", "pullcord", text]))
                    # The padding takes the file over its cap, which is how the next append knows.
                    data = notice.encode().ljust(size - file.tell()) + b"\n"
                file.write(data)


class LogFolder:
    """The files of all logs, for who deletes them.

    Args:
        folder: where they are; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folders(self) -> list[str]:
        """Return the names of the folders in it, oldest first."""
        try:
            return sorted(path.name for path in self._folder.iterdir() if len(path.name) == PREFIX)
        except FileNotFoundError:
            return []

    def runs_in(self, name: str) -> list[tuple[str, float]]:
        """Return the ids of the runs whose logs are in a folder, and when each was written to, seconds since 1970."""
        found: list[tuple[str, float]] = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder / name) as entries:
            for entry in entries:
                run, _, suffix = entry.name.rpartition(".")
                if suffix == "jsonl":
                    with contextlib.suppress(FileNotFoundError):
                        found.append((run, entry.stat().st_mtime))
        return found

    def size_of(self, run: str) -> int:
        """Return the size of a run's log, bytes."""
        try:
            return log_path(self._folder, run).stat().st_size
        except FileNotFoundError:
            return 0

    def remove(self, runs: Sequence[str]) -> dict[str, int]:
        """Delete the logs of runs, and folders that are empty then; return the size of each, bytes."""
        sizes: dict[str, int] = {}
        folders: set[Path] = set()
        for run in runs:
            path = log_path(self._folder, run)
            with contextlib.suppress(FileNotFoundError):
                size = path.stat().st_size
                path.unlink()
                sizes[run] = size
                folders.add(path.parent)
        for folder in folders:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
        return sizes


def log_path(folder: Path, run: str) -> Path:
    """Return the file of a run's log: the first 6 digits of a UUIDv7 change every 4.7 hours."""
    return folder / run[:PREFIX] / f"{run}.jsonl"


def log_item(line: list[Any]) -> dict[str, Any]:
    """Return a log line as the API shows it."""
    at, level, logger, text = line
    return {"at": rfc3339(at), "level": level, "logger": logger, "text": text}
