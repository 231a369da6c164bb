"""Asking a person, and the answer. Exactly one answer counts, and it is the step record that the flow goes on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pullcord.clock import rfc3339
from pullcord.core.errors import (
    AlreadyAnsweredError,
    NotFoundError,
    QuestionCancelledError,
    QuestionExpiredError,
    StoreError,
)
from pullcord.core.notify import ASKED
from pullcord.core.states import ACTIVE, UNFINISHED, QuestionState, RunState, StepState
from pullcord.store.commands.happenings import note_happening
from pullcord.store.commands.waits import Settled, answer_text, settle, wake
from pullcord.store.transaction import Transaction

NAME = "ask"
"""The name that questions are recorded under."""

_RUN = "SELECT token, state, flow, uuid FROM runs WHERE id = :run"
_STEP = """
SELECT identity, name, seq, attempt, state, result, error FROM steps WHERE run_id = :run AND identity = :identity"""
_OPEN = "SELECT uuid, text FROM questions WHERE run_id = :run AND identity = :identity AND state = 'open'"
_INSERT = """
INSERT INTO questions
    (id, uuid, run_id, identity, flow, state, text, details, schema, recipients, asked_at, expires_at, fallback)
VALUES
    (:id, :uuid, :run, :identity, :flow, 'open', :text, :details, :schema, :recipients, :now, :expires, :fallback)"""
# A question that timed out, and is asked again in a new attempt of the run, is another try of the same step.
_RECORD = """
INSERT INTO steps (run_id, identity, seq, name, attempt, state, started_at)
VALUES (:run, :identity, :seq, :name, 1, 'running', :now)
ON CONFLICT (run_id, identity) DO UPDATE SET state = 'running', attempt = steps.attempt + 1,
    started_at = excluded.started_at, ended_at = NULL, result = NULL, error = NULL"""
_WAIT = """
UPDATE runs SET state = 'waiting', waiting_for = :waiting_for
WHERE id = :run AND token = :token AND state || '' = 'running' AND owner IS NOT NULL"""
_QUESTION = """
SELECT q.id, q.run_id, q.identity, q.state, q.expires_at, q.answer, q.answered_by, q.answered_at, r.uuid, r.state
FROM questions q JOIN runs r ON r.id = q.run_id WHERE q.uuid = :uuid"""
_ANSWER = """
UPDATE questions SET state = 'answered', answer = :answer, answered_by = :invoker, answered_at = :now, reason = :reason
WHERE id = :id"""
_AUDIT = """
INSERT INTO audit (id, at, invoker, action, subject_id, detail)
VALUES (:id, :now, :invoker, 'question.answer', :run, :detail)"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of asking.

    Attributes:
        stale: whether the run was on another token.
        record: the step's record when the question is over already.
        expires_at: when it is over at the latest, microseconds, or None.
        cancelled: whether nobody was asked, because the run is cancelled; its worker learns of that otherwise.
    """

    stale: bool
    record: list[Any] | None = None
    expires_at: int | None = None
    cancelled: bool = False


@dataclass(slots=True)
class Ask:
    """Ask a question, unless the same call of the same run has asked it already.

    Attributes:
        message: an `ask` message as `wire.messages` describes it.
        uuid: id of the question, if it is new.
        at: the time, microseconds.

    The result is an `Asked`.
    """

    keep_trying: ClassVar[bool] = True

    message: list[Any]
    uuid: str
    at: int
    done: Callable[[Any], None]

    def split(self) -> Sequence[Ask]:
        """One question is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[Ask]) -> list[Asked]:
        """Write one after the other."""
        return [_ask(tx, command) for command in commands]


