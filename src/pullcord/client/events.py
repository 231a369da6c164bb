"""Server-Sent Events: reading them, and going on after a lost connection."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import from_json

from pullcord.client.errors import ServerUnreachableError
from pullcord.core.until import passed, reached

SILENCE: Final = 45.0
"""A stream that is silent for as long, in seconds, is lost: the server shows life every 15."""

PATIENCE: Final = 30.0
"""Seconds that a lost stream is tried again: the time a server takes to restart. One that never came is not."""

LONGEST_PAUSE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a run.

    Attributes:
        kind: `run`, `step`, `progress`, `log` or `end`.
        data: the run's item, the step, the progress, the log line, the state.
        id: where to go on after this event.
    """

    kind: str
    data: dict[str, Any]
    id: str


class EventReader:
    """Cuts a stream of bytes into events; a sign of life without an event is None."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Event | None]:
        """Yield what became whole with this chunk."""
        if b"\n\n" not in self._rest[-1:] + chunk:
            self._rest += chunk
            return
        *blocks, self._rest = (self._rest + chunk).split(b"\n\n")
        for block in blocks:
            yield self._event(block)

    def _event(self, block: bytes) -> Event | None:
        fields: dict[bytes, bytes] = {}
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            fields[name] = value.removeprefix(b" ")
        if b"data" not in fields:
            return None
        return Event(
            fields.get(b"event", b"message").decode(), from_json(fields[b"data"]), fields.get(b"id", b"").decode()
        )


class Following:
    """The state of following one run: where to go on, and for how long to try.

    Args:
        after: the id of the last event known, or None for the beginning.
        timeout: seconds after which to stop, or None.
    """

    def __init__(self, after: str | None = None, timeout: float | None = None) -> None:
        self._after = after
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._lost_at: float | None = None
        self._patience = 1.0
        self._pause = 0.1
        self.ended = False

    @property
    def headers(self) -> dict[str, str]:
        """What to ask the server with."""
        headers = {"accept": "text/event-stream"}
        return headers if self._after is None else headers | {"last-event-id": self._after}

    @property
    def left(self) -> float:
        """Seconds until the next sign of life must have come, or the time is over; 0 when it is over."""
        return SILENCE if self._deadline is None else max(0.0, min(SILENCE, self._deadline - time.monotonic()))

    def is_over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.ended or self.left <= 0

    def note(self, event: Event | None) -> None:
        """Take notice of an event or sign of life."""
        self._lost_at, self._pause, self._patience = None, 0.1, PATIENCE
        if event is not None:
            self._after = event.id or self._after
            self.ended = event.kind == "end"

    def lost(self, error: Exception | None) -> float:
        """Return how long to pause before the next try.

        Raises:
            ServerUnreachableError: it has been tried for long enough.
        """
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = now
        if now - self._lost_at > self._patience:
            if isinstance(error, ServerUnreachableError) and self._patience < PATIENCE:
                raise error
            raise ServerUnreachableError(
                "the connection to the server was lost and does not come back; the run may go on there, so look again"
            ) from error
        self._pause = min(LONGEST_PAUSE, self._pause * 2)
        return min(self._pause, self.left)


def shows(event: Event | None, until: str) -> bool:
    """Say whether an event shows that its run is as far."""
    if event is None:
        return False
    if event.kind == "step":
        return passed(event.data, until)
    return event.kind == "end" or (event.kind == "run" and reached(event.data, until))
