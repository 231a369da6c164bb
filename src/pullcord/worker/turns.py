"""Calls with the same identity at the same time: one is executed, and the others wait for its record."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from pullcord.worker.waking import waker


class Turns:
    """Who executes what, by identity; any thread and any event loop may ask."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._lock = threading.Lock()

    def take(self, identity: str) -> bool:
        """Take an identity, or wait on this thread until the call that has it is over; say whether it was taken."""
        over = threading.Event()
        if self._enter(identity, over.set):
            return True
        over.wait()
        return False

    async def take_async(self, identity: str) -> bool:
        """Do the same on the event loop."""
        over = asyncio.Event()
        if self._enter(identity, waker(over)):
            return True
        await over.wait()
        return False

    def taken(self, identity: str) -> bool:
        """Say whether a call with this identity is executed now."""
        return identity in self._waiting

    def leave(self, identity: str) -> None:
        """The call that was executed is over."""
        with self._lock:
            waiting = self._waiting.pop(identity)
        for wake in waiting:
            wake()

    def _enter(self, identity: str, wake: Callable[[], None]) -> bool:
        with self._lock:
            waiting = self._waiting.get(identity)
            if waiting is None:
                self._waiting[identity] = []
                return True
            waiting.append(wake)
            return False
