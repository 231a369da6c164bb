"""The journal: what workers report becomes rows, and is acknowledged when the rows are on disk."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pullcord.core.errors import StoreError
from pullcord.core.states import ENDED, UNFINISHED, RunState
from pullcord.engine import hub as news
from pullcord.engine.attempts import next_attempt
from pullcord.engine.logfiles import log_item
from pullcord.engine.worker import Assignment, WorkerHandle
from pullcord.failpoints import hit
from pullcord.store.commands.artifacts import NotStored, StoreArtifacts
from pullcord.store.commands.journal import Ended, FinishRuns, Recorded, RecordSteps
from pullcord.store.commands.lifecycle import LoseRuns, SetWaiting
from pullcord.store.commands.progress import SaveProgress
from pullcord.store.transaction import ignore
from pullcord.wire import messages as kinds
from pullcord.wire.frames import Message

if TYPE_CHECKING:
    from pullcord.engine.engine import Engine

log = logging.getLogger(__name__)


class Journal:
    """Turns the messages of workers into writes.

    Args:
        engine: what it belongs to.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def receive(self, worker: WorkerHandle, messages: list[Message]) -> None:
        """Take the messages of one frame. Records and ends of a frame are each one write."""
        steps: list[Message] = []
        ends: list[Message] = []
        unsettled: set[int] = set()
        stored: list[Message] = []
        asks: list[Message] = []
        for message in messages:
            kind = message[0]
            if kind == kinds.ARTIFACT:
                stored.append(message)
            elif kind == kinds.STEP:
                assignment = worker.assignment(message[1], message[2])
                # Of a run that it does not have, or no longer, a worker has nothing to say.
                if assignment is not None:
                    steps.append(message)
                    if message[8] in UNFINISHED:
                        assignment.unsettled.add(message[4])
                    elif assignment.unsettled:
                        assignment.unsettled.discard(message[4])
            elif kind == kinds.FINISHED:
                assignment = self._finish(worker, message)
                if assignment is not None:
                    ends.append(message)
                    if assignment.unsettled:
                        unsettled.add(message[1])
            elif kind == kinds.ASK or (asks and kind == kinds.WAITING):  # it may give up what it asks
                asks.append(message)
            else:
                self._engine.handle(worker, message)
        if steps or ends:
            hit("journal.before_write")
        if stored:  # before the records that speak of them
            folder = Path(self._engine.artifacts["folder"])
            self._engine.store.submit(StoreArtifacts(folder, stored, lambda result: self._stored(worker, result)))
        if steps:
            self._engine.store.submit(RecordSteps(steps, lambda result: self._recorded(worker, result)))
        for message in asks:  # after the records before them, which an acknowledgement of theirs speaks for too
            if message[0] == kinds.ASK:
                self._engine.questions.ask(worker, message)
            else:
                self.waiting(worker, message)
        if ends:
            progress = self._engine.progress.take(message[1] for message in ends)
            numbers = frozenset(unsettled)
            self._engine.store.submit(FinishRuns(ends, lambda result: self._ended(result, ends), numbers, progress))

    def _finish(self, worker: WorkerHandle, message: Message) -> Assignment | None:
        """Free the room of a run that ends; add what is to be known of its next attempt to the message."""
        assignment = self.take(worker, message)
        if assignment is not None:
            message += self._next_attempt(assignment, message[3], message[5])
        return assignment

    def take(self, worker: WorkerHandle, message: Message) -> Assignment | None:
        """Take a run from a worker that is done with it, if it has it under this token; give its room back."""
        assignment = worker.take(message[1], message[2])
        if assignment is None:
            return None
        if not assignment.waiting:
            self._engine.room.free(assignment.lane)
        if not worker.assigned:
            worker.fleet.emptied(worker)
        return assignment

    def _next_attempt(self, assignment: Assignment, state: str, error: str | None) -> list[Any]:
        """Return what `FinishRuns` is to know: when the next attempt is, what is waited for, whether it begins anew."""
        spec = self._engine.catalog.get(assignment.run.flow) if state == RunState.FAILED else None
        if spec is None or error is None:
            return [None]
        attempt = next_attempt(spec.retry, assignment.run.attempt, error, random.random())
        if attempt is None:
            return [None]
        return [self._engine.clock.now() + round(attempt.pause * 1_000_000), attempt.waiting_for, int(attempt.anew)]

    # --- after the commit ----------------------------------------------------------------------------

    def _recorded(self, worker: WorkerHandle, result: Recorded) -> None:
        latest: dict[tuple[int, int], int] = {}
        steps = self._engine.statistics.steps
        for message in result.messages:
            run, token = message[1], message[2]
            assignment = worker.assignment(run, token)
            if (run, token) in result.stale or result.error is not None:
                if assignment is not None:
                    self.refuse(worker, assignment, result.error)
                continue
            steps[message[8]] += 1
            if assignment is not None:
                latest[run, token] = message[3]
                if self._engine.hub.watched(assignment.run.uuid):
                    self._engine.hub.publish(assignment.run.uuid, news.STEP, None)
        hit("journal.before_ack")
        for (run, token), number in latest.items():
            worker.send([kinds.ACK, run, token, number])

    def _stored(self, worker: WorkerHandle, result: NotStored) -> None:
        for run, token, why in result.refused:
            assignment = worker.assignment(run, token)
            if assignment is not None:
                self.refuse(worker, assignment, StoreError(why))

    def end(self, assignments: list[Assignment]) -> None:
        """End runs that have failed while their thread could not be stopped; the process is gone now."""
        ends: list[Message] = [
            [
                kinds.FINISHED,
                a.run.id,
                a.run.token,
                RunState.FAILED,
                None,
                a.failure,
                *self._next_attempt(a, RunState.FAILED, a.failure),
            ]
            for a in assignments
        ]
        if ends:
            numbers = frozenset(end[1] for end in ends)
            progress = self._engine.progress.take(numbers)
            self._engine.store.submit(FinishRuns(ends, lambda result: self._ended(result, ends), numbers, progress))

    def fail(self, worker: WorkerHandle, run: int, token: int, reason: str) -> None:
        """End a run that its worker cannot even be told about."""
        if self.take(worker, [kinds.RUN, run, token]) is not None:
            self._fail([[kinds.RUN, run, token]], reason)

    def _fail(self, messages: list[Message], reason: str) -> None:
        error = json.dumps({"type": "store_error", "message": reason, "traceback": None})
        ends: list[Message] = [[kinds.FINISHED, m[1], m[2], RunState.FAILED, None, error, None] for m in messages]
        for end in ends:
            self._engine.store.submit(FinishRuns([end], partial(self._failed, end), frozenset({end[1]})))

    def _failed(self, end: Message, result: list[Ended] | StoreError) -> None:
        if isinstance(result, StoreError):
            fields = {"run_id": self._engine.uuids.get(end[1])}
            log.error("run %s cannot even be ended as failed: %s", fields["run_id"] or end[1], result, extra=fields)
        else:
            self._ended(result, [end])

    def refuse(self, worker: WorkerHandle, assignment: Assignment, error: StoreError | None) -> None:
        """Tell a worker that a run is not its any more; with an error the run has failed."""
        run = assignment.run
        worker.send([kinds.REFUSE, run.id, run.token])
        self.take(worker, [kinds.REFUSE, run.id, run.token])
        if error is not None:
            self._fail([[kinds.REFUSE, run.id, run.token]], f"what it did could not be recorded: {error.message}")
        self._engine.store.nudge()

    def _ended(self, result: list[Ended] | StoreError, messages: list[Message]) -> None:
        if isinstance(result, StoreError):
            fields = {"runs": [self._engine.uuids.get(message[1]) for message in messages], "code": result.code}
            log.error("the ends of %d runs could not be written: %s", len(messages), result, extra=fields)
            self._fail(messages, f"the end of the run could not be written: {result.message}")
            return
        hit("journal.after_finish")
        uuids, statistics, now = self._engine.uuids, self._engine.statistics, self._engine.clock.now()
        for ended in result:
            statistics.left(ended.id, ended.state, now)
            # A run that is tried again may be in a worker already: it keeps its name.
            uuid = uuids.pop(ended.id, None) if ended.state in ENDED else uuids.get(ended.id)
            if uuid is not None:
                self._engine.hub.state(uuid, ended.state)
            if ended.state == RunState.SCHEDULED:
                self._engine.due.look()

    # --- the other reports ---------------------------------------------------------------------------

    def released(self, worker: WorkerHandle, message: Message) -> None:
        """A run stands still in a process that is to be killed: it goes on elsewhere when that is dead.

        Not before, because what its code holds there it holds until then: locks, files, connections.
        """
        assignment = worker.assignment(message[1], message[2])
        if assignment is not None:
            worker.give_up_run(assignment.run.id)

    def lose(self, runs: list[list[Any]], about: Mapping[int, dict[str, Any]] | None = None) -> None:
        """Take runs from a worker that is gone.

        Args:
            runs: `[run, token, blame, error_json]` each.
            about: what log lines say of them, by number.
        """

        def lost(result: list[Ended] | StoreError) -> None:
            if isinstance(result, StoreError):
                fields = {"runs": [self._engine.uuids.get(run[0]) for run in runs], "code": result.code}
                log.error("%d lost runs could not be freed: %s", len(runs), result, extra=fields)
                return
            hit("takeover.after_write")
            statistics, now = self._engine.statistics, self._engine.clock.now()
            for ended in result:
                if ended.state in ENDED:
                    uuid = self._engine.uuids.pop(ended.id, None)
                    statistics.left(ended.id, ended.state, now)
                    fields = {"run_id": uuid} | (about or {}).get(ended.id, {})
                    level = logging.INFO if ended.state == RunState.CANCELLED else logging.WARNING
                    log.log(level, "run %s does not go on: it is %s", uuid, ended.state, extra=fields)
                    if uuid is not None:
                        self._engine.hub.state(uuid, ended.state)

        for run in runs:
            self._engine.statistics.takeovers["crashed" if run[2] else "moved"] += 1
        progress = self._engine.progress.take(run[0] for run in runs)
        if progress:
            self._engine.store.submit(SaveProgress(progress, ignore))
        self._engine.store.submit(LoseRuns(runs, lost))

    def waiting(self, worker: WorkerHandle, message: Message) -> None:
        """A run waits, or goes on."""
        _, run, token, kind, text = message
        assignment = worker.assignment(run, token)
        if assignment is None:
            return
        if kind is None and text is not None:
            self._engine.questions.over(assignment, text)
        else:
            self.set_waiting(assignment, None if kind is None else {"kind": kind, "text": text})

    def set_waiting(self, assignment: Assignment, waiting_for: dict[str, str] | None) -> None:
        """Note what a run waits for, and lend its room to others meanwhile; it keeps its concurrency slot."""
        if self.lend(assignment, waiting_for is not None):
            self.tell_waiting(assignment, waiting_for)

    def tell_waiting(self, assignment: Assignment, waiting_for: dict[str, str] | None) -> None:
        """Write what a run waits for, or that it goes on."""
        uuid, state = assignment.run.uuid, RunState.RUNNING if waiting_for is None else RunState.WAITING
        text = None if waiting_for is None else json.dumps(waiting_for)
        self._engine.store.submit(
            SetWaiting(assignment.run.id, assignment.run.token, text, lambda _: self._engine.hub.state(uuid, state))
        )

    def lend(self, assignment: Assignment, waiting: bool) -> bool:
        """Count that one more branch of a run waits, or one less; say whether the run's room has changed hands."""
        before = assignment.waiting
        assignment.waits = max(0, assignment.waits + (1 if waiting else -1))
        if assignment.waiting == before:
            return False
        (self._engine.room.free if waiting else self._engine.room.take)(assignment.lane)
        return True

    def progress(self, worker: WorkerHandle, message: Message) -> None:
        """A run says how far it is."""
        assignment = worker.assignment(message[1], message[2])
        if assignment is not None:
            value = {"done": message[3], "total": message[4], "text": message[5]}
            self._engine.progress.note(*message[1:])
            self._engine.hub.progress[assignment.run.uuid] = value
            self._engine.hub.publish(assignment.run.uuid, news.PROGRESS, value)

    def log(self, worker: WorkerHandle, message: Message) -> None:
        """A run has log lines."""
        uuid = self._engine.uuids.get(message[1])
        if uuid is not None:
            self._engine.logs.append(uuid, message[3])
            if self._engine.hub.watched(uuid):
                for line in message[3]:
                    self._engine.hub.publish(uuid, news.LOG, log_item(line))
