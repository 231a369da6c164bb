"""The end of what a flow leaves behind: its tasks inside a step or a wait are interrupted, and it ends after them.

So no step of a run goes on beside its own next attempt, or beside the run that gets its slot.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pullcord.worker.execution import Execution

Task = asyncio.Task[Any]


class Unwinding:
    """Interrupts the tasks of one run, and knows which of them have not ended yet.

    It does not keep the execution: what refers to itself stays in memory until the garbage collector looks for it.
    """

    def __init__(self) -> None:
        self._told: set[Task] = set()
        self._left: set[Task] = set()

    def __bool__(self) -> bool:
        """Say whether a task that was interrupted has not ended."""
        return bool(self._left)

    def stop(self, execution: Execution) -> None:
        """Interrupt the tasks that are inside an async step or wait; what finishes first only by force.

        What is of a run that goes on elsewhere is not let finish. None is interrupted a second time while it cleans up,
        except by force. Tasks that await something else are left alone, for one may belong to what many runs share, a
        connection for example; where it does not, it stops at its next boundary.
        """
        at_once = execution.forced or execution.stale
        for wait in list(execution.waits.values()):
            if isinstance(wait.branch, asyncio.Task) and (at_once or not wait.shielded):
                self._interrupt(execution, wait.branch)
        for call in execution.calls():
            task = call.task
            if task is None:
                continue
            if task.done() or not task.get_loop().is_running():
                call.stopped = True  # nothing executes it any more
            elif at_once or not (call.shielded or call.step.finishes):
                self._interrupt(execution, task)

    def _interrupt(self, execution: Execution, task: Task) -> None:
        first = task not in self._told
        if not first and not execution.forced:
            return
        self._told.add(task)
        loop, own = task.get_loop(), execution.worker.loop
        if first and loop is own and task is not execution.task:
            self._left.add(task)
        if loop is own and execution.worker.channel.on_loop_thread():
            self._cancel(execution, task, first)
        else:
            with contextlib.suppress(RuntimeError):  # a loop of the flow's own, which is closed by now
                loop.call_soon_threadsafe(self._cancel, execution, task, first)

    def _cancel(self, execution: Execution, task: Task, first: bool) -> None:
        if first and task in self._left:
            task.add_done_callback(partial(self._ended, execution))
        task.cancel()

    def _ended(self, execution: Execution, task: Task) -> None:
        self._left.discard(task)
        execution.worker.conclude(execution)
