"""Step identities: equal calls are equal in every process, others differ, and asking changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pullcord.core.identity import argument_bytes, identity

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"]))

ZOO = """
import json
from pullcord.core.identity import argument_bytes, identity
class Opaque: pass
words = ["red", "green", "blue", "black", "white", "grey"]
def of(value): return identity("", "s", argument_bytes((value,), {}))
zoo = {
    "set": {*words}, "frozenset": frozenset(words), "nested": [{"x": {*words}}, ({*words},)],
    "set of sets": {frozenset(words), frozenset(words[:3])}, "set keys": {frozenset(words): 1},
    "object": Opaque(), "objects": [Opaque(), Opaque()], "object keys": {Opaque(): 1}, "set of objects": {Opaque()},
    "function": print, "lambda": lambda: 1, "class": Opaque, "bytes": b"\\xff", "complex": 1j,
}
print(json.dumps([list(zoo["set"]), {name: of(value) for name, value in zoo.items()}]))
"""


class Point(BaseModel):
    x: int
    y: int = 0


@dataclass
class Pair:
    left: Any
    right: Any


class Opaque:
    pass


def of(*args: Any, **kwargs: Any) -> str:
    """Return the identity of a call."""
    return identity("", "step", argument_bytes(args, kwargs))


def test_no_process_gives_another_answer() -> None:
    def ask(seed: str) -> tuple[list[str], dict[str, str]]:
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", ZOO], env=environment, capture_output=True, text=True, check=True)
        order, identities = json.loads(done.stdout)
        return order, identities

    (one_order, one), (other_order, other) = ask("1"), ask("2")
    assert one_order != other_order, "the seeds must lead to different orders, or this shows nothing"
    assert one == other


@given(st.lists(plain, max_size=4), st.dictionaries(st.text("abc", min_size=1), plain, max_size=3), st.randoms())
def test_the_order_of_keywords_does_not_matter(args: list[Any], kwargs: dict[str, Any], random: Any) -> None:
    names = list(kwargs)
    random.shuffle(names)
    assert of(*args, **{name: kwargs[name] for name in names}) == of(*args, **kwargs)


@given(st.lists(st.integers() | st.text("ab\0", max_size=3), max_size=3))
def test_equal_arguments_are_equal_whatever_else_is_in_the_call(args: list[Any]) -> None:
    assert of(*args) == of(*args)
    assert of(*args, x=[1]) == of(*args, x=[1])


DIFFERENT: list[Any] = [
    None, True, False, 0, 1, 1.5, "", "1", "None", [], [1], [[1]], [1, 2], [2, 1], {}, {"a": 1}, {"a": 2}, {"b": 1},
    {1, 2}, {1}, 2**63, 2**63 + 1, float("nan"), float("inf"), date(2026, 1, 1), Path("a"), Path("b"), Point(x=1),
    Point(x=2), Pair(1, 2), Pair(2, 1),
]  # fmt: skip


def test_different_arguments_differ() -> None:
    seen = Counter(of(value) for value in DIFFERENT)
    assert max(seen.values()) == 1


def test_a_value_in_another_place_differs() -> None:
    calls = [of(1, 2), of(2, 1), of([1, 2]), of([1], 2), of(a=1), of(b=1), of(1, a=2), of(), of(None)]
    assert len(set(calls)) == len(calls)


def test_the_parent_and_the_name_count() -> None:
    arguments = argument_bytes((1,), {})
    calls = {identity(parent, name, arguments) for parent in ("", "p", "q") for name in ("a", "b", "p")}
    assert len(calls) == 9
    assert identity("a", "b", b"") != identity("ab", "", b"") != identity("", "ab", b"")


def test_what_json_cannot_hold_counts_by_its_type() -> None:
    assert of(Opaque()) == of(Opaque())
    assert of(Opaque()) != of(object())
    assert of([Opaque(), 1]) != of([Opaque(), 2])


@pytest.mark.parametrize(
    "value",
    [
        "\udc80",
        ["\ud800"],
        {"\udc80": 1},
        {"a": "\udc80"},
        {"\udc80"},
        Path("caf\udce9"),
        10**5000,
        [10**5000],
        b"\xff",
    ],
    ids=lambda value: type(value).__name__,
)
def test_unusual_values_have_an_identity_too(value: Any) -> None:
    assert of(value) == of(value)
    assert of(x=value) == of(x=value)


@pytest.mark.parametrize("make", [lambda: iter([1, 2, 3]), lambda: (n for n in (1, 2, 3)), lambda: map(int, "123")])
def test_an_iterator_is_not_used_up(make: Any) -> None:
    value = make()
    assert of(value) == of(make())
    assert list(value) == [1, 2, 3], "the step itself must still get all of it"


def test_what_contains_itself_has_an_identity() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    assert of(loop) == of(loop)
