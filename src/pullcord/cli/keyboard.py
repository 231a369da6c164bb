"""Single keys from a terminal, and news that its size has changed, while something is drawn."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from types import TracebackType
from typing import Any, Final, Self

INTERRUPT: Final = "\x03"
"""What Ctrl-C types."""


class Keyboard:
    """Takes keys without an Enter; a context manager that gives the terminal back as it was.

    Where stdin is no terminal there are no keys, and only the time passes. A Ctrl-C raises `KeyboardInterrupt`; where
    that is swallowed, as in a destructor, the next key is `INTERRUPT`.
    """

    def __init__(self) -> None:
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._before: list[Any] = []
        self._woken, self._wake = os.pipe()
        self._interrupted = False

    def __enter__(self) -> Self:
        if self._keys is not None:
            self._before = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)
        os.set_blocking(self._wake, False)
        self._old_handler = signal.signal(signal.SIGWINCH, lambda *_: None)
        self._old_interrupt = signal.signal(signal.SIGINT, self._interrupt)
        self._old_wake = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        signal.set_wakeup_fd(self._old_wake)
        signal.signal(signal.SIGINT, self._old_interrupt)
        signal.signal(signal.SIGWINCH, self._old_handler)
        if self._keys is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)
        os.close(self._woken)
        os.close(self._wake)

    def key(self, seconds: float) -> str | None:
        """Return the next key; an empty text when the size has changed, None when the time is over."""
        if self._interrupted:
            return INTERRUPT
        sources = [self._woken] if self._keys is None else [self._woken, self._keys]
        ready, _, _ = select.select(sources, [], [], max(0.0, seconds))
        if self._woken in ready:
            os.read(self._woken, 4096)
            return ""
        return os.read(ready[0], 64).decode(errors="replace") if ready else None

    def _interrupt(self, *_: object) -> None:
        self._interrupted = True
        raise KeyboardInterrupt
