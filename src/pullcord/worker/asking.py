"""Asking a person from a flow: the question is a row, and its answer a step record.

While nothing else of the run goes on it leaves its worker (`Execution.can_park`), and the answer finds it again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from pullcord.core.errors import QuestionCancelledError
from pullcord.core.question import Question
from pullcord.core.states import StepState
from pullcord.wire import messages as kinds
from pullcord.worker.failures import rebuild
from pullcord.worker.waking import waker

if TYPE_CHECKING:
    from pullcord.worker.execution import Execution

NAME = "ask"
"""The name that questions are recorded under."""


class AskCall:
    """One question that an execution asks.

    Attributes:
        identity: what the answer is recorded under; the text counts for it, so that it is the same on a replay.
        over: whether there is a record, or the run does not go on here.
    """

    def __init__(self, execution: Execution, question: Question) -> None:
        self.execution = execution
        self.question = question
        self.identity = execution.identify(NAME, question.text.encode())
        self.over = execution.record_of(self.identity) is not None
        if not self.over:
            execution.check_code("a question")
        self._wake: list[Callable[[], None]] = []

    def _stopped(self) -> bool:
        return self.execution.stop_requested or self.execution.concluding or self.execution.stale

    def send(self) -> None:
        """Ask the server, unless the run is stopped already: then nobody is to be told of it."""
        if self._stopped():
            return
        self.execution.asks[self.identity] = self
        self.execution.report_question(self.identity, self.question)

    def end(self) -> None:
        """Wait no longer. Called on the loop's thread, or by whoever stops the run."""
        self.over = True
        for wake in self._wake:
            wake()

    def wait(self) -> None:
        """Wait on this thread."""
        event = threading.Event()
        self._wake.append(event.set)
        with self.execution.waiting(self.identity, None):
            if not (self.over or self._stopped()):
                event.wait()

    async def wait_async(self) -> None:
        """Wait on the event loop."""
        event = asyncio.Event()
        self._wake.append(waker(event))
        with self.execution.waiting(self.identity, None):
            if not (self.over or self._stopped()):
                try:
                    await event.wait()
                finally:
                    if not self.over:
                        self._give_up()

    def _give_up(self) -> None:
        """The flow waits no longer, whatever anybody answers."""
        execution = self.execution
        execution.asks.pop(self.identity, None)
        execution.send([kinds.WAITING, execution.run, execution.token, None, self.identity])

    def conclude(self) -> Any:
        """Return the answer as the schema's type, or raise that there was none."""
        record = self.execution.record_of(self.identity)
        if record is None:  # code that is let run to its end: any other has not come here
            raise QuestionCancelledError("the run is being stopped: nobody is asked, and no answer is waited for")
        if record[4] == StepState.SUCCEEDED:
            return self.question.read(record[5])
        raise rebuild(from_json(record[6]))


def ask(execution: Execution, question: Question) -> Any:
    """Ask, and wait for the answer on this thread."""
    call = AskCall(execution, question)
    if not call.over:
        execution.boundary()
        call.send()
        call.wait()
        execution.boundary()
    return call.conclude()


async def ask_async(execution: Execution, question: Question) -> Any:
    """Ask, and wait for the answer on the event loop."""
    call = AskCall(execution, question)
    if not call.over:
        await execution.boundary_async()
        call.send()
        await call.wait_async()
        await execution.boundary_async()
    return call.conclude()
