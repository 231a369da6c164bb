"""Results: written as JSON, read back as annotated, and refused with advice where that cannot work."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from pullcord.core.errors import DefinitionError, ResultError
from pullcord.core.results import MAX_RESULT, ResultCodec, unwritable

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)


class Order(BaseModel):
    number: int
    at: datetime
    lines: list[tuple[str, float]] = []


@dataclass
class Total:
    amount: int
    path: Path


def free():  # type: ignore[no-untyped-def]
    pass


def nothing() -> None: ...
def anything() -> Any: ...
def order() -> Order: ...  # type: ignore[empty-body]
def orders() -> dict[str, Order | None]: ...  # type: ignore[empty-body]
def total() -> Total: ...  # type: ignore[empty-body]
def small() -> Annotated[int, Field(lt=10)]: ...  # type: ignore[empty-body]
def whole() -> int: ...  # type: ignore[empty-body]
def listed() -> list[Any]: ...  # type: ignore[empty-body]
async def later() -> Path: ...  # type: ignore[empty-body]


ORDER = Order(number=2**63 + 1, at=datetime(2026, 1, 1, tzinfo=UTC), lines=[("a", 0.1)])


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (order, ORDER),
        (orders, {"x": ORDER, "y": None}),
        (total, Total(3, Path("x/y"))),
        (later, Path("z")),
        (small, 9),
        (nothing, None),
        (anything, [1, {"a": None}]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_result_comes_back_as_annotated(function: Callable[..., Any], value: Any) -> None:
    codec = ResultCodec(function)
    back = codec.decode(codec.encode(value))
    assert back == value
    assert type(back) is type(value)


@given(json_values)
def test_without_an_annotation_any_json_value_comes_back(value: Any) -> None:
    codec = ResultCodec(free)
    written = codec.encode(value)
    assert codec.decode(written) == value
    assert codec.encode(codec.decode(written)) == written


def test_without_an_annotation_what_json_does_not_know_comes_back_as_json() -> None:
    codec = ResultCodec(free)
    shown = json.loads(ORDER.model_dump_json())
    assert codec.decode(codec.encode((1, Path("a"), {"k": ORDER}))) == [1, "a", {"k": shown}]


class Unknown:
    pass


def looped() -> list[Any]:
    """Return a list that contains itself."""
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (free, Unknown()),
        (free, [Unknown()]),
        (free, "\ud800"),
        (free, b"\xff"),
        (free, looped()),
        (order, {"number": 1}),
        (whole, "one"),
        (anything, lambda: 1),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_what_cannot_be_kept_is_a_result_error_with_advice(function: Callable[..., Any], value: Any) -> None:
    with pytest.raises(ResultError, match=rf"{function.__name__} returned a .*; return .* path"):
        ResultCodec(function).encode(value)


def test_what_does_not_fit_the_annotation_is_a_result_error_that_says_where() -> None:
    with pytest.raises(ResultError, match=r"at lines\.0\.1"):
        ResultCodec(order).decode('{"number": 1, "at": "2026-01-01T00:00:00Z", "lines": [["a", "b"]]}')
    with pytest.raises(ResultError, match="at the top"):
        ResultCodec(small).decode("10")


@pytest.mark.parametrize(("function", "value"), [(whole, None), (small, 10), (order, Unknown())])
def test_what_breaks_the_promise_of_the_annotation_does_not_come_back(function: Callable[..., Any], value: Any) -> None:
    codec = ResultCodec(function)
    with pytest.raises(ResultError):
        codec.decode(codec.encode(value))


def nested(levels: int) -> list[Any]:
    """Return a deeply nested list."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("function", "value"),
    [(free, 10**5000), (free, [{"x": 10**5000}]), (whole, 10**5000), (free, nested(250)), (listed, nested(250))],
    ids=["number", "nested number", "annotated number", "depth", "annotated depth"],
)
def test_what_could_not_be_read_back_is_not_written(function: Callable[..., Any], value: Any) -> None:
    """A flow's result is read by everybody who looks at the run, so it must be refused before it is recorded."""
    with pytest.raises(ResultError):
        ResultCodec(function).encode(value)


def test_a_result_has_a_limit() -> None:
    codec = ResultCodec(free)
    assert len(codec.encode("x" * (MAX_RESULT - 2))) == MAX_RESULT
    with pytest.raises(ResultError, match="8,388,609 bytes"):
        codec.encode("x" * (MAX_RESULT - 1))


def returns_unknown() -> Unknown: ...  # type: ignore[empty-body]
def returns_nowhere() -> Nowhere: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize("function", [returns_unknown, returns_nowhere])
def test_an_annotation_that_cannot_be_kept_is_refused_by_name(function: Callable[..., Any]) -> None:
    with pytest.raises(DefinitionError, match=function.__name__):
        ResultCodec(function)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "Pydantic serializer warnings:\n  PydanticSerializationUnexpectedValue(Expected `int` - serialized value "
            "may not be as expected [input_value='input_type=x', input_type=str])",
            "expected int, not str",
        ),
        (
            "Pydantic serializer warnings:\n  Expected `int` but got `str` with value `'secret'` - serialized value "
            "may not be as expected",
            "expected int, not str",
        ),
        ("Unable to serialize unknown type: <class 'x.Y'>", "Unable to serialize unknown type: <class 'x.Y'>"),
    ],
    ids=["newer pydantic", "older pydantic", "anything else"],
)
def test_what_pydantic_expected_and_what_came(said: str, words: str) -> None:
    assert unwritable(ValueError(said)) == words


def test_a_result_of_another_type_is_named() -> None:
    with pytest.raises(ResultError, match=r"of type str that cannot be kept as JSON \(expected int, not str\)"):
        ResultCodec(whole).encode("secret")
