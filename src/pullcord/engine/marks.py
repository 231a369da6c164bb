"""The server's side of the marks: which polls a worker executes right now, even when it cannot say so itself."""

from __future__ import annotations

import os
import stat
import struct
from typing import Any

from pullcord.wire.marks import SIZE, SLOTS

_LAYOUT = struct.Struct(f"={SLOTS}q")


class Marks:
    """The marks of one worker.

    They are read with `pread`, not mapped: users' code runs beside them, and a mapping of a file that it
    truncates would end the server (design rule 12).

    Args:
        descriptor: of the marks in this process; `close` closes it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def open(cls, pid: int, descriptor: Any) -> Marks | None:
        """Open the marks of a worker.

        Args:
            pid: its process.
            descriptor: what its manifest says under `marks`.

        Returns:
            The marks, or None when there are none to be had: the worker is gone, or what it says is not true.
        """
        if type(descriptor) is not int or descriptor < 0:
            return None
        try:
            # Whatever the worker has put there, opening it must not wait.
            ours = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError:
            return None
        state = os.fstat(ours)
        if not stat.S_ISREG(state.st_mode) or state.st_size < SIZE:
            os.close(ours)
            return None
        return cls(ours)

    def running(self) -> list[int]:
        """Return the tickets of the polls whose code executes at this moment; the loop's own poll comes first."""
        data = b"" if self._descriptor < 0 else os.pread(self._descriptor, SIZE, 0)
        return [ticket for ticket in _LAYOUT.unpack(data) if ticket] if len(data) == SIZE else []

    def close(self) -> None:
        """Let go of the memory; further calls do nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
