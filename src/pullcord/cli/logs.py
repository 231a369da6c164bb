"""What the server's own log lines look like on stderr, for `serve`, `dev`, and `run` without a server."""

from __future__ import annotations

import contextlib
import logging
from collections import deque

from pullcord.cli.failing import clean, say

_said: deque[str] = deque(maxlen=200)


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = clean(self.format(record))
        _said.append(text)
        # A full disk under stderr must not stop the thread that had something to say.
        with contextlib.suppress(OSError):
            say(text)


def to_stderr() -> None:
    """Write warnings and worse of this process to stderr, a message a line."""
    handler = _Stderr(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger().addHandler(handler)


def was_said(text: str) -> bool:
    """Say whether a log line said this already."""
    return text in _said
