"""Following a run: plain lines where nobody looks, a live display on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

from pullcord.cli.failing import clean, say
from pullcord.cli.output import duration, parse_time
from pullcord.core.states import ENDED

if TYPE_CHECKING:
    from pullcord.client import AsyncClient, Event


class View(Protocol):
    """Shows what happens to a run."""

    def event(self, event: Event) -> None:
        """Show one event."""

    def note(self, text: str) -> None:
        """Show a line about the command itself."""

    def close(self) -> None:
        """Show no more."""


class Silent:
    """Shows nothing."""

    def event(self, event: Event) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Write the line all the same."""
        say(text)

    def close(self) -> None:
        """Nothing to end."""


class Plain:
    """Writes lines to stderr."""

    def __init__(self) -> None:
        self._state = ""
        self._tenth = -1

    def event(self, event: Event) -> None:
        """Write a line for what is new."""
        data = event.data
        if event.kind == "run" and data["state"] != self._state and data["state"] not in ENDED:
            self._state = data["state"]
            say(f"{data['flow']} is {self._state} (run {data['id']})")
            if (why := next_attempt(data)) is not None:
                say(why)
            asked = question_line(data)
            if asked is not None:
                say(asked)
        elif event.kind == "step":
            say(step_line(data))
        elif event.kind == "log":
            say(log_line(data))
        elif event.kind == "progress" and data.get("total"):
            tenth = int(10 * data["done"] / data["total"])
            if tenth != self._tenth:
                self._tenth = tenth
                say(f"{tenth * 10} % {clean(data.get('text') or '')}".rstrip())

    def note(self, text: str) -> None:
        """Write the line."""
        say(text)

    def close(self) -> None:
        """Nothing to end."""


def next_attempt(run: dict[str, Any]) -> str | None:
    """Return what a run that has failed waits for before it is tried again, or None."""
    waiting_for = run.get("waiting_for") or {}
    return clean(waiting_for["text"]) if waiting_for.get("kind") == "retry" else None


def view(quiet: bool) -> View:
    """Return the view that fits where stderr goes."""
    if quiet:
        return Silent()
    if sys.stderr.isatty():
        from pullcord.cli.live import Live

        return Live()
    return Plain()


async def follow(client: AsyncClient, run_id: str, shown: View) -> dict[str, Any]:
    """Show a run until it has ended; return it."""
    item: dict[str, Any] | None = None
    try:
        async for event in client.runs.events(run_id):
            if event.kind == "run":
                item = event.data
            shown.event(event)
    finally:
        shown.close()
    if item is not None and item["state"] in ENDED:
        return item  # the server may be a command that was waiting for just this end, and be gone
    return await client.runs.get(run_id)


def question_line(run: dict[str, Any]) -> str | None:
    """Return what a run asks, and how to answer, as a line; None when it asks nothing."""
    waits = run.get("waiting_for")
    if waits is None or waits.get("question_id") is None:
        return None
    return f"it asks: {clean(waits['text'])} (`pullcord questions answer {waits['question_id']}` answers)"


def step_line(step: dict[str, Any]) -> str:
    """Return a finished step as a line."""
    mark = "✓" if step["state"] == "succeeded" else "✗"
    error = step.get("error")
    text = f"{mark} {clean(step['name'])} ({duration(step['started_at'], step['ended_at'])})"
    if step["attempt"] > 1:
        text += f", try {step['attempt']}"
    if step["state"] == "interrupted":
        return f"{text}: interrupted"
    return text if error is None else f"{text}: {error_line(error)}"


def log_line(line: dict[str, Any]) -> str:
    """Return a log line."""
    level = "" if line["level"] == "info" else f"{line['level']}: "
    return f"{parse_time(line['at']).astimezone():%H:%M:%S} {clean(level + line['text'])}"


def error_line(error: dict[str, Any]) -> str:
    """Return an error as a line."""
    return clean(f"{error['type'].rpartition('.')[2]}: {error['message']}")


def summary(run: dict[str, Any]) -> str:
    """Return how a run ended, as a line."""
    took = duration(run["started_at"], run["ended_at"])
    text = f"{run['flow']} {run['state']}" + (f" after {took}" if took else "")
    if run["error"] is not None:
        text += f": {error_line(run['error'])}"
    elif run["cancel"] is not None and run["cancel"].get("reason"):
        text += f": {clean(run['cancel']['reason'])}"
    return f"{text} (run {run['id']})"
