"""`--input k=v`: read as the schema wants it."""

from __future__ import annotations

import io
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from pullcord.cli.inputs import accepted_types, missing, property_of, read_inputs, value_of
from pullcord.core.errors import UsageError
from pullcord.core.inputs import InputModel


class Point(BaseModel):
    x: int
    y: int = 0


def flow(
    name: str,
    day: date,
    count: int,
    ratio: float,
    flag: bool,
    point: Point,
    kind: Literal["a", "b"],
    level: Literal[1, 2],
    anything: Any,
    where: Path,
    note: str | None = None,
    mixed: int | str = 0,
    words: list[str] = [],  # noqa: B006
    maybe: Point | None = None,
) -> None: ...


SCHEMA = InputModel(flow).schema


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("name", "5", "5"),
        ("name", "null", "null"),
        ("name", '"quoted"', '"quoted"'),
        ("name", "a=b", "a=b"),
        ("name", "", ""),
        ("day", "2030-01-31", "2030-01-31"),
        ("count", "5", 5),
        ("count", "12345678901234567890123", 12345678901234567890123),
        ("count", "five", "five"),
        ("count", "NaN", "NaN"),
        ("ratio", "0.5", 0.5),
        ("flag", "true", True),
        ("flag", "yes", "yes"),
        ("point", '{"x": 1}', {"x": 1}),
        ("kind", "a", "a"),
        ("level", "1", 1),
        ("anything", "5", 5),
        ("anything", "five", "five"),
        ("where", "/tmp", "/tmp"),
        ("note", "5", "5"),
        ("note", "null", None),
        ("mixed", "5", 5),
        ("mixed", "5.5", "5.5"),
        ("mixed", "true", "true"),
        ("words", '["a"]', ["a"]),
        ("maybe", "null", None),
        ("maybe", '{"x": 1}', {"x": 1}),
        ("unknown", "5", 5),
    ],
)
def test_a_value_is_read_as_the_schema_wants(name: str, text: str, value: Any) -> None:
    assert read_inputs([f"{name}={text}"], None, SCHEMA) == {name: value}


@given(st.text())
def test_text_stays_text_where_text_is_wanted(text: str) -> None:
    assert value_of(text, {"type": "string"}) == text


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_json_is_read_where_nothing_is_known(value: Any) -> None:
    assert value_of(json.dumps(value), {}) == value


def test_a_file_gives_inputs_and_single_ones_go_before(tmp_path: Path) -> None:
    file = tmp_path / "inputs.json"
    file.write_text('{"count": 1, "name": "file"}')
    assert read_inputs(["count=2"], str(file), SCHEMA) == {"count": 2, "name": "file"}


def test_a_dash_is_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"count": 1}'))
    assert read_inputs(None, "-", None) == {"count": 1}


@pytest.mark.parametrize("pair", ["nothing", "=value", ""])
def test_what_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(UsageError, match="NAME=VALUE"):
        read_inputs([pair], None, SCHEMA)


def test_an_input_is_given_once() -> None:
    with pytest.raises(UsageError, match="twice"):
        read_inputs(["count=1", "count=2"], None, SCHEMA)


@pytest.mark.parametrize(("text", "words"), [("[1]", "array"), ("nonsense", "valid JSON"), ('{"a": NaN}', "NaN")])
def test_a_file_must_hold_an_object(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "inputs.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_inputs(None, str(file), None)


def test_a_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_inputs(None, str(tmp_path / "none.json"), None)


def test_missing_ones_are_named_in_order() -> None:
    assert missing(SCHEMA, {"day": "2030-01-31", "kind": "a"}) == [
        "name", "count", "ratio", "flag", "point", "level", "anything", "where",
    ]  # fmt: skip


def test_a_reference_to_itself_ends() -> None:
    schema = {"properties": {"node": {"$ref": "#/$defs/Node"}}, "$defs": {"Node": {"$ref": "#/$defs/Node"}}}
    assert accepted_types(property_of(schema, "node")) == set()


class Line(BaseModel):
    price: Decimal
    weight: float = 1.0
    parts: list[Line] = []


def order(
    d: Decimal,
    maybe: Decimal | None = None,
    lines: list[Line] = [],  # noqa: B006
    rates: dict[str, Decimal] = {},  # noqa: B006
    pair: tuple[int, Decimal] | None = None,
    ratio: float = 1.0,
    kind: Literal[1.5, "a"] = "a",
) -> None: ...


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("d", "12345678901234567890.123", "12345678901234567890.123"),
        ("d", "1.50", "1.50"),
        ("d", "-0.10", "-0.10"),
        ("d", "1.5", 1.5),
        ("d", "123456789012345678901234567890", 123456789012345678901234567890),
        ("d", "abc", "abc"),
        ("maybe", "1.50", "1.50"),
        ("maybe", "null", None),
        ("ratio", "1.50", 1.5),
        ("ratio", "12345678901234567890.123", 12345678901234567000.0),
        ("kind", "1.50", 1.5),
        ("lines", '[{"price": 1.50, "weight": 2.50, "parts": [{"price": 0.10}]}]',
         [{"price": "1.50", "weight": 2.5, "parts": [{"price": "0.10"}]}]),
        ("rates", '{"EUR": 1.10, "USD": 1.1}', {"EUR": "1.10", "USD": 1.1}),
        ("pair", "[1, 2.50]", [1, "2.50"]),
    ],
)  # fmt: skip
def test_a_decimal_keeps_its_digits(tmp_path: Path, name: str, text: str, value: Any) -> None:
    inputs = InputModel(order)
    assert read_inputs([f"{name}={text}"], None, inputs.schema) == {name: value}
    file = tmp_path / "inputs.json"
    file.write_text(f'{{"{name}": {text if text != "abc" else json.dumps(text)}}}')
    assert read_inputs(None, str(file), inputs.schema) == {name: value}


def test_an_answer_that_is_a_decimal_keeps_its_digits() -> None:
    assert value_of("1.50", TypeAdapter(Decimal).json_schema()) == "1.50"
    assert type(value_of("1.5", TypeAdapter(Decimal).json_schema())) is float


def test_a_number_is_not_sent_as_text_that_the_schema_refuses() -> None:
    digits = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^[+-]?\d*\.?\d*$"}]}
    assert value_of("1.50", digits) == "1.50"
    assert value_of("1e5", digits) == 100000.0
