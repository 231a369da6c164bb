"""A command whose process serves others stays until nobody counts on it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from pullcord.cli.session import Session
from pullcord.cli.watching import linger
from pullcord.client import AsyncClient


class Server:
    """Runs as a client sees them, and what was done in which order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.open: list[dict[str, Any]] = []
        self.runs = self

    async def list(self, *, state: str, **_: Any) -> list[dict[str, Any]]:
        """Return the open runs; all are running."""
        return self.open if state == "running" else []

    async def wait(self, run_id: str) -> None:
        """See a run end."""
        self.open.clear()
        self.done.append(f"{run_id} ended")

    def findable(self, yes: bool) -> None:
        """Be found or not; somebody comes just before it is found no longer, the first time."""
        if not self.done:
            self.open.append({"id": "late", "attempt": 1})
        self.done.append("found again" if yes else "hidden")


async def test_who_joins_at_the_last_moment_is_waited_for() -> None:
    server = Server()
    await linger(Session(cast(AsyncClient, server), True, datetime.now(UTC), server.findable), quiet=True)
    assert server.done == ["hidden", "found again", "late ended", "hidden"]
