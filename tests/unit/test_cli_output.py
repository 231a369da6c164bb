"""What people read: times, lengths, clean text; and the exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pullcord.cli.again import changed_inputs
from pullcord.cli.failing import clean, complain, field_lines, status_of
from pullcord.cli.follow import step_line, summary
from pullcord.cli.output import distance, length
from pullcord.core.errors import InvalidInputsError, NotFoundError


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "now"),
        (-1, "now"),
        (10, "10 s ago"),
        (-10, "in 10 s"),
        (120, "2 min ago"),
        (7200, "2 h ago"),
        (-172_800, "in 2 d"),
    ],
)
def test_distances(seconds: float, text: str) -> None:
    assert distance(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (1.04, "1.0 s"),
        (61, "1 min 1 s"),
        (3599.7, "1 h 0 min"),
        (7260, "2 h 1 min"),
    ],
)
def test_lengths(seconds: float, text: str) -> None:
    assert length(seconds) == text


def test_an_input_that_was_not_there_is_told_from_one_that_was_null() -> None:
    changes = {"a": {"before": None, "after": 4}, "b": {"after": None}}
    assert changed_inputs(changes) == ["a: null → 4", "b: (not given) → null"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ✓", "plain ✓"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("a\rb\x00", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"),
        ("two\nlines", "two\nlines"),
        ("tab\tstop", "tab     stop"),
    ],
)
def test_terminals_are_safe_from_what_flows_say(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("invalid_inputs", 2),
        ("idempotency_conflict", 2),
        ("unknown_flow", 3),
        ("not_found", 3),
        ("unauthenticated", 4),
        ("forbidden", 4),
        ("server_unreachable", 5),
        ("queue_full", 1),
        ("store_locked", 1),
    ],
)
def test_exit_statuses(code: str, status: int) -> None:
    assert status_of(code) == status


def test_field_errors_are_lines() -> None:
    errors = [
        {"loc": ["inputs", "day"], "msg": "Field required", "type": "missing"},
        {"loc": ["inputs", "point", "x"], "msg": "too small", "type": "x"},
        {"loc": ["inputs"], "msg": "must agree", "type": "value_error"},
    ]
    assert field_lines(errors) == ["day      Field required", "point.x  too small", "inputs   must agree"]


def test_an_error_is_a_message_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    complain(
        InvalidInputsError(
            "the inputs of 'f' are not valid: x: bad", [{"loc": ["inputs", "x"], "msg": "bad", "type": "t"}]
        )
    )
    assert capsys.readouterr().err == "error: the inputs of 'f' are not valid\n  x  bad\n"


def test_an_error_is_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    complain(NotFoundError("no such run"), as_json=True)
    assert json.loads(capsys.readouterr().err) == {"code": "not_found", "detail": "no such run"}


def test_steps_and_ends_are_lines() -> None:
    times = {"started_at": "2030-01-01T00:00:00Z", "ended_at": "2030-01-01T00:00:00.250000Z"}
    error = {"type": "builtins.ValueError", "message": "bad"}
    assert step_line({"name": "load", "state": "succeeded", "attempt": 1, "error": None, **times}) == "✓ load (250 ms)"
    assert step_line({"name": "load", "state": "failed", "attempt": 2, "error": error, **times}) == (
        "✗ load (250 ms), try 2: ValueError: bad"
    )
    run = {"id": "1", "flow": "f", "state": "cancelled", "error": None, "cancel": {"reason": "enough"}, **times}
    assert summary(run) == "f cancelled after 250 ms: enough (run 1)"


def test_the_command_line_is_light() -> None:
    script = "import sys, pullcord.cli.main; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"rich", "httpx2", "pydantic", "fastapi", "uvicorn", "sqlalchemy", "pydantic_core"}
    assert heavy.isdisjoint(done.stdout.split())
