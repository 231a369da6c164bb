"""Canonical JSON: equal values have equal text, 64-bit integers stay apart, and what JSON cannot hold is refused."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullcord.core.canonical import canonical_json, fingerprint, parse_json
from pullcord.core.errors import UsageError

text = st.text(st.characters(exclude_categories=["Cs"]))
integers = st.integers(-(2**70), 2**70)
scalars = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | text
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=12
)


def shuffled(value: Any, order: Any) -> Any:
    """Return an equal value whose objects list their keys in another order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key], order) for key in order.draw(st.permutations(list(value)))}
    if isinstance(value, list):
        return [shuffled(item, order) for item in value]
    return value


def same(left: Any, right: Any) -> bool:
    """Compare strictly: 1, 1.0 and True differ, and so do 0.0 and -0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return bool(left == right)


@given(values, st.data())
def test_the_order_of_keys_does_not_matter(value: Any, data: Any) -> None:
    assert canonical_json(shuffled(value, data)) == canonical_json(value)


@given(values)
def test_it_reads_back_as_the_same_value_and_the_same_text(value: Any) -> None:
    written = canonical_json(value)
    read = parse_json(written)
    assert same(read, value)
    assert canonical_json(read) == written


@given(st.integers(-(2**63), 2**64), st.integers(1, 3))
def test_neighbouring_64_bit_ids_stay_apart(number: int, distance: int) -> None:
    assert canonical_json({"id": number}) == f'{{"id":{number}}}'
    assert fingerprint(canonical_json(number)) != fingerprint(canonical_json(number + distance))
    assert parse_json(canonical_json(number)) == number


def test_the_text_is_compact_sorted_and_utf_8() -> None:
    assert canonical_json({"b": [1, 1.0, 0.1], "a": "ü€", "ä": None}) == '{"a":"ü€","b":[1,1.0,0.1],"ä":null}'


def endless() -> list[Any]:
    """Return a list that contains itself."""
    loop: list[Any] = []
    loop.append(loop)
    return loop


def deep(levels: int) -> list[Any]:
    """Return a deeply nested list."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        {"x": [-math.inf]},
        "\ud800",
        {"\udfff": 1},
        ["a\udc80b"],
        b"bytes",
        {"x": {1, 2}},
        object(),
        {(1, 2): 3},
        10**5000,
        endless(),
        deep(100_000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(UsageError):
        canonical_json(value)


@pytest.mark.parametrize(
    "body",
    [
        "NaN",
        "[Infinity]",
        "-Infinity",
        "1e999",
        "[-1e999]",
        '"\\ud800"',
        '"\\udfff x"',
        "\ud800",
        '"\ud800"',
        b'"\xff"',
        "",
        "{",
        '{"a":1,}',
        "01",
        "1 2",
        "'a'",
        "9" * 5000,
        "-" + "9" * 5000,
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000,
    ],
    ids=lambda body: repr(body[:12]),
)
def test_text_that_is_no_strict_json_is_refused(body: str | bytes) -> None:
    with pytest.raises(UsageError):
        parse_json(body)


@given(st.binary(max_size=40) | st.text(max_size=40))
def test_any_text_is_either_json_or_a_usage_error(body: bytes | str) -> None:
    try:
        value = parse_json(body)
    except UsageError as error:
        assert "not valid JSON" in error.message
    else:
        assert same(parse_json(canonical_json(value)), value)


def test_the_refusal_says_where() -> None:
    with pytest.raises(UsageError, match=r"line 2 column \d+"):
        parse_json('{\n"a": oops}')


def test_a_fingerprint_is_64_hexadecimal_digits_of_the_text() -> None:
    assert re.fullmatch("[0-9a-f]{64}", fingerprint("{}"))
    assert fingerprint("{}") == fingerprint(canonical_json({}))
