"""The end of what a flow leaves behind: its tasks that are still inside a step are interrupted, and it ends after them.

So nothing of a run goes on beside its own next attempt, or beside the run that gets its slot.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pullcord.worker.execution import Execution

Task = asyncio.Task[Any]


class Unwinding:
    """Interrupts the tasks of one run, and knows which of them have not ended yet.

    Args:
        execution: the run.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._told: set[Task] = set()
        self._left: set[Task] = set()

    def __bool__(self) -> bool:
        """Say whether a task that was interrupted has not ended."""
        return bool(self._left)

    def stop(self) -> None:
        """Interrupt the async steps that are in tasks of their own, those that finish first only by force.

        None is interrupted a second time while it cleans up, except by force.
        """
        execution = self._execution
        for call in execution.calls():
            task = call.task
            if task is None:
                continue
            if task.done() or not task.get_loop().is_running():
                call.stopped = True  # nothing executes it any more
            elif execution.forced or not call.step.finishes:
                self._interrupt(task)

    def _interrupt(self, task: Task) -> None:
        first = task not in self._told
        if not first and not self._execution.forced:
            return
        self._told.add(task)
        loop, own = task.get_loop(), self._execution.worker.loop
        if first and loop is own and task is not self._execution.task:
            self._left.add(task)
        if loop is own and self._execution.worker.channel.on_loop_thread():
            self._cancel(task, first)
        else:
            with contextlib.suppress(RuntimeError):  # a loop of the flow's own, which is closed by now
                loop.call_soon_threadsafe(self._cancel, task, first)

    def _cancel(self, task: Task, first: bool) -> None:
        if first:
            task.add_done_callback(self._ended)
        task.cancel()

    def _ended(self, task: Task) -> None:
        self._left.discard(task)
        self._execution.worker.conclude(self._execution)
