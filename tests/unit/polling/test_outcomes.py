"""Outcomes: what may be returned and raised, and that equal contexts have equal text."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pullcord.core.errors import PollResultError
from pullcord.core.event import Fire, PollError, Skip
from pullcord.wire import messages as kinds
from pullcord.wire.shape import misfit
from pullcord.worker.outcomes import MOST_FIRES, MOST_TEXT, context_of, failed, outcome_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


class Model(BaseModel):
    """A user's model."""

    day: date
    names: set[str]


@dataclass
class Point:
    """A user's dataclass."""

    x: int


def shuffled(value: Any, order: random.Random) -> Any:
    """Return an equal value whose keys come in another order."""
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: shuffled(value[key], order) for key in keys}
    return [shuffled(item, order) for item in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(), JSON, max_size=8), st.randoms())
def test_the_order_of_keys_does_not_matter(context: dict[str, Any], order: random.Random) -> None:
    assert context_of(context) == context_of(shuffled(context, order))
    assert misfit([kinds.MAPPED, 1, list(outcome_of(Fire(context))[:2])]) is None


@given(st.sets(st.text()), st.randoms())
def test_sets_have_one_order(names: set[str], order: random.Random) -> None:
    given_names = list(names)
    order.shuffle(given_names)
    twin: set[str] = set()
    for name in given_names:
        twin.add(name)
    assert context_of({"names": names}) == context_of({"names": frozenset(twin)})


def test_contexts_may_hold_what_pydantic_can_write() -> None:
    context = {
        "path": Path("/data/in.csv"),
        "point": Point(1),
        "model": Model(day=date(2026, 3, 1), names={"b", "a"}),
        date(2026, 1, 1): 1,
    }
    assert context_of(context) == (
        '{"2026-01-01":1,"model":{"day":"2026-03-01","names":["a","b"]},"path":"/data/in.csv","point":{"x":1}}'
    )
    assert context_of(MappingProxyType({"a": 1})) == '{"a":1}'
    assert context_of(Model(day=date(2026, 3, 1), names=set())) == '{"day":"2026-03-01","names":[]}'


def test_what_may_be_returned() -> None:
    assert outcome_of(None)[:2] == ("skip", None)
    assert outcome_of(Skip())[:2] == ("skip", None)
    assert outcome_of(Skip("night \ud800"))[:2] == ("skip", "night ?")
    assert outcome_of([])[:2] == ("skip", None)
    one = ("fire", [['{"a":1}', "k"]])
    assert outcome_of(Fire({"a": 1}, key="k"))[:2] == one
    assert outcome_of((Fire({"a": 1}, key="k"),))[:2] == one
    assert outcome_of(deque([Fire({"a": 1}, key="k")]))[:2] == one


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("x", "pc.Fire"),
        (b"x", "pc.Fire"),
        (True, "pc.Fire"),
        ({"a": 1}, "pc.Fire"),
        ([Fire(), None], "pc.Fire"),
        ((fire for fire in [Fire()]), "pc.Fire"),
        ([Fire()] * (MOST_FIRES + 1), "return fewer"),
        (Fire({"x": "a" * MOST_TEXT}), "return fewer"),
        (Fire([1]), "object of names and values"),  # type: ignore[arg-type]
        (Fire({"x": float("inf")}), "cannot be written"),
        (Fire({"x": "\ud800"}), "lone surrogate"),
        (Fire({"x": object()}), "cannot be written"),
        (Fire({"x": LOOP}), "cannot be written"),
        (Fire(key="\ud800"), "lone surrogate"),
        (Fire(key=5), "key of a Fire is text"),  # type: ignore[arg-type]
    ],
)
def test_what_may_not(value: Any, says: str) -> None:
    with pytest.raises(PollResultError, match=says):
        outcome_of(value)


class Loud(Exception):
    """An exception whose properties raise."""

    @property
    def response(self) -> Any:
        """Raise."""
        raise RuntimeError("no")


def error_with(**attributes: Any) -> Exception:
    """Return an exception of some library."""
    error = Exception("m")
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def response(status: int, **headers: str) -> Any:
    """Return what HTTP clients attach to their exceptions."""
    return SimpleNamespace(status_code=status, headers={name.replace("_", "-"): text for name, text in headers.items()})


@pytest.mark.parametrize(
    ("error", "permanent", "retry_after"),
    [
        (ValueError("m"), False, None),
        (PollError("m", retry_after="1m"), False, 60),
        (PollError("m", permanent=True), True, None),
        (error_with(retry_after=3), False, 3),
        (error_with(retry_after="soon"), False, None),
        (error_with(retry_after=float("nan")), False, None),
        (error_with(retry_after=-1), False, None),
        (error_with(retry_after=True), False, None),
        (error_with(response=response(401)), True, None),
        (error_with(response=response(403)), True, None),
        (error_with(response=response(503, Retry_After="7")), False, 7),
        (error_with(response=response(503, Retry_After="Fri, 01 Jan 2027 00:00:00 GMT")), False, None),
        (error_with(response=None), False, None),
        (Loud("m"), False, None),
        (KeyboardInterrupt("m"), False, None),
    ],
)
def test_what_exceptions_say_about_trying_again(
    error: BaseException, permanent: bool, retry_after: float | None
) -> None:
    outcome = failed(error)
    assert outcome.kind == "failed"
    assert (outcome.detail["permanent"], outcome.detail["retry_after"]) == (permanent, retry_after)
    assert outcome.detail["message"] == "m"
    assert misfit([kinds.MAPPED, 1, list(outcome[:2])]) is None
