"""A call of user code with a deadline: coroutines on the loop, plain functions in threads.

A coroutine that is late is cancelled. A thread cannot be: its call is over for everybody but the thread, which is
stuck, and what it returns one day is dropped.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from pullcord.core.errors import PollTimeoutError
from pullcord.worker.marks import Marks, marked
from pullcord.worker.threads import ThreadPool

GRACE: Final = 1.0
"""Seconds that a cancelled coroutine has to come to its end; afterwards it counts as stuck."""

Finish = Callable[[Any, BaseException | None, bool], None]
"""Takes the value, or the error and whether the code is stuck; called once, on the loop."""


class Call:
    """One call.

    Args:
        loop: the worker's loop.
        threads: where plain functions run.
        limit: seconds that the call may take.
        late: the message of the error when it takes longer.
        finish: gets the end.
        marks: where it is marked while its code executes, if at all.
        ticket: the mark.
    """

    __slots__ = (
        "_expired",
        "_finish",
        "_in_thread",
        "_late",
        "_limit",
        "_loop",
        "_marks",
        "_settled",
        "_task",
        "_threads",
        "_ticket",
        "_timer",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: ThreadPool,
        limit: float,
        late: str,
        finish: Finish,
        marks: Marks | None = None,
        ticket: int = 0,
    ) -> None:
        self._loop = loop
        self._threads = threads
        self._limit = limit
        self._late = late
        self._finish = finish
        self._marks = marks
        self._ticket = ticket
        self._timer: asyncio.TimerHandle | None = None
        self._settled = self._expired = self._in_thread = False
        self._task: asyncio.Task[None] | None = None

    def start(self, body: Coroutine[Any, Any, Any]) -> None:
        """Begin with the body, in a context in which there is no run."""
        self._task = self._loop.create_task(self._run(body), context=contextvars.Context())
        self._timer = self._loop.call_later(self._limit, self._expire)

    async def function(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function of the user's from the body: a coroutine function here, any other in a thread."""
        if inspect.iscoroutinefunction(function):
            return await self.coroutine(function(*args, **kwargs))
        return await self._thread(partial(function, *args, **kwargs))

    async def coroutine(self, body: Coroutine[Any, Any, Any]) -> Any:
        """Await a coroutine of the user's, marked while its code executes."""
        return await (body if self._marks is None else marked(body, self._marks.slots, self._ticket))

    async def _thread(self, function: Callable[[], Any]) -> Any:
        future: asyncio.Future[tuple[Any, BaseException | None]] = self._loop.create_future()
        self._in_thread = True
        try:
            self._threads.start(lambda: contextvars.Context().run(self._work, function, future))
            value, error = await future
        finally:
            self._in_thread = False
        if error is not None:
            raise error
        return value

    def _work(self, function: Callable[[], Any], future: asyncio.Future[tuple[Any, BaseException | None]]) -> None:
        slot = None if self._marks is None else self._marks.take(self._ticket)
        value, failure = None, None
        try:
            value = function()
        except BaseException as error:
            failure = error
        finally:
            if self._marks is not None:
                self._marks.give_back(slot)
        self._loop.call_soon_threadsafe(_resolve, future, (value, failure))

    async def _run(self, body: Coroutine[Any, Any, Any]) -> None:
        try:
            value = await body
        except BaseException as error:
            self._end(None, self._too_late() if self._expired else error)
        else:
            self._end(value, self._too_late() if self._expired else None)

    def _expire(self) -> None:
        self._expired = True
        if self._in_thread:
            self._end(None, self._too_late(), True)
        else:
            self._timer = self._loop.call_later(GRACE, self._give_up)
        if self._task is not None:
            self._task.cancel()

    @property
    def over(self) -> bool:
        """Whether the call has been given up while its code may still run."""
        return self._settled

    def _give_up(self) -> None:
        self._end(None, self._too_late(), True)

    def _end(self, value: Any, error: BaseException | None, stuck: bool = False) -> None:
        if self._settled:
            return
        self._settled = True
        if self._timer is not None:
            self._timer.cancel()
        self._finish(value, error, stuck)

    def _too_late(self) -> PollTimeoutError:
        return PollTimeoutError(self._late)


def _resolve(future: asyncio.Future[tuple[Any, BaseException | None]], end: tuple[Any, BaseException | None]) -> None:
    if not future.done():
        future.set_result(end)
