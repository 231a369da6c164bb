"""What can be asked, and which answers fit."""

from __future__ import annotations

import asyncio
import json
from datetime import date, datetime, time
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

import pullcord as pc
from pullcord.core.errors import AnswerUnfitError, InvalidAnswerError, PullcordRuntimeError, UsageError
from pullcord.core.question import LARGEST, LONGEST, Default, Question
from pullcord.gate.answers import check_answer


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    n: Annotated[int, Field(ge=1)]


class Outer(BaseModel):
    colour: Colour
    inner: list[Inner] = []


def made(schema: Any = bool, text: str = "Good?", **options: Any) -> Question:
    usual: dict[str, Any] = {"to": (), "timeout": None, "on_timeout": "fail", "details": None}
    return Question(schema, text, **usual | options)


def refused(schema: Any, answer: Any) -> list[dict[str, Any]]:
    """Return what is wrong with an answer."""
    try:
        check_answer(json.loads(made(schema).schema), answer, json.dumps(answer))
    except InvalidAnswerError as error:
        errors: list[dict[str, Any]] = error.fields["errors"]
        assert errors
        return errors
    return []


def test_a_question_is_asked_inside_a_run_only() -> None:
    with pytest.raises(PullcordRuntimeError, match="only inside a run"):
        pc.ask(bool, "Good?")

    async def inside() -> None:
        with pytest.raises(PullcordRuntimeError, match="only inside a run"):
            await pc.ask(bool, "Good?")

    asyncio.run(inside())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schema": range}, "cannot be asked for"),
        ({"text": "x" * (LONGEST + 1)}, "a text of at most"),
        ({"text": "a\0b"}, "a text of at most"),
        ({"to": [""]}, "`to` is a name"),
        ({"to": ["a\nb"]}, "`to` is a name"),
        ({"to": ["x"] * 101}, "`to` is a name"),
        ({"timeout": "soon"}, "soon"),
        ({"timeout": "1h", "on_timeout": True}, "pc.Default"),
        ({"timeout": "1h", "on_timeout": Default("perhaps")}, "does not fit the schema"),
        ({"details": {"a": object()}}, "cannot be written as JSON"),
        ({"details": {"a": "x" * LONGEST}}, "details are a dictionary"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        made(**options)


def nested(levels: int) -> list[Any]:
    """Return a deeply nested list."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def _unwritable(schema: dict[str, Any]) -> None:
    schema["x"] = object()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"details": {"a": nested(220)}}, "nested too deeply"),
        ({"details": {"a": 10**5000}}, "too many digits"),
        ({"to": ["a\ud800"]}, "`to` is a name"),
        ({"schema": Annotated[int, Field(description="a\ud800")]}, "lone surrogate"),
        ({"schema": Annotated[int, Field(json_schema_extra={"x": nested(220)})]}, "nested too deeply"),
        ({"schema": Annotated[int, Field(json_schema_extra={"x": float("nan")})]}, "cannot be asked for"),
        ({"schema": Annotated[int, Field(json_schema_extra=_unwritable)]}, "cannot be asked for"),
        ({"schema": Annotated[int, Field(ge=10**5000)]}, "cannot be asked for"),
        ({"schema": Any, "timeout": "1h", "on_timeout": Default(nested(220))}, "nested too deeply"),
        ({"schema": Any, "timeout": "1h", "on_timeout": Default(10**5000)}, "too many digits"),
    ],
    ids=[
        "deep details", "long number", "recipient", "description", "deep schema", "NaN in schema", "object in schema",
        "long bound", "deep default", "long default",
    ],
)  # fmt: skip
def test_what_the_server_could_not_read_is_refused_where_it_is_asked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        made(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schema": int, "on_timeout": Default("no")}, "expected int, not str$"),
        ({"schema": int | str, "on_timeout": Default(1.5)}, "expected int or str, not float$"),
        ({"schema": Inner, "on_timeout": Default(Inner.model_construct(n="x"))}, "expected int, not str in 'n'$"),
        ({"schema": Inner, "on_timeout": Default(Inner.model_construct(n=0))}, "greater than or equal to 1 at n$"),
        ({"schema": float, "on_timeout": Default(float("nan"))}, "valid number at the top$"),
        ({"to": 5}, "`to` is a name"),
        ({"to": None}, "`to` is a name"),
        ({"to": [5]}, "`to` is a name"),
    ],
)
def test_what_is_wrong_is_said_without_the_value(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        made(**{"schema": bool, "timeout": "1h", **options})


def test_details_hold_no_number_that_json_does_not_know() -> None:
    assert made(details={"a": float("nan")}).details == '{"a":null}'


def test_what_is_too_large_for_a_message_is_refused_where_it_is_asked() -> None:
    made(str, on_timeout=Default("x" * (LARGEST - 2)))
    with pytest.raises(UsageError, match="the default answer has 1000001 characters"):
        made(str, on_timeout=Default("x" * (LARGEST - 1)))
    with pytest.raises(UsageError, match="the schema of the answer has"):
        made(Annotated[str, Field(description="x" * LARGEST)])


def test_a_question_as_it_travels() -> None:
    question = made(
        Literal["yes", "no"], to="ops", timeout="2m", on_timeout=Default("no"), details={"day": date(2030, 1, 31)}
    )
    assert json.loads(question.schema) == {"enum": ["yes", "no"], "type": "string"}
    assert (question.recipients, question.length, question.fallback) == ('["ops"]', 120_000_000, '"no"')
    assert question.details == '{"day":"2030-01-31"}'
    assert made(to=["a", "b", "a"]).recipients == '["a", "b"]'


def test_an_answer_is_read_as_the_type() -> None:
    assert made(Outer).read('{"colour":"red","inner":[{"n":2}]}') == Outer(colour=Colour.RED, inner=[Inner(n=2)])
    with pytest.raises(AnswerUnfitError, match=r"inner\.0\.n"):
        made(Outer).read('{"colour":"red","inner":[{"n":0}]}')


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (bool, True, "true"),
        (int, 3, 3.5),
        (Literal["yes", "no"], "yes", "maybe"),
        (Outer, {"colour": "red", "inner": [{"n": 1}]}, {"colour": "green"}),
        (Outer, {"colour": "blue"}, {"inner": []}),
        (Annotated[str, Field(pattern="^[a-z]+$", max_length=5)], "abc", "ABC"),
        (datetime, "2030-01-31T12:00:00", "tomorrow"),
        (time, "10:00", "noon"),
        (date, "2030-01-31", "2030-02-31"),
        (list[int] | None, None, ["a"]),
    ],
    ids=str,
)
def test_what_fits_and_what_does_not(schema: Any, good: Any, bad: Any) -> None:
    assert refused(schema, good) == []
    assert refused(schema, bad)


def test_errors_name_the_field_and_not_the_value() -> None:
    (error,) = refused(Outer, {"colour": "red", "inner": [{"n": 1}, {"n": -71}]})
    assert error["loc"] == ["answer", "inner", 1, "n"]
    assert (error["type"], "71" in error["msg"]) == ("minimum", False)


def test_a_pattern_cannot_hold_up_the_server() -> None:
    schema = {"type": "string", "pattern": "^(a+)+$"}
    with pytest.raises(InvalidAnswerError):
        check_answer(schema, "a" * 5000 + "!", "…")


@pytest.mark.parametrize("schema", [{"type": 7}, {"$ref": "https://example.com/schema.json"}, {"pattern": "("}])
def test_a_schema_that_is_none_by_itself_takes_no_answer(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidAnswerError, match="no JSON Schema by itself"):
        check_answer(schema, "a", '"a"')


@given(
    st.sampled_from([bool, int, str, float, Outer, Inner, list[int], dict[str, int], int | None, Literal["a", 1]]),
    st.recursive(
        # A float that is larger is a whole number to JSON Schema, and none to pydantic.
        st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=5) | st.floats(-(2.0**53), 2.0**53),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["n", "colour", "inner"]), inner),
        max_leaves=5,
    ),
)
def test_what_the_schema_takes_the_type_reads(kind: Any, answer: Any) -> None:
    """A law: an answer that the server accepts does not fail in the flow, where no validator of the user's speaks."""
    if not refused(kind, answer):
        try:
            made(kind).read(json.dumps(answer))
        except AnswerUnfitError:
            with pytest.raises(ValidationError):
                TypeAdapter(kind).validate_json(json.dumps(answer))
            raise
