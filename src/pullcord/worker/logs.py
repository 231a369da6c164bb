"""What a run prints, logs and warns becomes its log lines."""

from __future__ import annotations

import io
import logging
import sys
import time
import warnings
from typing import Protocol, TextIO

from pullcord.core.context import current
from pullcord.worker.failures import clean

LINE_LIMIT = 16_384
"""A longer line is cut, in characters."""


class LineSink(Protocol):
    """Something that takes log lines: the execution of a run."""

    def log(self, at: int, level: str, logger: str, text: str) -> None:
        """Take one line."""


class RunStream(io.TextIOBase):
    """Stands in for stdout or stderr: lines of a run go to its log, all else to the real stream."""

    def __init__(self, real: TextIO, level: str, name: str) -> None:
        self._real = real
        self._level = level
        self._name = name
        self._partial: dict[int, str] = {}

    def write(self, text: str) -> int:
        """Take text; whole lines are logged."""
        sink = current.get()
        if sink is None:
            return self._real.write(text)
        pending = self._partial.pop(id(sink), "") + text
        *lines, rest = pending.split("\n")
        for line in lines:
            emit(sink, self._level, self._name, line)
        if rest:
            self._partial[id(sink)] = rest
        return len(text)

    def flush(self) -> None:
        """Flush the real stream; an unfinished line of a run waits for its end."""
        self._real.flush()

    def finish(self, sink: object) -> None:
        """Log the unfinished last line of a run that ends."""
        rest = self._partial.pop(id(sink), "")
        if rest:
            emit(sink, self._level, self._name, rest)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Text is UTF-8."""
        return "utf-8"

    @property
    def buffer(self) -> io.BufferedIOBase:
        """The real stream's bytes; what is written there is no log line."""
        return self._real.buffer  # type: ignore[return-value]

    def fileno(self) -> int:
        """Return the real stream's descriptor."""
        return self._real.fileno()

    def isatty(self) -> bool:
        """A log is no terminal."""
        return False

    def writable(self) -> bool:
        """It can be written."""
        return True


class RunHandler(logging.Handler):
    """Sends log records of a run to its log, all else to the real stderr."""

    def __init__(self, real: TextIO) -> None:
        super().__init__()
        self._real = real

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record."""
        try:
            text = self.format(record)
            sink = current.get()
            if sink is not None:
                emit(sink, str(record.levelname).lower(), record.name, text)
            elif record.levelno >= logging.WARNING:
                self._real.write(f"{record.levelname} {record.name}: {text}\n")
        except Exception:
            self.handleError(record)


def emit(sink: object, level: str, logger: str, text: str) -> None:
    """Give lines to a run's log."""
    at = time.time_ns() // 1000
    level, logger = clean(str(level)), clean(str(logger))  # logging takes anything for them
    for line in text.split("\n"):
        sink.log(at, level, logger, clean(line[:LINE_LIMIT]))  # type: ignore[attr-defined]


def capture() -> tuple[RunStream, RunStream]:
    """Take over stdout, stderr, logging and warnings of this process; return the two streams."""
    out, err = sys.stdout, sys.stderr
    if isinstance(out, io.TextIOWrapper):  # what is printed outside of runs shows at once, and outlives the process
        out.reconfigure(line_buffering=True)
    streams = RunStream(out, "info", "stdout"), RunStream(err, "error", "stderr")
    sys.stdout, sys.stderr = streams
    root = logging.getLogger()
    root.addHandler(RunHandler(err))
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    return streams
