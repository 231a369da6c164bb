"""What code inside a run can ask for: `pc.run()`, `pc.progress`, `pc.sleep`, `pc.ask`, `pc.cancelled`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import PullcordRuntimeError

if TYPE_CHECKING:
    from pullcord.core.artifact import Artifact, Wanted
    from pullcord.core.flow import Flow
    from pullcord.core.question import Question
    from pullcord.core.step import Step


MAX_AMOUNT: Final = 1e15
"""Progress is not counted higher: whole numbers up to here are exact, also when a million of them are added."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The facts about the run that the calling code belongs to.

    Attributes:
        id: the run's id (UUIDv7).
        flow: the flow's name.
        attempt: 1, or more after a retry. A take-over by another worker is not an attempt.
        invoker: who asked: `{"id", "kind", "on_behalf_of"}`.
        trigger: what asked: `{"kind", "name"}`.
        scheduled_for: the time a schedule meant, or None.
        test: whether this is a test run, which keeps quiet and out of the statistics.
        request_id: id of the request that was admitted as this run.
    """

    id: str
    flow: str
    attempt: int
    invoker: dict[str, Any]
    trigger: dict[str, Any]
    scheduled_for: datetime | None
    test: bool
    request_id: str

    @property
    def logger(self) -> logging.Logger:
        """A logger whose lines become the run's log lines."""
        return logging.getLogger(f"flow.{self.flow}")


class Runtime(Protocol):
    """What the worker provides to the code of one run."""

    @property
    def info(self) -> RunInfo:
        """The facts about the run."""

    def call_step(self, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a step, or return its recorded result; a coroutine where the step is async."""

    def call_flow(self, flow: Flow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Start a child run and wait for its result; a coroutine where the flow is async."""

    def progress(self, done: float, total: float | None, text: str | None) -> None:
        """Report how far the run is."""

    def sleep(self, length: float) -> Awaitable[None] | None:
        """Wait that many seconds, counted from the first time this call was made; an awaitable in async code."""

    def ask(self, question: Question) -> Any:
        """Wait durably for a person's answer; an awaitable in async code."""

    def cancelled(self) -> bool:
        """Say whether somebody asked to cancel the run."""

    def artifact(self, wanted: Wanted) -> Artifact | Awaitable[Artifact]:
        """Store a file or content with the run; an awaitable in async code."""


current: ContextVar[Runtime | None] = ContextVar("pullcord_run", default=None)


def in_run() -> Runtime:
    """Return what the run of the calling code provides.

    Raises:
        PullcordRuntimeError: the calling code is not part of a run.
    """
    runtime = current.get()
    if runtime is None:
        raise PullcordRuntimeError(
            "this works only inside a run; start one with `pullcord run FLOW`, HTTP or the Python client"
        )
    return runtime


def run() -> RunInfo:
    """Return the facts about the current run.

    Raises:
        PullcordRuntimeError: the calling code is not part of a run.
    """
    return in_run().info


def progress(done: float, total: float | None = None, text: str | None = None) -> None:
    """Report how far the current run is; outside a run nothing happens.

    Args:
        done: how much is done, in any unit. The last value is kept with the run and counts as its records in the
            statistics. What is no number or beyond 10¹⁵ is left out of account.
        total: how much there is to do, in the same unit, when known; infinity stands for unknown.
        text: what is being done, a few words.
    """
    runtime = current.get()
    if runtime is not None:
        runtime.progress(done, total, text)


def sleep(length: Duration) -> Awaitable[None] | None:
    """Wait durably: the moment to wake up is recorded, so that a crash does not start the wait anew.

    In an `async` flow write `await pc.sleep(...)`; in a sync one the call itself blocks. An `asyncio.timeout` around a
    sleep of a minute or more does not fire while the run is out of its worker, and begins anew when it is back.

    Raises:
        PullcordRuntimeError: the calling code is not part of a run.
        UsageError: `length` is not a duration, or a sync step that async code calls would wait on the event loop.
    """
    runtime, pause = in_run(), seconds(length)
    return runtime.sleep(pause)


def cancelled() -> bool:
    """Say whether somebody asked to cancel the current run; a long sync step may look now and then.

    Raises:
        PullcordRuntimeError: the calling code is not part of a run.
    """
    return in_run().cancelled()
