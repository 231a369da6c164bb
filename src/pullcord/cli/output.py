"""What commands write to stdout: JSON for programs, tables for people. Rich is imported when something is drawn."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from pullcord.cli.failing import clean

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

STYLES = {
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "cancelling": "yellow",
    "interrupted": "yellow",
    "running": "cyan",
    "waiting": "cyan",
    "admitted": "green",
    "replayed": "green",
    "rejected": "red",
    "denied": "red",
    "errored": "red",
    "skipped": "yellow",
    "deduplicated": "yellow",
    "missed": "yellow",
    "expired": "yellow",
    "ok": "green",
    "failing": "red",
    "disabled": "yellow",
    "unserved": "yellow",
    "orphaned": "dim",
    "fired": "green",
    "refused": "red",
    "changed": "cyan",
    "delivered": "green",
    "pending": "cyan",
}
"""The colours of run states, request outcomes, the health of triggers and what their histories say."""


def emit(value: Any) -> None:
    """Write JSON."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def emit_line(value: Any) -> None:
    """Write JSON on one line."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def console(stderr: bool = False) -> Console:
    """Return a console; where it is no terminal, lines are as long as they need to be."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else 1000)


def draw(what: RenderableType) -> None:
    """Write something rich to stdout."""
    target = console()
    if target.is_terminal:
        target.print(what)
        return
    with target.capture() as capture:
        target.print(what)
    typer.echo("\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n")))


def table(*headers: str, rows: list[list[Any]], whole: tuple[str, ...] = ()) -> Table:
    """Make a table.

    Args:
        headers: the columns.
        rows: texts, or what rich can draw.
        whole: columns that are never broken into lines.
    """
    from rich.table import Table
    from rich.text import Text

    result = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        result.add_column(header, no_wrap=header in whole, overflow="fold")
    for row in rows:
        result.add_row(*(Text(clean(cell)) if isinstance(cell, str) else cell for cell in row))
    return result


def coloured(state: str | None) -> Text:
    """Return a state or outcome in its colour."""
    from rich.text import Text

    return Text(clean(state or ""), style=STYLES.get(state or "", ""))


def parse_time(text: str) -> datetime:
    """Read a time of the API."""
    return datetime.fromisoformat(text)


def when(text: str | None) -> str:
    """Return a time for people: local, and how long ago."""
    if text is None:
        return ""
    at = parse_time(text)
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S} ({ago(text)})"


def local(text: str | None) -> str:
    """Return a time of the API for people who may not guess the zone: local, its name, and how soon it will be."""
    return "" if text is None else f"{parse_time(text).astimezone():%Y-%m-%d %H:%M:%S %Z} ({ago(text)})"


def ago(text: str | None) -> str:
    """Return how long ago a time was, or how soon it will be."""
    return "" if text is None else distance((datetime.now(UTC) - parse_time(text)).total_seconds())


def narrow(columns: int) -> bool:
    """Say whether stdout is a terminal with fewer columns."""
    return sys.stdout.isatty() and console().width < columns


def distance(seconds: float) -> str:
    """Return how long ago something was, or how soon it will be."""
    size = abs(seconds)
    if size < 2:
        return "now"
    for unit, length, limit in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 129_600), ("d", 86_400, float("inf"))):
        if size < limit:
            text = f"{round(size / length)} {unit}"
            return f"{text} ago" if seconds > 0 else f"in {text}"
    return ""


def duration(start: str | None, end: str | None) -> str:
    """Return how long something took, or has taken so far."""
    if start is None:
        return ""
    until = datetime.now(UTC) if end is None else parse_time(end)
    return length((until - parse_time(start)).total_seconds())


def length(seconds: float) -> str:
    """Return a number of seconds for people."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def amount(size: int) -> str:
    """Return a size in bytes for people."""
    if size < 1000:
        return f"{size} B"
    if size < 1_000_000:
        return f"{size / 1024:.1f} KB"
    return f"{size / 1024**2:.1f} MB" if size < 1_000_000_000 else f"{size / 1024**3:.1f} GB"


def who(invoker: dict[str, Any]) -> str:
    """Return who asked, with those on whose behalf."""
    return " for ".join([invoker["id"], *(invoker.get("on_behalf_of") or [])])


def trigger(item: dict[str, Any]) -> str:
    """Return what asked."""
    return " ".join(str(part) for part in (item["kind"], item.get("name")) if part)
