"""Exceptions as records: what can be raised again comes back as itself, anything else as a `StepFailedError`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

import pullcord as pc
from pullcord.core.errors import ChildFailedError, StepFailedError, StepTimeoutError
from pullcord.worker.failures import describe, rebuild

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


class OutOfStock(Exception):
    """Carries its arguments as an exception does."""

    def __init__(self, article: str, left: int = 0) -> None:
        super().__init__(article, left)
        self.article = article
        self.left = left


class Worded(Exception):
    """Makes a sentence of its argument, which is then lost."""

    def __init__(self, article: str) -> None:
        super().__init__(f"no {article} left")
        self.article = article


class Extra(Exception):
    """Has something beside its message."""

    def __init__(self, message: str, hint: str = "none") -> None:
        super().__init__(message)
        self.hint = hint


class Outer:
    class Inner(Exception):
        pass


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def there_and_back(error: BaseException) -> BaseException:
    """Send an exception through its JSON record."""
    return rebuild(json.loads(json.dumps(describe(error))))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        ValueError(),
        KeyError("missing"),
        ZeroDivisionError("division by zero"),
        OutOfStock("pears", 3),
        Outer.Inner("deep", 1, None, [1, {"a": 2}]),
        TimeoutError("slow"),
        StepTimeoutError("step 'x' took longer than its timeout of 1 s"),
        UnicodeError("text ü"),
    ],
    ids=repr,
)
def test_what_survives_json_is_raised_as_itself(error: Exception) -> None:
    back = there_and_back(error)
    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)
    assert vars(back) == vars(error)


@given(st.lists(text | st.integers() | st.none() | st.booleans(), max_size=4))
def test_any_plain_arguments_survive(arguments: list[Any]) -> None:
    back = there_and_back(RuntimeError(*arguments))
    assert type(back) is RuntimeError
    assert list(back.args) == arguments


def local_error() -> Exception:
    """Return an error of a class that cannot be imported."""

    class Local(Exception):
        pass

    return Local("here only")


@pytest.mark.parametrize(
    "error",
    [
        local_error(),
        ValueError(object()),
        ValueError((1, 2)),
        ValueError({1: 2}),
        ValueError(b"\xff"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ExceptionGroup("many", [ValueError("one")]),
        Speechless("x"),
        Worded("pears"),
        Extra("message", "try again"),
        ChildFailedError("the child ended", "orders", "cancelled"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_does_not_survive_json_is_raised_as_a_step_failure(error: Exception) -> None:
    """Or as itself, but then with all that it carried: code that looks at it must not see something else."""
    record = describe(error)
    back = there_and_back(error)
    if type(back) is type(error):
        assert vars(back) == vars(error)
        assert back.args == error.args
    else:
        assert isinstance(back, StepFailedError)
        assert back.type == record["type"]
        assert back.original_message == record["message"]


def test_a_step_failure_stays_what_it_is_through_an_outer_step() -> None:
    inner = there_and_back(local_error())
    assert isinstance(inner, StepFailedError)
    outer = there_and_back(inner)
    assert isinstance(outer, StepFailedError)
    assert (outer.type, outer.original_message) == (inner.type, inner.original_message)


def test_a_record_names_the_type_as_users_know_it() -> None:
    assert describe(ValueError("x"))["type"] == "ValueError"
    assert describe(Outer.Inner("x"))["type"] == f"{__name__}.Outer.Inner"
    assert describe(StepTimeoutError("x"))["type"] == "step_timeout"
    assert describe(ValueError("x"))["message"] == "x"


def test_a_class_that_is_gone_after_a_deploy_is_a_step_failure() -> None:
    record = describe(OutOfStock("pears"))
    for again in (["no_such_module", "OutOfStock", ["pears"]], [__name__, "Gone", ["pears"]], [__name__, "Outer", []]):
        back = rebuild(record | {"again": again})
        assert isinstance(back, StepFailedError)
        assert back.type == f"{__name__}.OutOfStock"


def test_what_ends_a_process_is_never_raised_again() -> None:
    for error in (SystemExit(3), KeyboardInterrupt()):
        assert isinstance(there_and_back(error), StepFailedError)


def test_any_text_can_be_kept() -> None:
    record = describe(ValueError("a\ud800b"))
    assert json.dumps(record, ensure_ascii=False).encode()
    assert len(describe(ValueError("x" * 50_000))["message"]) == 10_000


@pc.step
def broken(depth: int) -> None:
    if depth:
        broken.function(depth - 1)
    raise ValueError("bottom")


def test_the_traceback_shows_the_users_frames_and_none_of_pullcords() -> None:
    with pytest.raises(ValueError, match="bottom") as caught:
        broken(2)
    assert any("/pullcord/core/step.py" in str(entry.path) for entry in caught.traceback)
    traceback = describe(caught.value)["traceback"]
    assert "/pullcord/" not in traceback
    assert "in broken" in traceback
    assert traceback.rstrip().endswith("ValueError: bottom")


def test_a_traceback_has_a_limit_and_keeps_its_end() -> None:
    def explain() -> None:
        raise ValueError("y" * 30_000 + " the end")

    with pytest.raises(ValueError, match="the end") as caught:
        explain()
    traceback = describe(caught.value)["traceback"]
    assert len(traceback) == 20_000
    assert traceback.rstrip().endswith("the end")


@pytest.mark.parametrize("levels", [150, 195, 198, 220])
def test_arguments_of_any_depth_make_a_record_that_can_be_read(levels: int) -> None:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    record = describe(ValueError(value))
    from_json(to_json(record))
    assert ("again" in record) == (levels < 198)
