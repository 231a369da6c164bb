"""What a flow asks a person, and reading the answer: the schema is anything that pydantic can validate.

The schema travels as JSON Schema, by which the server accepts or refuses an answer at once. The flow reads the answer
through the type itself, on the first execution and on every replay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, SchemaError, to_json

from pullcord.core.context import in_run
from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import AnswerUnfitError, UsageError
from pullcord.core.readable import misread
from pullcord.core.results import first_misfit, in_a_line, unwritable

LONGEST: Final = 20_000
"""Characters of a question's text, and of its details as JSON."""

LARGEST: Final = 1_000_000
"""Characters of the schema of an answer, and of the default answer, as JSON."""

MOST_RECIPIENTS: Final = 100

_NAME = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,100}")


@dataclass(frozen=True, slots=True)
class Default:
    """The answer where nobody gives one in time: `pc.ask(…, on_timeout=pc.Default("reject"))`.

    Attributes:
        value: what the flow goes on with; it has to fit the question's schema.
    """

    value: Any


OnTimeout = Literal["fail"] | Default


class Question:
    """One question, checked.

    Args:
        schema: a pydantic model or a type annotation: what answers are allowed.
        text: what is asked, Markdown.
        to: names of people, groups or roles.
        timeout: how long to wait; for ever unless given.
        on_timeout: `"fail"`, or a `Default`.
        details: facts for whoever answers, a JSON-like object.

    Attributes:
        text: as given.
        schema: JSON Schema of the answer, as JSON.
        recipients: the names, a JSON list.
        details: as JSON, or None.
        length: microseconds that an answer may take, or None.
        fallback: the default as JSON, or None for failing.

    Raises:
        UsageError: one of them makes no sense.
    """

    __slots__ = ("_adapter", "details", "fallback", "length", "recipients", "schema", "text")

    def __init__(
        self,
        schema: Any,
        text: str,
        to: str | Iterable[str],
        timeout: Duration | None,
        on_timeout: OnTimeout,
        details: Mapping[str, Any] | None,
    ) -> None:
        if not isinstance(text, str) or len(text) > LONGEST or "\0" in text:
            raise UsageError(f"the question is a text of at most {LONGEST} characters")
        self.text = text.encode("utf-8", "replace").decode()
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(schema)
            described = self._adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError, SchemaError, ValueError) as error:
            raise _unaskable(in_a_line(error)) from None
        self.schema = _schema_text(described)
        if len(self.schema) > LARGEST:
            raise UsageError(f"the schema of the answer has {len(self.schema)} characters, and {LARGEST} are allowed")
        self.recipients = json.dumps(_names(to))
        self.details = None if details is None else _details(details)
        self.length = None if timeout is None else round(seconds(timeout) * 1_000_000)
        self.fallback = self._fallback(on_timeout)

    def _fallback(self, on_timeout: OnTimeout) -> str | None:
        if on_timeout == "fail":
            return None
        if not isinstance(on_timeout, Default):
            raise UsageError('on_timeout is "fail", or the answer to go on with: on_timeout=pc.Default(…)')
        try:
            text = self._adapter.serializer.to_json(on_timeout.value, warnings="error").decode()
            reason = misread(text)
            if reason is None:
                self._adapter.validate_json(text)
        except ValidationError as error:
            raise UsageError(f"the default answer does not fit the schema: {first_misfit(error)}") from None
        except (PydanticSerializationError, ValueError, TypeError) as error:
            raise UsageError(f"the default answer does not fit the schema: {unwritable(error)}") from None
        if reason is not None:
            raise UsageError(f"the default answer cannot be read back from JSON: {reason}; choose a simpler one")
        if len(text) > LARGEST:
            raise UsageError(f"the default answer has {len(text)} characters, and {LARGEST} are allowed")
        return text

    def read(self, answer: str) -> Any:
        """Return an answer as the schema's type.

        Raises:
            AnswerUnfitError: it does not fit; the code's schema has changed, or a validator of its own refuses it.
        """
        try:
            return self._adapter.validate_json(answer)
        except ValidationError as error:
            raise AnswerUnfitError(
                f"the recorded answer does not fit the schema: {first_misfit(error)}; catch this error and ask again, "
                "or fix the schema"
            ) from None


def _schema_text(described: dict[str, Any]) -> str:
    try:
        text = json.dumps(described, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise _unaskable(in_a_line(error)) from None
    reason = misread(text)
    if reason is not None:
        raise _unaskable(f"its JSON Schema cannot be read back: {reason}")
    return text


def _unaskable(reason: str) -> UsageError:
    return UsageError(
        f"an answer of this type cannot be asked for: {reason}; use a pydantic model, or a type such as bool, int, str "
        'or Literal["approve", "reject"]'
    )


def _names(to: str | Iterable[str]) -> list[str]:
    names: list[Any] = [to] if isinstance(to, str) or not isinstance(to, Iterable) else list(to)
    if len(names) > MOST_RECIPIENTS or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise UsageError(
            f"`to` is a name, or a list of up to {MOST_RECIPIENTS}, each of 1 to 100 characters: people, groups, roles"
        )
    return list(dict.fromkeys(names))


def _details(details: Mapping[str, Any]) -> str:
    try:
        text = to_json(details, inf_nan_mode="null").decode()
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise UsageError(f"the details cannot be written as JSON: {in_a_line(error)}") from None
    if not isinstance(details, Mapping) or len(text) > LONGEST or "\\u0000" in text:
        raise UsageError(f"details are a dictionary of at most {LONGEST} characters as JSON")
    reason = misread(text)
    if reason is not None:
        raise UsageError(
            f"the details cannot be read back from JSON: {reason}; give the facts in a flatter or shorter way"
        )
    return text


def ask(
    schema: Any,
    question: str = "",
    *,
    to: str | Iterable[str] = (),
    timeout: Duration | None = None,
    on_timeout: OnTimeout = "fail",
    details: Mapping[str, Any] | None = None,
) -> Any:
    """Ask a person, and wait durably for an answer; the run keeps no worker busy meanwhile.

    In an `async` flow write `await pc.ask(...)`; in a sync one the call itself blocks. An `asyncio.timeout` around it
    does not fire while the run is out of its worker, and begins anew when it is back: use `timeout=`.

    Args:
        schema: what answers are allowed: a pydantic model or a type, such as `bool` or `Literal["approve", "reject"]`.
        question: what is asked, Markdown. A replay knows the question by this text: leave out of it what is different
            each time, such as the time of day.
        to: names of people, groups or roles that are meant.
        timeout: how long to wait; for ever unless given.
        on_timeout: `"fail"` raises `AskTimeoutError` in the flow; `pc.Default(answer)` goes on with that answer.
        details: facts for whoever answers, a JSON-like object.

    Returns:
        The answer, as the schema's type.

    Raises:
        AskTimeoutError: nobody answered in time.
        AnswerUnfitError: the recorded answer does not fit the schema, by a validator of its own or by newer code.
        QuestionCancelledError: the run is cancelled, and the calling step is let run to its end.
        PullcordRuntimeError: the calling code is not part of a run.
        UsageError: an argument makes no sense, or a sync step that async code calls would wait on the event loop.
    """
    runtime = in_run()
    return runtime.ask(Question(schema, question, to, timeout, on_timeout, details))
