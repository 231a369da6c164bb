"""Log lines: JSON with fields, or text for people; a live display takes them while it lives."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from pullcord.cli import logs
from pullcord.cli.loglines import JsonLine, PlainLine, TextLine
from pullcord.settings import Settings

FIELDS = {"run_id": "r1", "flow": "tidy", "worker_pid": 7, "why": None}


def record(text: str = "it is gone", level: int = logging.WARNING, error: Any = None, **fields: Any) -> Any:
    """Return a record as a logger makes it."""
    return logging.getLogger("pullcord.x").makeRecord("pullcord.x", level, "f", 1, text, (), error, extra=fields)


def raised() -> Any:
    """Return what `sys.exc_info` says of an error."""
    try:
        raise ValueError("on\x1b[31m purpose")
    except ValueError:
        return sys.exc_info()


def test_a_json_line_has_its_fields() -> None:
    line = json.loads(JsonLine().format(record(**FIELDS)))
    at = datetime.fromisoformat(line.pop("at"))
    assert at.tzinfo is UTC
    assert line == {
        "level": "warning", "logger": "pullcord.x", "text": "it is gone",
        "run_id": "r1", "flow": "tidy", "worker_pid": 7,
    }  # fmt: skip


def test_a_json_line_is_one_line_whatever_happens() -> None:
    line = JsonLine().format(record("two\nlines", error=raised(), path=object()))
    assert "\n" not in line
    assert "ValueError" in json.loads(line)["traceback"]


def test_text_says_what_the_words_do_not() -> None:
    line = TextLine().format(record(**FIELDS))
    assert line.startswith("20") and "Z " in line
    assert "warning" in line and "it is gone" in line and "run_id=r1 worker_pid=7" in line
    assert "flow=" not in line


@pytest.mark.parametrize("line", [TextLine(), PlainLine()])
def test_a_traceback_is_below_and_plays_no_tricks(line: logging.Formatter) -> None:
    first, *rest = line.format(record("a\x1b[2Jb", error=raised())).splitlines()
    assert "\x1b[2J" not in first and "ab" in first
    assert rest[0] == "    Traceback (most recent call last):"
    assert rest[-1] == "    ValueError: on purpose"


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clean_logging() -> Iterator[None]:
    """Leave logging as it was."""
    root, ours = logging.getLogger(), logging.getLogger("pullcord")
    before = root.level, ours.level, list(root.handlers)
    yield
    root.setLevel(before[0])
    ours.setLevel(before[1])
    root.handlers[:] = before[2]


SETTINGS = Settings()


@pytest.mark.usefixtures("clean_logging")
@pytest.mark.parametrize(
    ("settings", "terminal", "watched", "kind", "level"),
    [
        (SETTINGS, False, False, JsonLine, "INFO"),
        (SETTINGS, True, False, TextLine, "WARNING"),
        (SETTINGS, True, True, TextLine, "INFO"),
        (replace(SETTINGS, log_format="json"), True, False, JsonLine, "WARNING"),
        (replace(SETTINGS, log_format="text"), False, False, TextLine, "INFO"),
        (replace(SETTINGS, log_level="debug"), True, False, TextLine, "DEBUG"),
    ],
)
def test_where_it_goes_decides_what_is_not_said(
    settings: Settings, terminal: bool, watched: bool, kind: type, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    logs.log_of_server(settings, watched)
    (handler,) = (each for each in logging.getLogger().handlers if each is logs._handler)
    assert type(handler.formatter) is kind
    assert logging.getLogger("pullcord").level == getattr(logging, level)


@pytest.mark.usefixtures("clean_logging")
def test_a_live_display_takes_the_lines_while_it_lives(capsys: pytest.CaptureFixture[str]) -> None:
    logs.log_of_command(SETTINGS)
    taken: list[str] = []
    log = logging.getLogger("pullcord.test")
    log.info("not said")
    with logs.lines_to(taken.append):
        log.warning("inside")
    log.warning("outside")
    assert taken == ["inside"]
    assert capsys.readouterr().err == "outside\n"
