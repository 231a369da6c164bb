"""How a line of the server's log is written: as text for people, or as JSON for programs."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

import typer

from pullcord.cli.failing import clean
from pullcord.clock import rfc3339

_STANDARD: Final = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName"}
"""What every record has; all else are the fields that a line was given."""

_COLOURS: Final = {"debug": "bright_black", "info": "cyan", "warning": "yellow", "error": "red", "critical": "red"}

_INSIDE: Final = {"traceback", "role", "why", "cause", "code", "place", "flow", "location"}
"""Fields that the text of a line says in words already, or that have lines of their own."""


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of a line, those without a value left out; an exception becomes `traceback`."""
    fields = {
        name: value for name, value in vars(record).items() if name not in _STANDARD and value not in (None, "", [])
    }
    if record.exc_info and record.exc_info[0] is not None:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return fields


def time_of(record: logging.LogRecord) -> str:
    """Return when a line was written: RFC 3339, UTC."""
    return rfc3339(round(record.created * 1_000_000)) or ""


class JsonLine(logging.Formatter):
    """One JSON object a line: `at`, `level`, `logger`, `text` like the log lines of runs, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "at": time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": record.getMessage(),
        }
        return json.dumps(line | fields_of(record), ensure_ascii=False, default=str)


class TextLine(logging.Formatter):
    """Time, level and text, then fields as `name=value`; a traceback is on the lines below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields, level = fields_of(record), record.levelname.lower()
        told = " ".join(f"{name}={_value(value)}" for name, value in fields.items() if name not in _INSIDE)
        at = time_of(record)[:19] + "Z"
        head = f"{at} {typer.style(f'{level:<7}', fg=_COLOURS.get(level))} {clean(record.getMessage())}"
        line = f"{head}  {typer.style(clean(told), dim=True)}" if told else head
        return "\n".join([line, *_indented(fields)])


class PlainLine(logging.Formatter):
    """The text alone, as commands speak; a traceback is on the lines below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return "\n".join([clean(record.getMessage()), *_indented(fields_of(record))])


def _indented(fields: dict[str, Any]) -> list[str]:
    return [f"    {line}" for line in clean(str(fields.get("traceback", ""))).rstrip().splitlines()]


def _value(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text else text
