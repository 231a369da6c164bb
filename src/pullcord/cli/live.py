"""The live display of a run on a terminal: steps and log lines above, one line below that moves."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rich.live import Live as RichLive
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pullcord.cli.failing import clean
from pullcord.cli.follow import log_line, next_attempt, question_line, step_line
from pullcord.cli.logs import lines_to
from pullcord.cli.output import STYLES, console, length

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pullcord.client import Event


class Live:
    """Draws on stderr."""

    def __init__(self) -> None:
        self._console = console(stderr=True)
        self._began = time.monotonic()
        self._flow = ""
        self._state = ""
        self._asked: str | None = None
        self._progress: dict[str, Any] = {}
        self._spinner = Spinner("dots", style="cyan")
        self._live = RichLive(get_renderable=self._line, console=self._console, refresh_per_second=10, transient=True)
        self._live.start()
        self._logs = ExitStack()
        self._logs.enter_context(lines_to(lambda line: self._print(line, "yellow")))

    def event(self, event: Event) -> None:
        """Show what is new."""
        data = event.data
        if event.kind == "run":
            self._flow, self._state = data["flow"], data["state"]
            if (why := next_attempt(data)) is not None:
                self._print(why, "yellow")
            asked = question_line(data)
            if asked is not None and asked != self._asked:
                self._print(asked, "bold")
            self._asked = asked
            self._live.refresh()
        elif event.kind == "step":
            self._print(step_line(data), "green" if data["state"] == "succeeded" else "red")
        elif event.kind == "log":
            style = {"warning": "yellow", "error": "red", "critical": "red"}.get(data["level"], "dim")
            self._print(f"  {log_line(data)}", style)
        elif event.kind == "progress":
            self._progress = data

    def note(self, text: str) -> None:
        """Print the line above the moving one."""
        self._print(text, "yellow")

    def close(self) -> None:
        """Take the moving line away."""
        self._logs.close()
        self._live.stop()

    def _print(self, text: str, style: str) -> None:
        self._console.print(Text(text, style=style))

    def _line(self) -> RenderableType:
        parts: list[RenderableType] = [
            self._spinner,
            Text(clean(self._flow), style="bold"),
            Text(self._state, style=STYLES.get(self._state, "")),
        ]
        done, total = self._progress.get("done"), self._progress.get("total")
        if done is not None and total:
            parts += [ProgressBar(total=total, completed=min(done, total), width=24), Text(f"{done:g}/{total:g}")]
        elif done is not None:
            parts.append(Text(f"{done:g}"))
        if self._progress.get("text"):
            parts.append(Text(clean(self._progress["text"]), style="dim", overflow="ellipsis", no_wrap=True))
        parts.append(Text(length(time.monotonic() - self._began), style="dim"))
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_row(*parts)
        return grid
