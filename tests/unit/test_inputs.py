"""Inputs: a function's signature as a schema, validation that names fields but never values, and the canonical text."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, field_validator, model_validator

from pullcord.core.canonical import parse_json
from pullcord.core.errors import DefinitionError, InvalidInputsError
from pullcord.core.inputs import InputModel

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Size(Enum):
    SMALL = 1
    LARGE = 2


class Address(BaseModel):
    street: str
    number: int = Field(default=1, ge=1)


class Customer(BaseModel):
    name: str
    addresses: list[Address] = []


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[str] = []


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


class Period(BaseModel):
    first: date
    last: date

    @model_validator(mode="after")
    def in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError("last must not be before first")
        return self


class Aliased(BaseModel):
    inner: int = Field(validation_alias="given", serialization_alias="shown")


class Trimmed(BaseModel):
    word: str

    @field_validator("word")
    @classmethod
    def short(cls, value: str) -> str:
        if len(value) > 5:
            raise ValueError("at most five letters")
        return value


def everything(
    day: date,
    region: Annotated[str, Field(pattern="^[A-Z]{2}$")] = "DE",
    customer: Customer | None = None,
    pet: Pet | None = None,
    colour: Colour = Colour.RED,
    size: Size = Size.SMALL,
    path: Path = Path("out.csv"),
    at: datetime | None = None,
    every: timedelta = timedelta(minutes=5),
    amounts: list[Decimal] = [],  # noqa: B006  a default that users do write
    ids: dict[str, int] = {},  # noqa: B006
    pair: tuple[int, str] = (1, "a"),
    either: int | str = 0,
    token: UUID | None = None,
    anything: Any = None,
) -> None:
    """Take one of everything."""


model = cache(InputModel)


def read(function: Callable[..., Any], body: str) -> tuple[dict[str, Any], str]:
    """Return the arguments that inputs stand for, and their canonical text."""
    return model(function).arguments(body), model(function).validate(body)


def errors_of(function: Callable[..., Any], inputs: Any) -> list[Any]:
    """Return the field errors of invalid inputs."""
    with pytest.raises(InvalidInputsError) as caught:
        model(function).validate(json.dumps(inputs))
    with pytest.raises(InvalidInputsError) as in_worker:
        model(function).arguments(json.dumps(inputs))
    assert caught.value.errors == in_worker.value.errors
    return list(caught.value.errors)


def test_defaults_are_filled_in_and_shown() -> None:
    arguments, written = read(everything, '{"day": "2026-02-28"}')
    assert arguments["day"] == date(2026, 2, 28)
    assert arguments["path"] == Path("out.csv")
    assert arguments["colour"] is Colour.RED
    shown = json.loads(written)
    assert shown["region"] == "DE"
    assert shown["path"] == "out.csv"
    assert shown["every"] == "PT5M"
    assert set(shown) == set(arguments)


def test_types_come_out_as_annotated() -> None:
    arguments = model(everything).arguments(
        json.dumps(
            {
                "day": "2026-02-28",
                "customer": {"name": "Ada", "addresses": [{"street": "Oak", "number": 3}]},
                "pet": {"kind": "dog", "tricks": ["sit"]},
                "size": 2,
                "at": "2026-02-28T10:00:00Z",
                "amounts": ["0.10", 2],
                "pair": [2, "b"],
                "either": "7",
            }
        )
    )
    assert arguments["customer"] == Customer(name="Ada", addresses=[Address(street="Oak", number=3)])
    assert arguments["pet"] == Dog(tricks=["sit"])
    assert arguments["size"] is Size.LARGE
    assert arguments["at"] == datetime(2026, 2, 28, 10, tzinfo=UTC)
    assert arguments["amounts"] == [Decimal("0.10"), Decimal(2)]
    assert arguments["pair"] == (2, "b")
    assert arguments["either"] == "7"


@pytest.mark.parametrize(
    ("change", "loc", "kind"),
    [
        ({"day": None}, ["day"], "date_type"),
        ({"day": "2026-02-30"}, ["day"], "date_from_datetime_parsing"),
        ({"region": "de"}, ["region"], "string_pattern_mismatch"),
        ({"customer": {"addresses": []}}, ["customer", "name"], "missing"),
        (
            {"customer": {"name": "A", "addresses": [{"street": "B", "number": 0}]}},
            ["customer", "addresses", 0, "number"],
            "greater_than_equal",
        ),
        ({"pet": {"kind": "fish"}}, ["pet"], "union_tag_invalid"),
        ({"pet": {"kind": "cat", "lives": "many"}}, ["pet", "cat", "lives"], "int_parsing"),
        ({"colour": "green"}, ["colour"], "enum"),
        ({"pair": [1]}, ["pair", 1], "missing"),
        ({"amounts": ["a"]}, ["amounts", 0], "decimal_parsing"),
        ({"surprise": 1}, ["surprise"], "extra_forbidden"),
    ],
)
def test_an_error_names_the_field_and_the_rule(change: dict[str, Any], loc: list[Any], kind: str) -> None:
    (error,) = errors_of(everything, {"day": "2026-02-28"} | change)
    assert error["loc"] == ["inputs", *loc]
    assert error["type"] == kind
    assert error["msg"]


def test_every_wrong_field_is_named_at_once() -> None:
    errors = errors_of(everything, {"region": 5, "size": 3, "surprise": 1})
    assert {error["loc"][1] for error in errors} == {"day", "region", "size", "surprise"}


def test_rules_across_fields_and_of_the_users_own_hold() -> None:
    def report(period: Period, trimmed: Trimmed | None = None) -> None: ...

    (error,) = errors_of(report, {"period": {"first": "2026-02-02", "last": "2026-02-01"}})
    assert error["loc"] == ["inputs", "period"]
    assert "last must not be before first" in error["msg"]
    period = {"first": "2026-01-01", "last": "2026-02-01"}
    (error,) = errors_of(report, {"period": period, "trimmed": {"word": "longer"}})
    assert error["loc"] == ["inputs", "trimmed", "word"]


@pytest.mark.parametrize("body", ["", "[]", "null", "1", '"x"', "{", '{"x": 1', "{'x': 1}"])
def test_inputs_that_are_no_object_are_refused(body: str) -> None:
    def f(x: int = 1) -> None: ...

    with pytest.raises(InvalidInputsError) as caught:
        model(f).validate(body)
    assert caught.value.errors[0]["loc"] == ["inputs"]


SECRET = "hunter2-swordfish"
HINTS: list[Any] = [
    int, float, bool, date, datetime, timedelta, Decimal, UUID, Colour, Size, Pet, Address, Period, list[int],
    dict[str, int], tuple[int, int], set[int], int | float, Literal["a", "b"], Annotated[str, Field(pattern="^x$")],
    Annotated[str, Field(max_length=3)], Annotated[int, Field(ge=5)], bytes | None,
]  # fmt: skip


@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_no_error_repeats_the_value(hint: Any) -> None:
    def f(x: Any) -> None: ...

    f.__annotations__["x"] = hint
    inputs = InputModel(f)
    shapes: list[Any] = [SECRET, [SECRET], {"kind": SECRET}, {"street": SECRET, "number": SECRET}, {"first": SECRET}]
    refused = 0
    for shape in shapes:
        try:
            inputs.validate(json.dumps({"x": shape}))
        except InvalidInputsError as error:
            refused += 1
            assert SECRET not in str(error)
            assert SECRET not in json.dumps(error.errors)
    assert refused


def test_parameters_may_be_called_like_methods_of_a_model() -> None:
    def f(
        schema: int,
        copy: str,
        json: float = 1.0,
        model_config: int = 2,
        dict: int = 3,
        self: int = 4,
        _private: int = 5,
        input_schema: int = 6,
    ) -> None: ...

    arguments, written = read(f, '{"schema": 1, "copy": "c"}')
    names = ["schema", "copy", "json", "model_config", "dict", "self", "_private", "input_schema"]
    assert list(arguments) == names
    assert list(json.loads(written)) == names
    assert list(model(f).schema["properties"]) == names
    (error,) = errors_of(f, {"schema": "x", "copy": "c"})
    assert error["loc"] == ["inputs", "schema"]


def test_field_as_a_default_works_as_in_pydantic() -> None:
    def f(
        x: int = Field(ge=1),
        y: list[int] = Field(default_factory=list),  # noqa: B008  as in pydantic's own examples
        z: int = Field(3, le=9),
    ) -> None: ...

    assert model(f).arguments('{"x": 1}') == {"x": 1, "y": [], "z": 3}
    assert errors_of(f, {})[0]["type"] == "missing"
    assert errors_of(f, {"x": 0})[0]["type"] == "greater_than_equal"
    assert errors_of(f, {"x": 1, "z": 10})[0]["type"] == "less_than_equal"


def test_without_an_annotation_any_json_value_will_do() -> None:
    def f(x, y=None):  # type: ignore[no-untyped-def]
        pass

    assert model(f).arguments('{"x": [1, {"a": null}]}') == {"x": [1, {"a": None}], "y": None}


def test_a_default_is_not_shared_between_runs() -> None:
    def f(x: list[int] = []) -> None: ...  # noqa: B006

    first = model(f).arguments("{}")
    first["x"].append(1)
    assert model(f).arguments("{}") == {"x": []}


def test_the_schema_says_what_a_form_needs() -> None:
    schema = model(everything).schema
    assert schema["required"] == ["day"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["region"] == {
        "default": "DE", "pattern": "^[A-Z]{2}$", "title": "Region", "type": "string",
    }  # fmt: skip
    assert "input_" not in json.dumps(schema)


SETS = """
from pullcord.core.inputs import InputModel
def f(words: set[str], groups: dict[str, frozenset[str]]): ...
model, words = InputModel(f), ["red", "green", "blue", "black", "white", "grey"]
print(list(set(words)))
print(model.bind((set(words),), {"groups": {"a": frozenset(words[:4])}}))
print(model.validate('{"words":["red","green","blue","black"],"groups":{"x":["red","green","blue"]}}'))
"""


def test_the_canonical_text_of_a_set_is_the_same_in_every_process() -> None:
    """A child run is known by it: a parent that goes on in another process must find the child it had started."""

    def ask(seed: str) -> list[str]:
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", SETS], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    (one_order, *one), (other_order, *other) = ask("1"), ask("2")
    assert one_order != other_order, "the seeds must lead to different orders, or this shows nothing"
    assert one == other


class NotForJson:
    pass


def star(*rows: int) -> None: ...
def double_star(**options: int) -> None: ...
def positional(x: int, /) -> None: ...
def unknown_type(x: NotForJson) -> None: ...
def a_callable(x: Callable[[], int]) -> None: ...
def bad_pattern(x: Annotated[str, Field(pattern="(")]) -> None: ...
def unknown_name(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def bad_default(x: int = "many") -> None: ...  # type: ignore[assignment]
def bad_constraint(x: Annotated[int, Field(ge=5)] = 1) -> None: ...


@pytest.mark.parametrize(
    "function",
    [star, double_star, positional, unknown_type, a_callable, bad_pattern, unknown_name, bad_default, bad_constraint],
    ids=lambda function: function.__name__,
)
def test_a_signature_that_cannot_work_is_refused_by_name(function: Callable[..., Any]) -> None:
    with pytest.raises(DefinitionError, match=function.__name__):
        InputModel(function)


def test_a_python_call_becomes_the_same_text() -> None:
    bound = model(everything).bind((date(2026, 2, 28), "FR"), {"pet": Dog(tricks=["sit"]), "size": Size.LARGE})
    arguments, written = read(everything, bound)
    assert written == bound
    assert arguments["region"] == "FR"
    assert arguments["pet"] == Dog(tricks=["sit"])
    assert arguments["size"] is Size.LARGE


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((date(2026, 1, 1),) * 20, {}), ((), {"day": "never"}), ((1,), {"surprise": 2})]
)
def test_a_python_call_that_does_not_fit_is_refused(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputsError):
        model(everything).bind(args, kwargs)


inputs = st.fixed_dictionaries(
    {"day": st.dates().map(str)},
    optional={
        "region": st.from_regex("[A-Z]{2}", fullmatch=True),
        "customer": st.fixed_dictionaries(
            {"name": text},
            optional={"addresses": st.lists(st.fixed_dictionaries({"street": text, "number": st.integers(1, 2**70)}))},
        ),
        "pet": st.sampled_from([{"kind": "cat", "lives": 3}, {"kind": "dog", "tricks": ["a"]}, None]),
        "colour": st.sampled_from(["red", "blue"]),
        "path": text,
        "at": st.datetimes(timezones=st.just(UTC)).map(lambda at: at.isoformat()) | st.none(),
        "every": st.timedeltas(timedelta(-100), timedelta(100)).map(lambda length: length.total_seconds()),
        "amounts": st.lists(st.decimals(-10000, 10000, places=3).map(str)),
        "ids": st.dictionaries(text, st.integers(-(2**70), 2**70)),
        "either": st.integers() | text,
        "token": st.uuids().map(str) | st.none(),
        "anything": st.recursive(st.none() | st.integers() | text, lambda inner: st.lists(inner, max_size=3)),
    },
)


@given(inputs)
def test_the_canonical_text_validates_to_the_same_again(given_inputs: dict[str, Any]) -> None:
    arguments, written = read(everything, json.dumps(given_inputs))
    again, rewritten = read(everything, written)
    assert again == arguments
    assert rewritten == written


class Corner(BaseModel, frozen=True):
    x: int
    near: frozenset[Decimal] = frozenset()


def corners(corners: set[Corner], sizes: set[Size], days: frozenset[date], paths: set[Path]) -> None: ...


def test_sets_of_anything_that_can_be_in_a_set() -> None:
    body = json.dumps(
        {
            "corners": [{"x": 2, "near": ["0.10", 3]}, {"x": 1}, {"x": 2, "near": [3, "0.10"]}],
            "sizes": [2, 1, 2],
            "days": ["2026-01-02", "2026-01-01"],
            "paths": ["b", "a"],
        }
    )
    arguments, written = read(corners, body)
    assert arguments["corners"] == {Corner(x=1), Corner(x=2, near=frozenset({Decimal("0.10"), Decimal(3)}))}
    assert arguments["sizes"] == {Size.SMALL, Size.LARGE}
    assert read(corners, written) == (arguments, written)
    assert model(corners).bind((), arguments) == written


def number(x: float) -> None: ...
def number_and_set(x: float, words: set[str] = set()) -> None: ...  # noqa: B006
def numbers(x: list[float]) -> None: ...
def secret(x: SecretStr) -> None: ...
def aliased(x: Aliased) -> None: ...
def raw(x: bytes) -> None: ...


def cents(x: Annotated[int, BeforeValidator(lambda euros: int(euros) * 100)], y: str = "") -> None: ...


def stripped(x: Annotated[str, AfterValidator(lambda text: text.strip())] = " a ") -> None: ...


def shouting(x: Annotated[str, AfterValidator(lambda text: text + "!")] = "hi") -> None: ...


@pytest.mark.parametrize(
    ("function", "body"), [(cents, '{"x": 5, "y": "a"}'), (shouting, '{"x": "yo"}'), (shouting, "{}")]
)
def test_what_a_validator_changes_again_and_again_is_refused(function: Callable[..., Any], body: str) -> None:
    """It would be changed once by the gate, once by the worker, and once more by each resume."""
    with pytest.raises(InvalidInputsError, match="each time they are read") as caught:
        read(function, body)
    assert [(error["loc"], error["type"]) for error in caught.value.errors] == [(["inputs", "x"], "not_idempotent")]


def test_what_a_validator_changes_once_is_kept_as_changed() -> None:
    assert read(stripped, '{"x": " b "}') == ({"x": "b"}, '{"x":"b"}')
    assert model(stripped).validate("{}") == '{"x":"a"}', "a default as well"


@pytest.mark.parametrize(
    ("function", "body"),
    [
        (number, '{"x": "inf"}'),
        (number, '{"x": "nan"}'),
        (number, '{"x": NaN}'),
        (number, '{"x": 1e999}'),
        (numbers, '{"x": ["-Infinity"]}'),
        (number_and_set, '{"x": "inf", "words": ["a"]}'),
        (secret, '{"x": "hunter2"}'),
        (aliased, '{"x": {"given": 1}}'),
        (raw, '{"x": "\\u00e9"}'),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_what_would_not_survive_the_canonical_text_is_refused(function: Callable[..., Any], body: str) -> None:
    """Rule 9: a run must not be admitted with inputs that its worker then cannot read, or reads as something else."""
    try:
        arguments, written = read(function, body)
    except (DefinitionError, InvalidInputsError):
        return
    parse_json(written)
    again, _ = read(function, written)
    assert again == arguments or (math.isnan(arguments["x"]) and math.isnan(again["x"]))


def anything(good: Any, bad: Any) -> None: ...


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (json.loads("[" * 220 + "]" * 220), "nested too deeply"),
        (10**5000, "too many digits"),
        ({"a\ud800": 1}, "surrogates"),
        (object(), "object"),
    ],
    ids=["deep", "long number", "surrogate", "object"],
)
def test_arguments_that_cannot_be_kept_as_json_are_named(value: Any, words: str) -> None:
    """The server would kill a worker that sent them, and with it its neighbours."""
    with pytest.raises(InvalidInputsError, match=words) as caught:
        model(anything).bind(([[1]], value), {})
    assert [(error["loc"], error["type"]) for error in caught.value.errors] == [(["inputs", "bad"], "unserializable")]
