"""Threads for sync flows, and the run's context carried into the threads that user code starts."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from pullcord.core.context import current


class ThreadPool:
    """Runs jobs in threads that are made when they are needed and then kept.

    There is no upper bound here: the server decides how many runs a worker gets.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._count = 0

    def start(self, job: Callable[[], None]) -> None:
        """Run a job in an idle thread, or in a new one."""
        with self._lock:
            grow = self._idle == 0
            if grow:
                self._count += 1
            else:
                self._idle -= 1
        if grow:
            threading.Thread(target=self._work, args=(job,), name=f"pullcord-run-{self._count}", daemon=True).start()
        else:
            self._jobs.put(job)

    def _work(self, job: Callable[[], None]) -> None:
        while True:
            job()
            with self._lock:
                self._idle += 1
            job = self._jobs.get()


submitting: contextvars.ContextVar[bool] = contextvars.ContextVar("pullcord_submitting", default=False)
"""Whether an executor is just taking a job."""


def counted_job(function: Callable[..., Any]) -> Callable[..., Any]:
    """Count a job of a run in `Execution.jobs` until it is over: meanwhile the run cannot leave its worker."""
    run: Any = current.get()
    if run is None:
        return function
    job = object()
    run.jobs.add(job)

    def counted(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        finally:
            run.jobs.discard(job)

    return counted


def carry_context() -> None:
    """Make every thread and executor job of this process start with its creator's context.

    So that steps called from a `ThreadPoolExecutor` or a `Thread` inside a flow still belong to their run.
    """
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    def start_with_context(self: threading.Thread) -> None:
        body, context = self.run, contextvars.copy_context()
        # An executor's thread outlives the run that happens to need it first: what counts there are the jobs.
        counted = body if submitting.get() else counted_job(body)
        setattr(self, "run", lambda: context.run(counted))  # noqa: B010  as below
        start(self)

    def submit_with_context(
        self: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        context = contextvars.copy_context()
        token = submitting.set(True)
        try:
            return submit(self, context.run, counted_job(function), *args, **kwargs)
        finally:
            submitting.reset(token)

    setattr(threading.Thread, "start", start_with_context)  # noqa: B010  mypy would not take the assignment
    setattr(ThreadPoolExecutor, "submit", submit_with_context)  # noqa: B010
