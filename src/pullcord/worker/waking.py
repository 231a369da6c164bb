"""Waking code that waits on an event loop, from any thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable


def waker(event: asyncio.Event) -> Callable[[], None]:
    """Return what sets an event of the running loop, called on whatever thread; nothing where that loop is closed."""
    loop = asyncio.get_running_loop()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the flow's own loop may be closed
            loop.call_soon_threadsafe(event.set)

    return wake
