"""Group commit: one thread gathers what arrives while the previous commit is on its way, and writes it at once.

Everybody is answered after the commit (design rule 1). A batch that the database refuses for its values is
halved until the one command that poisons it stands alone (rule 12).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

from pullcord.clock import Clock
from pullcord.core.errors import PullcordRuntimeError, StoreError
from pullcord.core.rulebook import Book
from pullcord.core.states import RunState
from pullcord.failpoints import hit
from pullcord.store.commands.admit import Admit, Decision
from pullcord.store.commands.artifacts import DropContents, StoreArtifacts
from pullcord.store.commands.cancelling import CancelRun
from pullcord.store.commands.catalog import RegisterFlows
from pullcord.store.commands.claim import Claimed, claim
from pullcord.store.commands.deadlines import MeetDeadlines
from pullcord.store.commands.journal import FinishRuns, RecordSteps
from pullcord.store.commands.ledger import Note
from pullcord.store.commands.lifecycle import LoseRuns, QueueDue, SetWaiting, Start, rebuild_hints
from pullcord.store.commands.limits import ChangeLimit, ConfigureGroups
from pullcord.store.commands.outbox import (
    GiveUpNotifications,
    MarkNotification,
    NoteLongRuns,
    RetryNotification,
    SealNotifications,
    TrimOutbox,
    TurnBackOutbox,
)
from pullcord.store.commands.overlap import place
from pullcord.store.commands.pauses import PauseFlow, ResumeFlow
from pullcord.store.commands.probe import Probe
from pullcord.store.commands.progress import SaveProgress
from pullcord.store.commands.prune import PruneArtifacts, PruneHistory, PruneRequests, PruneRuns
from pullcord.store.commands.questions import AnswerQuestion, Ask
from pullcord.store.commands.rules import ChangeRules
from pullcord.store.commands.triggers import ChangeTrigger, DropEndings, FireTrigger, RegisterTriggers, TrimHistory
from pullcord.store.commands.waits import ParkRun, WakeDue
from pullcord.store.connection import Connection, Failure
from pullcord.store.hints import Hints
from pullcord.store.notification import hints_of, notification
from pullcord.store.queries.requests import newest_request
from pullcord.store.statistics import WriteStatistics
from pullcord.store.transaction import Command, Transaction, ignore

log = logging.getLogger(__name__)

ORDER: Sequence[type[Any]] = (
    Start, StoreArtifacts, RecordSteps, SaveProgress, FinishRuns, LoseRuns, SetWaiting, Ask, AnswerQuestion, WakeDue,
    ParkRun, CancelRun, MeetDeadlines, QueueDue, PauseFlow, ResumeFlow, Admit, FireTrigger, RegisterFlows,
    ConfigureGroups, ChangeLimit, RegisterTriggers, ChangeTrigger, DropEndings, TrimHistory, Note, Probe, PruneRuns,
    PruneRequests, PruneArtifacts, PruneHistory, DropContents, ChangeRules, MarkNotification, SealNotifications,
    GiveUpNotifications, RetryNotification, TurnBackOutbox, NoteLongRuns, TrimOutbox,
)  # fmt: skip
"""The order of the kinds within a transaction: records before the end they belong to; the end of a wait before a run
is parked for it, so that no run is said to be parked by the transaction that claims it again; ends before admissions,
and these before a registration, which gives all runs that have not ended the limits of today (design rule 8)."""

RETRY_PAUSE = 1.0
"""Seconds between tries while the disk is full or fails."""

SLOW: Final = 1.0
"""A commit that takes longer, in seconds, is worth a line in the log."""

Deliver = Callable[[list[tuple[Callable[[Any], None], Any]], list[Claimed]], None]


class Claimant(Protocol):
    """Knows how many more runs each lane can take. Called on the writer's thread."""

    floor: int

    def room(self) -> Mapping[str, int]:
        """Return the free room by lane."""

    def reserve(self, claimed: Sequence[Claimed]) -> None:
        """Take the room of runs that were just committed as claimed."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a transaction comes to when it is on disk."""

    batch: Sequence[Command]
    answers: list[tuple[Callable[[Any], None], Any]]
    claimed: list[Claimed]
    hints: Hints


class _Nudge:
    """Wakes the writer for a claim without a command."""


_NUDGE, _STOP = _Nudge(), _Nudge()


