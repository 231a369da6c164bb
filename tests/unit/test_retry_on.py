"""Which errors are tried again: by class, by name, by a name that nothing can import, and over a record."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import pytest

import pullcord as pc
from pullcord.core.errors import (
    CodeChangedError,
    DefinitionError,
    InvalidInputsError,
    RunTimeoutError,
    StepFailedError,
    StepTimeoutError,
)
from pullcord.core.retry import BEGINNING, Retry
from pullcord.engine.attempts import next_attempt
from pullcord.worker.failures import describe, describe_end, rebuild

HERE = __name__


class TransientError(Exception):
    """What may pass."""


class DownError(TransientError):
    """A kind of it."""


class Picky(DownError):
    """Cannot be made again from its arguments."""

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} is down")


@pytest.mark.parametrize("wanted", [
    TransientError, (KeyError, TransientError), f"{HERE}.TransientError", ("no.such.Thing", f"{HERE}.TransientError"),
    [f"{HERE}.TransientError", OSError], "Exception",
])  # fmt: skip
@pytest.mark.parametrize("error", [TransientError("x"), DownError("x"), Picky("bank")])
def test_a_class_stands_for_those_that_inherit_from_it(wanted: Any, error: Exception) -> None:
    assert Retry(retry_on=wanted).covers(error)


@pytest.mark.parametrize("wanted", [
    OSError, "OSError", "no.such.Thing", "TransientError", f"{HERE}.Picky", DownError, ("x", "y.z"), f"{HERE}.Nothing",
])  # fmt: skip
def test_anything_else_is_not_tried_again(wanted: Any) -> None:
    assert not Retry(retry_on=wanted).covers(TransientError("x"))


def test_everything_is_tried_again_unless_it_says_otherwise() -> None:
    assert Retry().covers(ValueError("x"))


def test_a_name_is_what_a_loaded_module_calls_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mylib.Error` may well come from `mylib._errors`."""
    module = ModuleType("shortcut")
    module.Down = DownError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shortcut", module)
    assert Retry(retry_on="shortcut.Down").covers(DownError("x"))
    assert not Retry(retry_on="shortcut.Other").covers(DownError("x"))
    monkeypatch.delitem(sys.modules, "shortcut")
    assert not Retry(retry_on="shortcut.Down").covers(DownError("x")), "nothing is imported to find out"


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ("step_timeout", StepTimeoutError("late")),
        ("run_timeout", RunTimeoutError("late")),
        (TimeoutError, RunTimeoutError("late")),
        ("pullcord.core.errors.RunError", RunTimeoutError("late")),
    ],
)
def test_errors_of_pullcord_are_meant_by_their_types_too(wanted: Any, error: Exception) -> None:
    assert Retry(retry_on=wanted).covers(error)


@pytest.mark.parametrize("wanted", [TransientError, f"{HERE}.TransientError", Picky, "Exception"])
def test_an_exception_that_cannot_be_rebuilt_is_meant_all_the_same(wanted: Any) -> None:
    record = json.loads(json.dumps(describe(Picky("bank"))))
    stand_in = rebuild(record)
    assert isinstance(stand_in, StepFailedError)
    assert Retry(retry_on=wanted).covers(stand_in)
    assert not Retry(retry_on=OSError).covers(stand_in)
    again = rebuild(json.loads(json.dumps(describe(stand_in))))
    assert isinstance(again, StepFailedError)
    assert again.kinds == stand_in.kinds, "over a second record too"


def test_the_settings_survive_the_manifest_with_names_for_classes() -> None:
    rule = Retry(retry_on=(OSError, DownError, "no.such.Thing"), start=BEGINNING)
    sent = json.loads(json.dumps(rule.as_json()))
    assert sent["retry_on"] == ["OSError", f"{HERE}.DownError", "no.such.Thing"]
    assert Retry(**sent).as_json() == rule.as_json()


@pytest.mark.parametrize("settings", [
    {"retry_on": ()}, {"retry_on": 5}, {"retry_on": (OSError, None)}, {"retry_on": int}, {"retry_on": " "},
    {"start": "middle"}, {"start": None}, {"backoff": "2"}, {"backoff": None}, {"backoff": True}, {"backoff": 0.5},
    {"backoff": 10**400}, {"jitter": "no"}, {"jitter": 0}, {"jitter": None},
])  # fmt: skip
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        Retry(**settings)


def test_a_step_has_no_other_place_to_start() -> None:
    with pytest.raises(DefinitionError, match="from its beginning"):
        pc.step(retries=Retry(start=BEGINNING))(lambda: None)


# --- whether a run gets another attempt ------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [CodeChangedError("other steps"), InvalidInputsError("no", [])])
def test_what_another_attempt_would_only_meet_again_is_final(error: Exception) -> None:
    assert describe_end(error, Retry())["final"]


def test_the_worker_says_what_is_final() -> None:
    rule = Retry(retry_on=TransientError)
    assert "final" not in describe_end(DownError("x"), rule)
    assert describe_end(ValueError("x"), rule)["final"]


def ended(error: Exception, rule: Retry) -> str:
    return json.dumps(describe_end(error, rule))


def test_the_next_attempt_says_when_and_why() -> None:
    rule = Retry(limit=3, delay="30s", backoff=2, jitter=False)
    attempt = next_attempt(rule, 1, ended(TimeoutError("no answer\nwithin a minute"), rule), 0.0)
    assert attempt is not None
    assert (attempt.pause, attempt.anew) == (30, False)
    text = "waits 30 s before attempt 2 of 4 after TimeoutError: no answer"
    assert json.loads(attempt.waiting_for) == {"kind": "retry", "text": text}
    second = next_attempt(rule, 2, ended(TimeoutError(), rule), 0.0)
    assert second is not None
    assert json.loads(second.waiting_for)["text"] == "waits 1 min before attempt 3 of 4 after TimeoutError"
    assert next_attempt(rule, 4, ended(TimeoutError(), rule), 0.0) is None


def test_there_is_none_after_what_is_final() -> None:
    rule = Retry(retry_on=TransientError)
    assert next_attempt(rule, 1, ended(ValueError("x"), rule), 0.0) is None
    assert next_attempt(rule, 1, ended(DownError("x"), rule), 0.0) is not None


def test_it_begins_where_the_rule_says() -> None:
    rule = Retry(start=BEGINNING, delay=0)
    attempt = next_attempt(rule, 1, ended(ValueError("x"), rule), 0.0)
    assert attempt is not None
    assert attempt.anew
    assert json.loads(attempt.waiting_for)["text"] == "is about to begin attempt 2 of 4 after ValueError: x"
