"""Runs that ask people, and runs that wait without a worker: what workers say of them, and the end of each wait."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from uuid_utils import uuid7

from pullcord.core.errors import StoreError
from pullcord.core.states import ENDED, RunState
from pullcord.engine.due import DueRuns
from pullcord.engine.logfields import run_fields
from pullcord.engine.worker import Assignment, WorkerHandle
from pullcord.failpoints import hit
from pullcord.store.commands.journal import Ended
from pullcord.store.commands.questions import AnswerQuestion, Ask, Asked
from pullcord.store.commands.waits import ParkRun, Settled, WakeDue, Woken
from pullcord.wire import messages as kinds
from pullcord.wire.frames import Message

if TYPE_CHECKING:
    from pullcord.engine.engine import Engine

log = logging.getLogger(__name__)


class Questions:
    """The engine's side of waiting for people and for times.

    Args:
        engine: what it belongs to.
        spawn: runs a coroutine as a task of the engine.

    Attributes:
        due: waits for the next sleep or question that is over.
    """

    def __init__(self, engine: Engine, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._engine = engine
        self.due = DueRuns(engine.store, engine.clock, spawn, self._wake, self._woken)

    # --- what workers say ----------------------------------------------------------------------------

    def ask(self, worker: WorkerHandle, message: Message) -> None:
        """A run asks a person, perhaps once more after a crash."""
        _, run, token, number, identity, *_ = message
        assignment = worker.assignment(run, token)
        if assignment is None:
            return
        if identity not in assignment.asks:
            assignment.asks.add(identity)
            self._engine.journal.lend(assignment, True)

        def asked(result: Asked | StoreError) -> None:
            hit("ask.after_write")
            here = worker.assigned.get(run) is assignment
            if isinstance(result, StoreError) or result.stale:
                if here:
                    self._engine.journal.refuse(worker, assignment, result if isinstance(result, StoreError) else None)
                return
            self.due.not_after(result.expires_at)
            if result.cancelled:
                if here and identity in assignment.asks:
                    assignment.asks.discard(identity)
                    self._engine.journal.lend(assignment, False)
            elif result.record is None:
                self._engine.hub.state(assignment.run.uuid, RunState.WAITING)
                if here and not assignment.waiting:  # it was given up before it was on disk
                    self._engine.journal.tell_waiting(assignment, None)
            if here:
                worker.send([kinds.ACK, run, token, number])
                if result.record is not None:
                    self.over(assignment, identity)
                    worker.send([kinds.ANSWER, run, token, result.record])

        hit("ask.before_write")
        self._engine.store.submit(Ask(message, str(uuid7()), self._engine.clock.now(), asked))

    def over(self, assignment: Assignment, identity: str) -> None:
        """A run waits for a question no longer: there is an answer, or it has given it up."""
        if identity in assignment.asks:
            assignment.asks.discard(identity)
            self._engine.journal.set_waiting(assignment, None)

    def park(self, worker: WorkerHandle, message: Message) -> None:
        """A worker gives a run up that only waits."""
        _, run, token, waits = message
        assignment = self._engine.journal.take(worker, message)
        if assignment is None:
            return
        uuid = assignment.run.uuid

        def parked(result: Ended | StoreError | None) -> None:
            if isinstance(result, StoreError):
                log.error("run %s could not be parked: %s", uuid, result, extra=run_fields(assignment.run))
                self._engine.journal.lose([[run, token, 0, None]])
                return
            hit("park.after_write")
            times = [until for _, until in waits if until is not None]
            if result is None or result.state == RunState.RUNNING:
                return
            self._engine.uuids.pop(run, None)
            self._engine.statistics.left(run, result.state, self._engine.clock.now())
            if result.state in ENDED:
                self._engine.hub.state(uuid, result.state)
            else:
                self._engine.hub.state(uuid, RunState.WAITING)
                self.due.not_after(min(times, default=None))

        hit("park.before_write")
        self._engine.store.submit(ParkRun(run, token, waits, parked))

    # --- the end of a wait ---------------------------------------------------------------------------

    async def answer(self, question: str, answer: str, invoker: str, reason: str | None) -> None:
        """Write an answer, and let the run go on.

        Args:
            question: the question's id.
            answer: JSON that fits its schema.
            invoker: who answers.
            reason: why, in the invoker's words.

        Raises:
            NotFoundError: there is no such question.
            AlreadyAnsweredError: it has another answer.
            QuestionExpiredError: it is too late.
            QuestionCancelledError: the run has ended, or is being cancelled.
        """
        at = self._engine.clock.now()
        hit("answer.before_write")
        settled = await self._engine.store.write(
            lambda done: AnswerQuestion(question, answer, invoker, reason, at, done)
        )
        hit("answer.after_write")
        if settled is not None:
            self._tell(settled)

    def _wake(self, at: int, back: int, done: Callable[[Any], None]) -> WakeDue:
        hit("wake.before_write")
        return WakeDue(at, back, done)

    def _woken(self, woken: Woken) -> int | None:
        hit("wake.after_write")
        for settled in woken.settled:
            self._tell(settled)
        return woken.following

    def _tell(self, settled: Settled) -> None:
        """Tell a question's end to the worker that has the run; one that is parked or moves finds it in its records."""
        for worker in self._engine.workers():
            assignment = worker.assignment(settled.run, settled.token)
            if assignment is not None:
                self.over(assignment, settled.record[0])
                worker.send([kinds.ANSWER, settled.run, settled.token, settled.record])
        self._engine.hub.publish(settled.uuid, "step", None)
