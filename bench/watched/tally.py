"""What polls note of themselves: a file for each process, three numbers a note."""

import os
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(os.environ.get("BENCH_NOTES", "."))


class Tally:
    """Notes of one process.

    Args:
        name: what is noted.
        together: so many notes are written at once; those that are not written when the process ends are gone.
    """

    def __init__(self, name: str, together: int = 1) -> None:
        self._name = name
        self._most = together * 3
        self._numbers = array("q")
        self._file = -1

    def note(self, number: int, detail: int = 0) -> None:
        """Note a number, with the time."""
        self._numbers.extend((number, time.monotonic_ns(), detail))
        if len(self._numbers) >= self._most:
            if self._file < 0:
                path = FOLDER / f"{self._name}-{os.getpid()}"
                self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
            os.write(self._file, self._numbers.tobytes())
            del self._numbers[:]


def read(folder: Path, name: str) -> Iterator[tuple[int, int, int]]:
    """Yield number, time in monotonic nanoseconds, and detail of all notes of that name."""
    for path in folder.glob(f"{name}-*"):
        numbers = array("q", path.read_bytes())
        yield from zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True)
