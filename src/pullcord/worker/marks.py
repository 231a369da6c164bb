"""The worker's side of the marks: which polls execute right now, kept where the server can see it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any

from pullcord.wire.marks import LOOP, SIZE, SLOTS


class Marks:
    """Memory that the server reads through `/proc`.

    Attributes:
        descriptor: the number that the manifest tells the server.
    """

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("pullcord-marks", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, SIZE)
        self._memory = mmap.mmap(self.descriptor, SIZE)
        self.slots = memoryview(self._memory).cast("q")
        self._free = list(range(SLOTS - 1, LOOP, -1))

    def take(self, ticket: int) -> int | None:
        """Mark a poll that executes in this thread; return its slot, or None when all are taken."""
        try:
            slot = self._free.pop()
        except IndexError:
            return None
        self.slots[slot] = ticket
        return slot

    def give_back(self, slot: int | None) -> None:
        """The poll does not execute any more."""
        if slot is not None:
            self.slots[slot] = 0
            self._free.append(slot)

    def close(self) -> None:
        """Free the memory."""
        self.slots.release()
        self._memory.close()
        os.close(self.descriptor)


@coroutine
def marked(body: Coroutine[Any, Any, Any], slots: memoryview[int], ticket: int) -> Generator[Any, Any, Any]:
    """Await a coroutine, with the ticket in the loop's slot whenever its code executes, and only then."""
    resume: Any = body.send
    value: Any = None
    while True:
        slots[LOOP] = ticket
        try:
            waited = resume(value)
        except StopIteration as end:
            return end.value
        finally:
            slots[LOOP] = 0
        try:
            value = yield waited
            resume = body.send
        except BaseException as error:
            resume, value = body.throw, error