def _ask(tx: Transaction, command: Ask) -> Asked:
    _, run, token, _, identity, sequence, text, details, schema, recipients, length, fallback = command.message
    key = {"run": run, "identity": identity}
    row = tx.connection.execute(_RUN, key).fetchone()
    if row is None or row[0] != token or row[1] not in ACTIVE:
        return Asked(stale=True)
    step = tx.connection.execute(_STEP, key).fetchone()
    if step is not None and step[4] not in UNFINISHED:
        return Asked(stale=False, record=list(step))
    if row[1] == RunState.CANCELLING:
        return Asked(stale=False, cancelled=True)
    expires = None if length is None else command.at + length
    found = tx.connection.execute(_OPEN, key).fetchone()
    if found is None:
        for value in (text, details, schema, recipients, fallback):
            if value is not None and "\0" in value:
                raise ValueError("a text holds a NUL character")
        found = (command.uuid, text)
        tx.execute(
            _INSERT,
            {
                **key, "id": tx.next_id("questions"), "uuid": command.uuid, "flow": row[2], "text": text,
                "details": details, "schema": schema, "recipients": recipients, "now": command.at, "expires": expires,
                "fallback": fallback,
            },
        )  # fmt: skip
        tx.execute(_RECORD, {**key, "seq": sequence, "name": NAME, "now": command.at})
        tx.hints.parked = True
        note_asked(tx, run, command.uuid)
    tx.execute(_WAIT, {"run": run, "token": token, "waiting_for": answer_text(*found)})
    return Asked(stale=False, expires_at=expires)


def note_asked(tx: Transaction, run: int, question: str) -> None:
    """Do what goes with a new question in the same transaction: its entry in the audit, and telling people.

    Args:
        run: number of the run that asks.
        question: id of the question.
    """
    tx.execute(
        "INSERT INTO audit (id, at, invoker, action, subject_id, detail) "
        "SELECT :id, :now, invoker, 'question.ask', :run, :detail FROM runs WHERE id = :run",
        {"id": tx.next_id("audit"), "now": tx.now, "run": run, "detail": json.dumps({"question_id": question})},
    )
    if tx.hints.book.anything:
        asked = (
            "SELECT EACH[r.flow, q.text] FROM runs r JOIN questions q ON q.uuid = :uuid WHERE r.id = :run AND test = 0"
        )
        for flow, text in tx.array(asked, {"uuid": question, "run": run}):
            note_happening(tx, ASKED, flow, run=run, detail={"text": text, "question_id": question})


@dataclass(slots=True)
class AnswerQuestion:
    """Answer a question. The same answer of the same invoker again is no error.

    Attributes:
        uuid: id of the question.
        answer: the answer, JSON, valid by the question's schema.
        invoker: who answers.
        reason: why, in the invoker's words.
        at: the time, microseconds.

    The result is a `Settled` when the answer is new, and None when it was there already.
    """

    keep_trying: ClassVar[bool] = False

    uuid: str
    answer: str
    invoker: str
    reason: str | None
    at: int
    done: Callable[[Any], None]

    def split(self) -> Sequence[AnswerQuestion]:
        """One answer is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[AnswerQuestion]) -> list[Any]:
        """Take the answers in the order they came."""
        return [_answer(tx, command) for command in commands]


def _answer(tx: Transaction, command: AnswerQuestion) -> Settled | Exception | None:
    row = tx.connection.execute(_QUESTION, {"uuid": command.uuid}).fetchone()
    if row is None:
        return NotFoundError(f"no question has the id {command.uuid}; `pullcord questions list` shows the open ones")
    number, run, identity, state, expires, answer, by, at, uuid, of_run = row
    if state == QuestionState.ANSWERED:
        if answer == command.answer and by == command.invoker:
            return None
        moment = rfc3339(at)
        return AlreadyAnsweredError(f"{by} answered this question at {moment}", answered_by=by, answered_at=moment)
    if state == QuestionState.CANCELLED:
        why = f"nobody waits for this answer any more: run {uuid} has ended, or has begun anew"
        return QuestionCancelledError(why, run_id=uuid)
    if of_run == RunState.CANCELLING:
        why = f"nobody waits for this answer any more: run {uuid} is being cancelled"
        return QuestionCancelledError(why, run_id=uuid)
    if state == QuestionState.EXPIRED or (expires is not None and expires <= command.at):
        moment = rfc3339(expires)
        return QuestionExpiredError(f"the time for an answer was over at {moment}", expired_at=moment)
    tx.execute(
        _ANSWER,
        {
            "id": number, "answer": command.answer, "invoker": command.invoker, "now": command.at,
            "reason": command.reason,
        },
    )  # fmt: skip
    detail = {"question_id": command.uuid, "reason": command.reason}
    tx.execute(
        _AUDIT,
        {
            "id": tx.next_id("audit"), "now": tx.now, "invoker": command.invoker, "run": run,
            "detail": json.dumps(detail),
        },
    )  # fmt: skip
    settled = settle(tx, [[run, identity, StepState.SUCCEEDED, command.answer, None]])
    wake(tx, [run])
    return settled[0]
