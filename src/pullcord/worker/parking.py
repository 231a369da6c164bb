"""When a run may leave its worker: all that it does is wait, and for longer than leaving is worth."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pullcord.core.context import current
from pullcord.worker.moment import now

if TYPE_CHECKING:
    from pullcord.worker.execution import Execution

WORTH_PARKING: Final = 60_000_000
"""Microseconds that a sleep has to last still. To leave and to come back costs about a hundredth of a second and three
commits; for shorter sleeps the memory of a suspended call is cheaper than that, and the log stays quiet."""

Branch = asyncio.Task[Any] | int
"""What waits: a task of the worker's loop, or a thread by its number."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Something that one branch of a run waits for.

    Attributes:
        until: when it is over, microseconds; None for a question.
        branch: who waits.
        shielded: whether this is inside a step that is let run to its end when its run is cancelled.
    """

    until: int | None
    branch: Branch | None
    shielded: bool


def this_branch(loop: asyncio.AbstractEventLoop) -> Branch | None:
    """Return the branch that calls: its task, or its thread; None for a task of another loop, which cannot leave."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return threading.get_ident()
    return asyncio.current_task() if running is loop else None


def can_park(execution: Execution) -> bool:
    """Say whether a run only waits: for people, or for times that are far away.

    No branch may be inside a step, in a pause between two tries, or waiting for a child run. Of an async flow every
    task has to wait; the flow's own may wait for the others, by awaiting one of them or a gather of them. Of a sync
    flow it is the flow's own thread that has to wait. So where it is not certain that nothing goes on, the run stays.
    """
    entries = list(execution.waits.items())
    waits = [wait for _, wait in entries]
    if not waits or execution.stop_requested or execution.concluding or execution.stale:
        return False
    if execution.parked or execution.leaving:
        return False
    if execution.acknowledged < execution.sent or execution.pausing:
        return False
    soon = now() + WORTH_PARKING
    if any(wait.until is not None and wait.until < soon for wait in waits):
        return False
    if any(wait.until is None and execution.has_answer(identity) for identity, wait in entries):
        return False
    worker = execution.worker
    if execution.calls():
        return False
    if any(call.execution is execution for call in list(worker.calls.values())):
        return False
    branches = {wait.branch for wait in waits}
    if execution.task is None:
        return branches == {execution.thread} and not execution.jobs
    tasks = {task for task in execution.tasks if not task.done()}
    if not tasks <= branches <= tasks | {execution.task} or execution.jobs:
        return False
    return execution.task in branches or _waits_for(getattr(execution.task, "_fut_waiter", None), branches)


def _waits_for(awaited: asyncio.Future[Any] | None, branches: set[Branch | None]) -> bool:
    """Say whether what a task awaits is one of these, or a gather that only such are left of.

    asyncio has no public way to ask. What is not told leaves the run where it is: `asyncio.wait`, or a `TaskGroup`.
    """
    if awaited is None or awaited.done():
        return False
    parts = getattr(awaited, "_children", None)
    if parts is None:
        return awaited in branches
    left = [part for part in parts if not part.done()]
    return bool(left) and all(_waits_for(part, branches) for part in left)


def count_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Make a loop note the tasks that runs start in it, in `Execution.tasks`."""

    def make(
        loop: asyncio.AbstractEventLoop,
        body: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
        **options: Any,
    ) -> asyncio.Task[Any]:
        context: contextvars.Context | None = options.get("context")
        task: asyncio.Task[Any] = asyncio.Task(body, loop=loop, **options)
        run: Any = current.get() if context is None else context.get(current)
        if run is not None:
            run.tasks.add(task)
            task.add_done_callback(run.tasks.discard)
        return task

    loop.set_task_factory(make)
