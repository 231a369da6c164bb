"""What the server's own log lines look like on stderr, for `serve`, `dev`, and `run` without a server."""

from __future__ import annotations

import logging

from pullcord.cli.failing import clean, say

_said: set[str] = set()


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = clean(self.format(record))
        _said.add(text)
        say(text)


def to_stderr() -> None:
    """Write warnings and worse of this process to stderr, a message a line."""
    handler = _Stderr(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger().addHandler(handler)


def was_said(text: str) -> bool:
    """Say whether a log line said this already."""
    return text in _said
