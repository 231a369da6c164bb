"""Where the server's own log lines go: to stderr, for `serve`, `dev`, and `run` without a server."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from pullcord.cli.failing import say
from pullcord.cli.loglines import JsonLine, PlainLine, TextLine
from pullcord.settings import AUTO

if TYPE_CHECKING:
    from pullcord.settings import Settings

Write = Callable[[str], None]

_OURS: Final = "pullcord"


class _Stderr(logging.Handler):
    """Writes lines to stderr, or wherever a live display wants them meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.write: Write = say

    def emit(self, record: logging.LogRecord) -> None:
        # A full disk under stderr must not stop the thread that had something to say.
        with contextlib.suppress(OSError):
            self.write(self.format(record))


_handler = _Stderr()


def log_of_server(settings: Settings, watched: bool) -> None:
    """Write the log of a server.

    Args:
        settings: format and level. `auto` is text on a terminal and JSON elsewhere; of the level it is `info`, but
            `warning` on a terminal, where the server says itself that it is ready.
        watched: whether somebody wants to see on the terminal, too, what the server does (`pullcord dev`).
    """
    terminal = sys.stderr.isatty()
    as_json = settings.log_format == "json" or (settings.log_format == AUTO and not terminal)
    usual = "warning" if terminal and not watched else "info"
    _begin(JsonLine() if as_json else TextLine(), usual if settings.log_level == AUTO else settings.log_level)


def log_of_command(settings: Settings) -> None:
    """Write the log of a server inside a command: warnings, as plain lines, unless the settings say otherwise."""
    formats = {"json": JsonLine, "text": TextLine}
    line = formats.get(settings.log_format, PlainLine)()
    _begin(line, "warning" if settings.log_level == AUTO else settings.log_level)


@contextlib.contextmanager
def lines_to(write: Write) -> Iterator[None]:
    """Give log lines to a live display for a while, so that they do not cut into it."""
    before, _handler.write = _handler.write, write
    try:
        yield
    finally:
        _handler.write = before


def _begin(line: logging.Formatter, level: str) -> None:
    _handler.setFormatter(line)
    root = logging.getLogger()
    if _handler not in root.handlers:
        root.addHandler(_handler)
    root.setLevel(logging.WARNING)  # of libraries, only what is wrong
    logging.getLogger(_OURS).setLevel(level.upper())
