"""Answers of people to the questions of runs: who may, what fits, and which one counts.

An answer is checked by the JSON Schema that was stored with its question: the type itself is user code, which the
server never imports, and need not be importable at all. JSON Schema says what pydantic says, but for validators
written in Python and conversions (`"5"` is no integer here); such a validator speaks when the flow goes on.
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from pullcord.core.canonical import canonical_json
from pullcord.core.errors import ForbiddenError, InvalidAnswerError, NotFoundError, UsageError
from pullcord.core.states import QuestionState
from pullcord.engine.questions import Questions
from pullcord.gate.policy import Policy
from pullcord.gate.request import Invoker
from pullcord.store.queries.questions import get_question
from pullcord.store.store import Store

MOST_ERRORS: Final = 50

LONGEST_ANSWER: Final = 1024 * 1024
"""No answer is longer as JSON, in characters."""


class Answers:
    """Takes answers.

    Args:
        store: where questions are.
        questions: the engine's side.
        policy: who may do what.
    """

    def __init__(self, store: Store, questions: Questions, policy: Policy) -> None:
        self._store = store
        self._questions = questions
        self._policy = policy

    async def get(self, question: str) -> dict[str, Any]:
        """Return a question.

        Raises:
            NotFoundError: there is no such question.
        """
        item = await self._store.read(get_question, question)
        if item is None:
            raise NotFoundError(f"no question has the id {question}; `pullcord questions list` shows the open ones")
        return item

    async def answer(self, question: str, answer: Any, invoker: Invoker, reason: str | None = None) -> dict[str, Any]:
        """Answer a question; return it. The same answer of the same invoker again is no error.

        Args:
            question: its id.
            answer: what JSON can say.
            invoker: who answers.
            reason: why, kept with the answer.

        Raises:
            NotFoundError: there is no such question.
            ForbiddenError: the invoker may not answer it.
            InvalidAnswerError: the answer does not fit; `errors` names each field.
            AlreadyAnsweredError: it has another answer.
            QuestionExpiredError: it is too late.
            QuestionCancelledError: the run has ended, or is being cancelled.
        """
        item = await self.get(question)
        if not self._policy.may_answer(invoker, item["flow"], item["to"]):
            raise ForbiddenError(f"{invoker.id} may not answer this question of {item['flow']}")
        try:
            text = canonical_json(answer)
        except UsageError as error:
            raise _unfit([{"loc": ["answer"], "msg": error.message, "type": "json"}]) from None
        if item["state"] == QuestionState.OPEN:
            check_answer(item["schema"], answer, text)
        await self._questions.answer(question, text, invoker.id, reason)
        return await self.get(question)


def check_answer(schema: dict[str, Any], answer: Any, text: str) -> None:
    """Check an answer by a JSON Schema.

    Raises:
        InvalidAnswerError: it does not fit; values are not repeated.
    """
    from jsonschema_rs import (
        Draft202012Validator,
        ReferencingError,
        RegexOptions,
    )  # it takes 25 ms, and many servers ask nobody

    if len(text) > LONGEST_ANSWER:
        raise _unfit([{"loc": ["answer"], "msg": f"is longer than {LONGEST_ANSWER} characters", "type": "too_long"}])
    try:
        validator = Draft202012Validator(
            schema,
            formats=FORMATS,
            validate_formats=True,
            mask="the value",
            pattern_options=RegexOptions(),  # their time is linear: nobody's pattern holds up the server
            offline=True,
        )
    except (ValueError, ReferencingError) as unusable:
        words = f"cannot be checked: the question's schema is no JSON Schema by itself ({unusable})"
        raise _unfit([{"loc": ["answer"], "msg": words, "type": "schema"}]) from None
    errors = []
    for error in validator.iter_errors(answer):
        keyword = str(error.schema_path[-1]) if error.schema_path else "schema"
        errors.append({"loc": ["answer", *error.instance_path], "msg": error.message, "type": keyword})
        if len(errors) == MOST_ERRORS:
            break
    if errors:
        raise _unfit(errors)


def _unfit(errors: list[dict[str, Any]]) -> InvalidAnswerError:
    words = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in errors[:5])
    return InvalidAnswerError(f"the answer is not valid: {words}", errors=errors)


def _as_pydantic(kind: Any) -> Any:
    adapter = TypeAdapter(kind)

    def fits(text: str) -> bool:
        try:
            adapter.validate_python(text)
        except ValidationError:
            return False
        return True

    return fits


FORMATS: Final = {
    "date-time": _as_pydantic(datetime),
    "time": _as_pydantic(time),
    "duration": _as_pydantic(timedelta),
}
"""Formats of which pydantic takes more than the standard: times without a zone, for example."""