class Writer:
    """The writer's thread.

    Args:
        connection: the only connection that writes.
        clock: the time.
        owner: number of this server's incarnation.
        deliver: called on the writer's thread with the callbacks to make and the runs to dispatch, after each commit.
    """

    def __init__(self, connection: Connection, clock: Clock, owner: int, deliver: Deliver) -> None:
        self._connection = connection
        self._clock = clock
        self._owner = owner
        self._deliver = deliver
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._claimant: Claimant | None = None
        self._hints = Hints()
        self._last = newest_request(connection)
        self._thread = threading.Thread(target=self._work, name="pullcord-writer", daemon=True)
        self._stopped = False
        self._claim_failed = False
        self._doubtful: _Outcome | None = None
        self._endings: Callable[[Any], None] = ignore
        self._pauses: Callable[[Any], None] = ignore
        self._failed: Callable[[Any], None] = ignore
        self._noted: Callable[[Any], None] = ignore
        self.commits = 0
        self.statistics = WriteStatistics()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write what was submitted, then end the thread and wait for it."""
        self._stopped = True
        self._queue.put(_STOP)
        self._thread.join()

    def submit(self, command: Command) -> None:
        """Hand over a command; its `done` is called on the event loop when it is on disk.

        Raises:
            PullcordRuntimeError: the writer was stopped.
        """
        if self._stopped:
            raise PullcordRuntimeError("the store is closed")
        self._queue.put(command)

    def serve(self, claimant: Claimant) -> None:
        """From now on end each transaction by claiming runs for this claimant."""
        self._claimant = claimant
        self.nudge()

    def watch_endings(self, noted: Callable[[Any], None]) -> None:
        """From now on call this on the event loop after a commit that noted ends which start others."""
        self._endings = noted

    def watch_pauses(self, changed: Callable[[Any], None]) -> None:
        """From now on call this on the event loop after a commit that paused a flow or let one go on."""
        self._pauses = changed

    def watch_failed(self, failed: Callable[[Any], None]) -> None:
        """From now on call this on the event loop with the runs that a commit has ended without a worker's word."""
        self._failed = failed

    def watch_outbox(self, noted: Callable[[Any], None]) -> None:
        """From now on call this on the event loop after a commit that put something into the outbox."""
        self._noted = noted

    @property
    def book(self) -> Book:
        """Who is told of what, as of the last commit."""
        return self._hints.book

    @book.setter
    def book(self, book: Book) -> None:
        """Begin with these rules; to be set before the thread starts."""
        self._hints.book = book

    def nudge(self) -> None:
        """Claim again: there is more room."""
        if not self._stopped:
            self._queue.put(_NUDGE)

    def hear(self, payload: str) -> None:
        """Claim again, because another writer says that there is work; see `notification`."""
        told = hints_of(payload, self._owner)
        if told is not None and not self._stopped:
            self._queue.put(told)

    @property
    def waiting(self) -> int:
        """How many commands wait for the next transaction."""
        return self._queue.qsize()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _work(self) -> None:
        pending: list[Command] = []
        stopping = False
        while not stopping:
            item: Any = None
            try:
                item = self._queue.get(timeout=RETRY_PAUSE if pending or self._claim_failed or self._doubtful else None)
            except Empty:
                item = _NUDGE
            batch = pending
            while True:
                if item is _STOP:
                    stopping = True
                elif isinstance(item, Hints):
                    self._hints.add(item)
                elif item is not _NUDGE:
                    batch.append(item)
                try:
                    item = self._queue.get_nowait()
                except Empty:
                    break
            pending = self._write(batch)
        if self._doubtful is not None:
            error = StoreError("the server stopped before the database could say what it wrote; ask again")
            self._refuse(self._doubtful.batch, error)

    def _write(self, batch: list[Command]) -> list[Command]:
        """Write a batch and return the commands that must be tried again."""
        began = time.perf_counter()
        try:
            batch = self._find_out() + batch
            outcome = self._commit(batch)
        except Exception as error:
            failure = self._connection.failure(error)
            if failure is not None and failure.unknown:
                log.warning("the database was lost over a commit, and is asked what became of it: %s", failure.error)
                return self._write([])
            if failure is not None:
                return self._recover(batch, failure)
            # A value that a command cannot even put into words.
            log.exception("a batch of %d writes failed", len(batch))
            self._claim_failed = self._claimant is not None
            return self._divide(batch, StoreError(f"the write failed: {error!r}"))
        self._note(time.perf_counter() - began, len(batch), len(outcome.claimed))
        self._deliver(outcome.answers, outcome.claimed)
        return []

    def _find_out(self) -> list[Command]:
        """Finish a transaction in doubt, once the database can say what became of it; return what to try again."""
        outcome = self._doubtful
        if outcome is None:
            return []
        committed = self._connection.committed()
        self._doubtful = None
        if not committed:
            return self._refuse(outcome.batch, StoreError("the database was lost before this was written; ask again"))
        self._accept(outcome)
        self._deliver(outcome.answers, outcome.claimed)
        return []

    def _note(self, seconds: float, commands: int, claims: int) -> None:
        if self.statistics.committed(seconds, commands, claims):
            log.warning("the store can be written again")
        if seconds > SLOW:
            fields = {"seconds": round(seconds, 3), "commands": commands, "claims": claims}
            log.warning("a commit took %.1f s: the disk or the database is slow", seconds, extra=fields)

    def _commit(self, batch: Sequence[Command]) -> _Outcome:
        connection = self._connection
        clock = self._clock.now()
        self._last = max(self._last + 1, clock)
        tx = Transaction(connection, self._last, self._owner, self._hints.copy(), clock)
        hit("writer.before_begin")
        connection.begin()
        try:
            hit("writer.after_begin")
            answers: list[tuple[Callable[[Any], None], Any]] = []
            admitted: list[tuple[Any, Decision]] = []
            for kind in ORDER:
                commands = [command for command in batch if type(command) is kind]
                if commands:
                    results = kind.apply(tx, commands)
                    answers += [(command.done, result) for command, result in zip(commands, results, strict=True)]
                    if kind is Admit:
                        admitted += zip(commands, results, strict=True)
                    elif kind is FireTrigger:
                        admitted += [pair for fired in results if fired for pair in fired.admitted]
            claimed = self._claim(tx)
            _settle(tx, admitted, claimed)
            if tx.hints.endings:
                answers.append((self._endings, None))
            if tx.hints.pauses_changed:
                answers.append((self._pauses, None))
            if tx.hints.failed:
                answers.append((self._failed, tx.hints.failed))
            if tx.hints.noted:
                answers.append((self._noted, None))
            hit("writer.before_commit")
        except BaseException:
            connection.rollback()
            raise
        outcome = _Outcome(batch, answers, claimed, tx.hints)
        try:
            connection.commit()
        except Exception as error:
            failure = connection.failure(error)
            if failure is not None and failure.unknown:
                self._doubtful = outcome
            connection.rollback()
            raise
        hit("writer.after_commit")
        self._accept(outcome)
        return outcome

    def _accept(self, outcome: _Outcome) -> None:
        """Remember what is on disk now."""
        self._hints = outcome.hints
        self._claim_failed = False
        self.commits += 1
        if outcome.claimed and self._claimant is not None:
            self._claimant.reserve(outcome.claimed)

    def _claim(self, tx: Transaction) -> list[Claimed]:
        if self._claimant is None:
            return []
        if tx.hints.anything:
            rebuild_hints(tx)
            tx.hints.anything = False
        claimed = claim(tx, self._claimant.room(), self._claimant.floor)
        if tx.connection.contended:
            lanes, slots = tx.hints.lanes - self._hints.lanes, tx.hints.leftover()
            if lanes or slots or tx.hints.released:
                tx.connection.notify(notification(self._owner, lanes, slots, tx.hints.released))
        return claimed

    def _recover(self, batch: list[Command], failure: Failure) -> list[Command]:
        if failure.of_the_values:
            return self._divide(batch, failure.error)
        # The same again every second, for as long as the disk is full, would fill the log's disk too.
        level = logging.ERROR if self.statistics.failed(failure.error) else logging.DEBUG
        fields = {"code": failure.error.code, "commands": len(batch)}
        log.log(level, "writing %d commands failed: %s", len(batch), failure.error, extra=fields)
        self._claim_failed = self._claimant is not None
        return self._refuse(batch, failure.error)

    def _refuse(self, batch: Sequence[Command], error: StoreError) -> list[Command]:
        """Tell those who can be told that nothing was written; return the commands that were promised to somebody."""
        failed = [command for command in batch if not command.keep_trying]
        self.statistics.refused(error, len(failed))
        self._deliver([(command.done, command.failure(error)) for command in failed], [])
        return [command for command in batch if command.keep_trying]

    def _divide(self, batch: list[Command], error: StoreError) -> list[Command]:
        """Find the command that poisons the batch: halve it until it stands alone."""
        if not batch:
            return []
        if len(batch) == 1:
            parts = list(batch[0].split())
            if len(parts) == 1:
                self.statistics.refused(error, 1)
                self._deliver([(batch[0].done, batch[0].failure(error))], [])
                return []
            return self._write_in_turn([[part] for part in parts])
        middle = len(batch) // 2
        return self._write_in_turn([batch[:middle], batch[middle:]])

    def _write_in_turn(self, parts: list[list[Command]]) -> list[Command]:
        """Write parts of a batch; of what follows a part that must be tried again, the like waits behind it."""
        kept: list[Command] = []
        for part in parts:
            if kept:
                kept += [command for command in part if command.keep_trying]
                part = [command for command in part if not command.keep_trying]
            kept += self._write(part) if part else []
        return kept


def _settle(tx: Transaction, admitted: list[tuple[Admit, Decision]], claimed: list[Claimed]) -> None:
    """Tell new requests where their run is at the end of the transaction: running already, or where in the queue."""
    started = {run.id for run in claimed}
    for command, decision in admitted:
        if decision.state != RunState.QUEUED or decision.run_uuid != command.run.uuid:
            continue
        if decision.id in started:
            decision.state = RunState.RUNNING
        elif command.run.slot is not None:
            run = command.run
            decision.position, decision.reached = place(tx, decision.id, command.run.slot, run.shared, run.priority)
