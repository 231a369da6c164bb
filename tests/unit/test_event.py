"""Events: what can be declared, and what is refused where it is declared."""

from __future__ import annotations

import functools
from typing import Any

import pytest

import pullcord as pc
from pullcord.core.errors import DefinitionError, UsageError
from pullcord.core.event import EventTrigger


@pc.flow
def work() -> None: ...


def look() -> None:
    """Look whether there is something."""


class Inbox:
    """Looks into an inbox."""

    def poll(self) -> None: ...


@pytest.mark.parametrize(
    ("target", "options", "says"),
    [
        (look, {"every": "49ms"}, "every is at least 50 ms"),
        (look, {"every": "soon"}, "every: .*not a duration"),
        (look, {"every": -1}, "every"),
        (look, {"every": None}, "every"),
        (look, {"timeout": 0}, "timeout is at least 10 ms"),
        (look, {"timeout": "101y"}, "timeout"),
        (look, {"max_errors": 0}, "max_errors"),
        (look, {"max_errors": True}, "max_errors"),
        (look, {"max_errors": "10"}, "max_errors"),
        (look, {"flow": 7}, "flow="),
        (look, {"flow": ["work", 7]}, "flow="),
        (look, {"name": ""}, None),
        (look, {"name": "-first"}, "no trigger name"),
        (look, {"name": "x" * 101}, "no trigger name"),
        (look, {"name": 7}, "no trigger name"),
        (look, {"parameters": [1]}, "parameters is an object"),
        (look, {"parameters": {1: 2}}, "parameters is an object"),
        (look, {"parameters": {"a": float("nan")}}, "parameters must be JSON"),
        (look, {"parameters": {"a": {1, 2}}}, "parameters must be JSON"),
        (look, {"enabled": "yes"}, "enabled is True or False"),
        (object, {}, r"no method poll\(\)"),
        (7, {}, "neither a function nor a class"),
        (functools.partial(look), {}, "neither a function nor a class"),
        (Inbox().poll, {}, "neither a function nor a class"),
        (lambda: None, {}, "no trigger name"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_declared(target: Any, options: dict[str, Any], says: str | None) -> None:
    if says is None:
        assert pc.event(**options)(target).name == "look"
        return
    with pytest.raises(DefinitionError, match=says):
        pc.event(**options)(target)


def test_an_event_is_called_after_its_function_and_can_be_called() -> None:
    @pc.event
    def _my_inbox(n: int = 2) -> int:
        return n * 2

    assert isinstance(_my_inbox, EventTrigger)
    assert (_my_inbox.name, _my_inbox.kind, _my_inbox.flows) == ("my-inbox", "event", [])
    assert (_my_inbox(), _my_inbox(5)) == (4, 10)
    assert repr(_my_inbox) == "<event my-inbox>"


def test_what_it_says_goes_into_the_manifest() -> None:
    @pc.event(flow=[work, "other", "work"], every="1m", timeout=2, max_errors=None, allow_concurrent=True)
    class Watch(Inbox):
        """Watches."""

    assert Watch.flows == ["work", "other"]
    assert Watch.description == "Watches."
    assert Watch.settings() == {"every": 60.0, "timeout": 2.0, "allow_concurrent": True, "max_errors": None}
    assert isinstance(Watch(), Inbox)


def test_what_a_poll_says_has_defaults() -> None:
    assert (pc.Fire().context, pc.Fire().key, pc.Skip().reason, pc.Cursor().value) == ({}, None, "", None)


def test_a_poll_error_carries_how_long_and_whether_for_good() -> None:
    error = pc.PollError("no", retry_after="2m", permanent=True)
    assert (error.retry_after, error.permanent, error.code) == (120.0, True, "poll_failed")
    assert (pc.PollError("no").retry_after, pc.PollError("no").permanent) == (None, False)
    with pytest.raises(UsageError):
        pc.PollError("no", retry_after="later")
