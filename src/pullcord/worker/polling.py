"""Polling: looks whether events have happened, and tells the server.

Each poll is a task with a deadline of its own, so none holds up another. Results travel together: that keeps
thousands of polls a second cheap.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from pullcord.core.errors import NotFoundError, PollResultError
from pullcord.core.event import Cursor
from pullcord.wire import messages as kinds
from pullcord.wire.frames import Message
from pullcord.worker.calls import Call
from pullcord.worker.declarations import Declarations, Event
from pullcord.worker.events import cursor_of, text_of
from pullcord.worker.instances import Instance, Instances
from pullcord.worker.mapping import map_payload
from pullcord.worker.marks import Marks
from pullcord.worker.outcomes import MOST_TEXT, Outcome, failed, outcome_of
from pullcord.worker.threads import ThreadPool

GATHER: Final = 0.01
"""Seconds that skips wait for company; what must run does not wait."""

MAPPING: Final = 10.0
"""Seconds that the mapping of a payload may take."""


class Polls:
    """The polls of one worker.

    Args:
        loop: the worker's loop.
        threads: where plain functions run.
        send: queues a message for the server.
        declarations: the triggers that the worker has loaded.

    Attributes:
        marks: what is polled right now.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: ThreadPool,
        send: Callable[[Message], None],
        declarations: Declarations,
    ) -> None:
        self.marks = Marks()
        self._loop = loop
        self._threads = threads
        self._send = send
        self._declarations = declarations
        self._instances = Instances(loop, threads)
        self._results: list[list[Any]] = []
        self._size = 0
        self._timer: asyncio.Handle | None = None
        self._urgent = False

    def poll(self, polls: list[list[Any]]) -> None:
        """Begin polls, as the message `poll` has them, and say so."""
        for ticket, name, cursor, parameters, preview in polls:
            self._begin(ticket, name, cursor, parameters, preview)
        if polls:
            # It is queued behind the first lines of the polls.
            self._loop.call_soon(self._send, [kinds.POLLING, polls[-1][0]])

    def forget(self, names: list[str]) -> None:
        """Close what triggers hold open."""
        for name in names:
            self._instances.forget(name)

    def map(self, ticket: int, name: str, payload: str) -> None:
        """Have a declaration's mapping function make contexts of a payload."""

        def mapped(value: Any, error: BaseException | None, _: bool) -> None:
            outcome = value if error is None else failed(error)
            self._send([kinds.MAPPED, ticket, [outcome.kind, outcome.detail]])

        late = f"the mapping of {name!r} took longer than {MAPPING:g} s; leave slow work to the flow"
        call = Call(self._loop, self._threads, MAPPING, late, mapped)
        call.start(map_payload(self._declarations.hooks.get(name), name, payload, call))

    @property
    def busy(self) -> bool:
        """Whether `close` has something to do."""
        return self._instances.busy

    async def close(self) -> None:
        """Tear down what is open."""
        await self._instances.close()

    def _begin(self, ticket: int, name: str, cursor: str | None, parameters: str, preview: bool) -> None:
        event = self._declarations.events.get(name)
        if event is None:
            outcome = failed(NotFoundError(f"the event {name!r} is not in this location any more"))
            self._report(ticket, outcome, cursor, 0, False)
            return
        instance = None
        if event.signature.is_class:
            instance = Instance(event, parameters) if preview else self._instances.get(name, event, parameters)
        begun = time.perf_counter_ns()

        def finish(value: Any, error: BaseException | None, stuck: bool) -> None:
            outcome, moved = (failed(error), cursor) if error is not None else value
            if stuck and instance is not None:
                self._instances.drop(name, instance)
            self._report(ticket, outcome, moved, (time.perf_counter_ns() - begun) // 1000, stuck)

        limit = event.trigger.timeout
        late = (
            f"the poll took longer than {limit:g} s; give requests in it a shorter timeout, "
            "or @pc.event(timeout=…) a longer one"
        )
        call = Call(self._loop, self._threads, limit, late, finish, self.marks, ticket)
        if instance is None:
            call.start(_poll_function(event, call, cursor, parameters))
        elif preview:
            call.start(_preview(event, instance, call, cursor))
        else:
            call.start(_poll_instance(event, instance, call, cursor))

    def _report(self, ticket: int, outcome: Outcome, cursor: str | None, length: int, stuck: bool) -> None:
        size = outcome.size + len(cursor or "")
        if self._results and self._size + size > MOST_TEXT:
            self.flush()
        self._size += size
        self._results.append([ticket, outcome.kind, cursor, outcome.detail, length, stuck])
        if outcome.kind == "skip":
            if self._timer is None:
                self._timer = self._loop.call_later(GATHER, self.flush)
        elif not self._urgent:
            self._urgent = True
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send the results that wait for company."""
        results, self._results = self._results, []
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._urgent, self._size = None, False, 0
        if results:
            self._send([kinds.POLLED, results])


async def _poll_function(event: Event, call: Call, text: str | None, parameters: str) -> tuple[Outcome, str | None]:
    signature = event.signature
    arguments = signature.arguments(parameters)
    cursor = None
    if signature.cursors:
        cursor = cursor_of(text)
        arguments |= dict.fromkeys(signature.cursors, cursor)
    if signature.is_async:
        value = await call.coroutine(signature.target(**arguments))
    else:
        value = await call.function(signature.target, **arguments)
    return _concluded(value, cursor, text)


async def _poll_instance(event: Event, instance: Instance, call: Call, text: str | None) -> tuple[Outcome, str | None]:
    async with instance.lock:
        await instance.open(call)
        cursor = cursor_of(text) if event.signature.cursors else None
        value = await call.function(instance.value.poll, *([] if cursor is None else [cursor]))
    return _concluded(value, cursor, text)


async def _preview(event: Event, instance: Instance, call: Call, text: str | None) -> tuple[Outcome, str | None]:
    try:
        return await _poll_instance(event, instance, call, text)
    finally:
        if not call.over:
            await instance.close(call)


def _concluded(value: Any, cursor: Cursor | None, text: str | None) -> tuple[Outcome, str | None]:
    outcome = outcome_of(value)
    moved = text if cursor is None else text_of(cursor)
    if outcome.size + len(moved or "") > MOST_TEXT:
        raise PollResultError(
            f"contexts and cursor have more than {MOST_TEXT} characters; keep a position in the cursor, not the data"
        )
    return outcome, moved
