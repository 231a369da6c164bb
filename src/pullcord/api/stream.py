"""The news of a run as Server-Sent Events, from the beginning, without gaps and without repeats.

An event's id is a cursor `STATE.STEPS.LINES`: how far the run's state was, when the last step that was told had ended
(microseconds since 1970), and how many log lines came before and with it. A client that comes back with `Last-Event-ID`
goes on right there, whatever server it finds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pydantic_core import to_json

from pullcord.api.models import moment_of
from pullcord.app import App
from pullcord.core.states import ENDED, RunState, StepState
from pullcord.engine import hub as news

KEEP_ALIVE = 15.0
"""Seconds of silence after which a comment keeps the connection open."""

_FINISHED = (StepState.SUCCEEDED, StepState.FAILED, StepState.INTERRUPTED)

_RANK: dict[str, int] = {
    RunState.SCHEDULED: 1,
    RunState.QUEUED: 2,
    RunState.RUNNING: 3,
    RunState.WAITING: 4,
    RunState.CANCELLING: 5,
    **dict.fromkeys(ENDED, 6),
}
"""How far a state is on the way from the gate to the end."""


class RunStream:
    """One client that follows one run.

    Args:
        app: the running app.
        uuid: the run's id.
        last: the `Last-Event-ID`, or None.
        logs_only: leave out everything but log lines and the end.
    """

    def __init__(self, app: App, uuid: str, last: str | None, logs_only: bool) -> None:
        self._app = app
        self._uuid = uuid
        self._logs_only = logs_only
        self._states, self._steps, self._lines = parse_cursor(last)
        self._since = self._steps
        self._known: set[tuple[int, int]] = set()
        self._shown: str | None = None
        self._progress: dict[str, Any] | None = None

    async def events(self) -> AsyncIterator[bytes]:
        """Yield events until the run has ended and all is told.

        Raises:
            NotFoundError: there is no such run.
        """
        subscription = self._app.engine.hub.subscribe(self._uuid)
        try:
            while True:
                # Read after subscribing, so that no news falls between the two.
                item = await self._app.watch.run(self._uuid)
                async for event in self._catch_up(item):
                    yield event
                if item["state"] in ENDED:
                    yield self._event("end", {"state": item["state"]})
                    return
                if self._app.engine.hub.closed:
                    return  # the client comes back with its cursor when there is a server again
                progress = self._app.engine.hub.progress.get(self._uuid)
                if progress is not None and progress != self._progress and not self._logs_only:
                    self._progress = progress
                    yield self._event("progress", progress)
                try:
                    await self._news(subscription)
                except TimeoutError:
                    yield b": still here\n\n"
        finally:
            self._app.engine.hub.unsubscribe(self._uuid, subscription)

    async def _news(self, subscription: news.Subscription) -> None:
        """Wait for something to tell, and take all that has gathered: the store says what it is."""
        async with asyncio.timeout(KEEP_ALIVE):
            await subscription.queue.get()
        while not subscription.queue.empty():
            subscription.queue.get_nowait()

    async def _catch_up(self, item: dict[str, Any]) -> AsyncIterator[bytes]:
        ended = item["state"] in ENDED
        if not self._logs_only:
            for state in _path(item):
                if state not in ENDED and self._told(state, item):
                    yield self._event("run", item if state == item["state"] else _as_of(item, state))
            finished = [(moment_of(s["ended_at"]) or 0, s["seq"], s) for s in item["steps"] if s["state"] in _FINISHED]
            for at, number, step in sorted(finished, key=lambda entry: entry[:2]):
                # A failed step is opened again by a retry of the run, and then ends a second time.
                if at > self._since and (number, at) not in self._known:
                    self._known.add((number, at))
                    self._steps = max(self._steps, at)
                    yield self._event("step", step)
        async for event in self._log_lines():
            yield event
        if ended and not self._logs_only and self._told(item["state"], item):
            yield self._event("run", item)

    def _told(self, state: str, item: dict[str, Any]) -> bool:
        """Say whether to tell a state: once each on the way to the end, and whenever it is news to this client."""
        rank = _RANK[state]
        known_before = self._shown is None and (rank == self._states or state in ENDED)
        if rank > self._states:
            self._states = rank
        elif state != item["state"] or self._shown == state or known_before:
            return False
        self._shown = state
        return True

    async def _log_lines(self) -> AsyncIterator[bytes]:
        await asyncio.to_thread(self._app.engine.logs.written().wait, 5.0)
        for line in await asyncio.to_thread(list, self._app.engine.logs.read(self._uuid, self._lines)):
            self._lines += 1
            yield self._event("log", line)

    def _event(self, kind: str, data: dict[str, Any]) -> bytes:
        cursor = f"{self._states}.{self._steps}.{self._lines}"
        return f"id: {cursor}\nevent: {kind}\ndata: ".encode() + to_json(data) + b"\n\n"


def _as_of(item: dict[str, Any], state: str) -> dict[str, Any]:
    """Return the item of a run as it was in an earlier state."""
    past = item | {"state": state, "ended_at": None, "result": None, "error": None, "steps": [], "attempts": []}
    if state != RunState.CANCELLING:
        past["cancel"] = None
    past["partial"] = past["waiting_for"] = None
    if _RANK[state] < _RANK[RunState.RUNNING]:
        past["started_at"] = None
    return past


def parse_cursor(text: str | None) -> tuple[int, int, int]:
    """Read a `Last-Event-ID`; one that is none of ours means from the beginning."""
    parts = (text or "").split(".")
    if len(parts) == 3 and all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts):
        return int(parts[0]), int(parts[1]), int(parts[2])
    return 0, 0, 0


def _path(item: dict[str, Any]) -> list[str]:
    """Return the states that a run has gone through, as far as its times tell, and where it is now."""
    path: list[str] = []
    if item["not_before"] is not None and item["attempt"] == 1:
        path.append(RunState.SCHEDULED)
    if item["queued_at"] is not None:
        path.append(RunState.QUEUED)
    if item["started_at"] is not None:
        path.append(RunState.RUNNING)
    if item["cancel"] is not None and item["started_at"] is not None:
        path.append(RunState.CANCELLING)
    state = item["state"]
    if state in ENDED or (state in (RunState.WAITING, RunState.SCHEDULED) and state not in path):
        path.append(state)
    return path


async def ndjson(app: App, uuid: str) -> AsyncIterator[bytes]:
    """Yield the log lines there are now, as JSON lines."""
    await asyncio.to_thread(app.engine.logs.written().wait, 5.0)
    for line in await asyncio.to_thread(list, app.engine.logs.read(uuid)):
        yield to_json(line) + b"\n"
