"""The end of what a flow leaves behind: its tasks inside a step or a wait are interrupted, and it ends after them.

So no step of a run goes on beside its own next attempt, or beside the run that gets its slot.
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
        """Interrupt the tasks that are inside an async step or wait; what finishes first only by force.

        What is of a run that goes on elsewhere is not let finish. None is interrupted a second time while it cleans up,
        except by force. Tasks that await something else are left alone, for one may belong to what many runs share, a
        connection for example; where it does not, it stops at its next boundary.
        """
        execution = self._execution
        at_once = execution.forced or execution.stale
        for wait in list(execution.waits.values()):
            if isinstance(wait.branch, asyncio.Task) and (at_once or not wait.shielded):
                self._interrupt(wait.branch)
        for call in execution.calls():
            task = call.task
            if task is None:
                continue
            if task.done() or not task.get_loop().is_running():
                call.stopped = True  # nothing executes it any more
            elif at_once or not (call.shielded or call.step.finishes):
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
        if first and task in self._left:
            task.add_done_callback(self._ended)
        task.cancel()

    def _ended(self, task: Task) -> None:
        self._left.discard(task)
        self._execution.worker.conclude(self._execution)
