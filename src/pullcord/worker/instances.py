"""Instances of event classes: made and set up before their first poll, kept open between polls, torn down."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from pullcord.core.errors import PollTimeoutError
from pullcord.worker.calls import Call
from pullcord.worker.declarations import Event
from pullcord.worker.threads import ThreadPool

TEARDOWN: Final = 2.0
"""Seconds that a teardown may take."""

log = logging.getLogger(__name__)


class Instance:
    """One instance of an event class. Only one call at a time is in it.

    Attributes:
        parameters: JSON text that it was made with.
        lock: held by whoever is in it.
        value: the user's object; None until it is set up.
        stuck: whether a thread is in it for good, so that nobody else may enter.
    """

    __slots__ = ("_event", "lock", "parameters", "stuck", "value")

    def __init__(self, event: Event, parameters: str) -> None:
        self._event = event
        self.parameters = parameters
        self.lock = asyncio.Lock()
        self.value: Any = None
        self.stuck = False

    async def open(self, call: Call) -> None:
        """Make the object and set it up, unless that has been done. What fails is tried anew next time.

        Raises:
            PollTimeoutError: an earlier poll is in it still.
        """
        if self.stuck:
            raise PollTimeoutError("an earlier poll has not come to its end")
        if self.value is not None:
            return
        signature = self._event.signature
        arguments = signature.arguments(self.parameters)
        if signature.is_async:
            value = await call.coroutine(_make(signature.target, arguments))
        else:
            value = await call.function(signature.target, **arguments)
        setup = getattr(value, "setup", None)
        if setup is not None:
            await call.function(setup)
        self.value = value

    async def close(self, call: Call) -> None:
        """Tear the object down; the caller holds the lock."""
        value, self.value = self.value, None
        teardown = getattr(value, "teardown", None)
        if teardown is not None and not self.stuck:
            await call.function(teardown)


async def _make(target: Any, arguments: dict[str, Any]) -> Any:
    return target(**arguments)


class Instances:
    """The instances that are kept open, by trigger.

    Args:
        loop: the worker's loop.
        threads: where plain methods run.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: ThreadPool) -> None:
        self._loop = loop
        self._threads = threads
        self._kept: dict[str, Instance] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether something has to be torn down before the process may end."""
        return bool(self._kept or self._closing)

    def get(self, name: str, event: Event, parameters: str) -> Instance:
        """Return the instance of a trigger; one made with other parameters is closed."""
        kept = self._kept.get(name)
        if kept is None or kept.parameters != parameters:
            self.forget(name)
            kept = self._kept[name] = Instance(event, parameters)
        return kept

    def drop(self, name: str, instance: Instance) -> None:
        """Leave an instance to the code that is stuck in it."""
        instance.stuck = True
        if self._kept.get(name) is instance:
            del self._kept[name]

    def forget(self, name: str) -> None:
        """Close the instance of a trigger, if there is one."""
        instance = self._kept.pop(name, None)
        if instance is not None:
            task = self._loop.create_task(self._close(name, instance))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, name: str, instance: Instance) -> None:
        async with instance.lock:
            ended: asyncio.Future[BaseException | None] = self._loop.create_future()
            late = f"it took longer than {TEARDOWN:g} s"
            call = Call(self._loop, self._threads, TEARDOWN, late, lambda _, error, __: ended.set_result(error))
            call.start(instance.close(call))
            error = await ended
        if error is not None:
            log.warning("teardown() of the event %s failed: %s: %s", name, type(error).__qualname__, error)

    async def close(self) -> None:
        """Close all instances, and wait for them as long as a teardown may take."""
        for name in list(self._kept):
            self.forget(name)
        if self._closing:
            await asyncio.wait(self._closing, timeout=TEARDOWN)
