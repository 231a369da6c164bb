"""A server inside the test with code that a test writes, for triggers: it is told when to go on by files."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from pullcord import App
from pullcord.gate.request import OWNER
from pullcord.store.queries.page import Page
from tests.system.processes import PATIENCE

PRELUDE = '''
import asyncio
import ctypes
import json
import os
import time
from pathlib import Path

import pullcord as pc

HERE = Path(__file__).parent


def note(name, what):
    with (HERE / name).open("a") as file:
        file.write(f"{what}\\n")


async def told(run):
    """Wait for the test's word about a run."""
    while True:
        for name in (run, "all"):
            if (HERE / f"{name}.end").exists():
                return (HERE / f"{name}.end").read_text()
        await asyncio.sleep(0.01)

'''


class Served:
    """An `App` over one file of code, which a test may write anew, and start again.

    Args:
        folder: where the code, its notes and the data are.
        source: the code, after `PRELUDE`.
    """

    def __init__(self, folder: Path, source: str, *more: str) -> None:
        self.folder = folder / "code"
        self.data_dir = folder / "data"
        self.folder.mkdir(exist_ok=True)
        self.files = [self.folder / f"code{number}.py" for number in range(1 + len(more))]
        for file, text in zip(self.files, (source, *more), strict=True):
            self._write(file, text)
        self.app: App

    def _write(self, file: Path, text: str) -> None:
        """Replace a file at once: a worker that an earlier change has started may be about to read it."""
        fresh = file.with_suffix(".fresh")
        fresh.write_text(PRELUDE + text)
        fresh.replace(file)

    def make(self) -> App:
        """Make a server."""
        return App(self.files, self.data_dir, workers=1, stop_patience=0.0)

    async def start(self) -> Served:
        """Start, and wait until the code is loaded and its triggers are registered."""
        self.app = self.make()
        await self.app.start()
        await self.app.ready()
        await self.app.registry.wait_ready()
        return self

    async def stop(self) -> None:
        """Stop; what is running goes on next time."""
        await self.app.stop()

    async def restart(self) -> None:
        """Stop and start."""
        await self.stop()
        await self.start()

    def deploy(self, text: str, number: int = 0) -> None:
        """Have other code served from now on."""
        self._write(self.files[number], text)
        self.app.reload()

    # --- what is so ----------------------------------------------------------------------------------

    def trigger(self, name: str) -> dict[str, Any]:
        """Return a trigger as the API shows it."""
        return dict(self.app.triggers.get(name))

    def known(self, *names: str) -> bool:
        """Say whether triggers are registered."""
        return set(names) <= {item["name"] for item in self.app.triggers.listed()}

    async def history(self, name: str) -> list[dict[str, Any]]:
        """Return a trigger's history, newest first."""
        items: list[dict[str, Any]] = (await self.app.triggers.history(name, Page(1000)))["items"]
        return items

    async def told(self, name: str) -> Counter[str]:
        """Return how often a trigger's history tells of each outcome."""
        counts: Counter[str] = Counter()
        for item in await self.history(name):
            counts[item["outcome"]] += item["count"]
        return counts

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Read rows."""
        return await self.app.store.read(lambda connection: [tuple(row) for row in connection.execute(sql, {})])

    async def runs(self, flow: str) -> list[tuple[str, str, dict[str, Any]]]:
        """Return id, state and inputs of a flow's runs, the oldest first."""
        rows = await self.rows(f"SELECT uuid, state, inputs FROM runs WHERE flow = '{flow}' ORDER BY id")
        return [(uuid, state, from_json(inputs)) for uuid, state, inputs in rows]

    async def outcomes(self, trigger: str) -> Counter[str]:
        """Return how many requests of a trigger became what."""
        rows = await self.rows(f"SELECT outcome, count FROM requests WHERE trigger_name = '{trigger}'")
        counts: Counter[str] = Counter()
        for outcome, count in rows:
            counts[outcome] += count
        return counts

    def notes(self, name: str) -> list[str]:
        """Return what the code noted."""
        file = self.folder / name
        return file.read_text().splitlines() if file.exists() else []

    def say(self, name: str, text: str = "") -> None:
        """Make a file that the code looks for, at once whole."""
        fresh = self.folder / f"{name}.fresh"
        fresh.write_text(text)
        fresh.replace(self.folder / name)

    async def change(self, name: str, **changes: Any) -> None:
        """Change a trigger."""
        await self.app.triggers.change(name, changes, OWNER)

    async def end(self, run: str) -> dict[str, Any]:
        """Wait until a run has ended."""
        item, reached = await self.app.watch.until(run, "ended", PATIENCE)
        assert reached, json.dumps(item)
        return item


async def until(what: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Ask again and again until the answer is true; what is asked may be a coroutine function."""
    deadline = time.monotonic() + patience
    while True:
        answer = what()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return answer
        assert time.monotonic() < deadline, f"it did not come true in {patience:g} s"
        await asyncio.sleep(0.02)
