"""What a run logs becomes lines that the server can read."""

from __future__ import annotations

import io
import logging

from pydantic_core import to_json

from pullcord.core.context import current
from pullcord.worker.logs import RunHandler


class Lines:
    """Takes log lines, as an execution does."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str, str]] = []

    def log(self, at: int, level: str, logger: str, text: str) -> None:
        """Take one line."""
        self.taken.append((level, logger, text))


def test_logging_takes_anything_for_a_name() -> None:
    """The server kills a worker whose lines are no text, and a line that is no UTF-8 takes its neighbours along."""
    lines, handler = Lines(), RunHandler(io.StringIO())
    token = current.set(lines)  # type: ignore[arg-type]
    try:
        for name, level in (("a\ud800", "INFO"), (5, "INFO"), ("a", "L\ud800")):
            handler.emit(logging.makeLogRecord({"name": name, "levelname": level, "msg": "b\ud800"}))
    finally:
        current.reset(token)
    assert lines.taken == [("info", "a?", "b?"), ("info", "5", "b?"), ("l?", "a", "b?")]
    to_json(lines.taken)
