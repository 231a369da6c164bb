"""When a health check fires, over real HTTP and TCP."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import pullcord as pc
from pullcord.core.errors import DefinitionError
from pullcord.events import HealthCheck
from tests.unit.events.site import Site


def states(event: HealthCheck, state: pc.Cursor, site: Site, statuses: list[int]) -> list[tuple[Any, str | None]]:
    """Check at each status; return state and key of the fires."""
    fires = []
    for site.status in statuses:
        seen = event.poll(state)
        if isinstance(seen, pc.Fire):
            fires.append((seen.context["state"], seen.key))
    return fires


def test_only_changes_fire_and_down_takes_some_failures(site: Site, state: pc.Cursor) -> None:
    event = HealthCheck(site.url)
    assert states(event, state, site, [200, 204, 500, 500, 200, 500, 500]) == []
    assert states(HealthCheck(site.url), state, site, [503]) == [("down", "1")]
    assert states(event, state, site, [503, 500, 404]) == []
    assert states(event, state, site, [200, 200]) == [("up", "2")]
    assert states(event, state, site, [500, 500, 500, 500, 200]) == [("down", "3"), ("up", "4")]


def test_one_that_is_down_from_the_beginning_is_told(site: Site, state: pc.Cursor) -> None:
    assert states(HealthCheck(site.url, failures=1), state, site, [500, 500]) == [("down", "1")]


def test_skips_and_details_say_why(site: Site, state: pc.Cursor) -> None:
    event = HealthCheck(site.url, failures=2, details=True)
    assert event.poll(state) == pc.Skip("up")
    site.status = 500
    assert event.poll(state) == pc.Skip(f"1 of 2 failures: {site.url} answers 500")
    reason = f"{site.url} answers 500"
    assert event.poll(state) == pc.Fire({"state": "down", "target": site.url, "reason": reason}, key="1")
    before = dict(state.value)
    assert event.poll(state) == pc.Skip("down")
    assert state.value == before
    site.status = 200
    assert event.poll(state) == pc.Fire({"state": "up", "target": site.url, "reason": "it answers"}, key="2")


def test_a_site_that_does_not_answer_is_down(site: Site, state: pc.Cursor, closed_port: int) -> None:
    site.hold.clear()
    slow = HealthCheck(site.url, failures=1, timeout=0.1)
    assert slow.poll(state) == pc.Fire({"state": "down"}, key="1")
    gone = HealthCheck(f"http://127.0.0.1:{closed_port}/", failures=1)
    assert gone.poll(pc.Cursor()) == pc.Fire({"state": "down"}, key="1")


def test_a_port_is_up_when_it_accepts(state: pc.Cursor) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        event = HealthCheck(f"tcp://127.0.0.1:{port}", failures=2, details=True)
        assert event.poll(state) == pc.Skip(
            f"1 of 2 failures: tcp://127.0.0.1:{port} does not accept: Connection refused"
        )
        seen = event.poll(state)
        assert isinstance(seen, pc.Fire)
        assert seen.context["state"] == "down"
        listener.listen()
        seen = event.poll(state)
        assert isinstance(seen, pc.Fire)
        assert seen.context["state"] == "up"
        assert event.poll(state) == pc.Skip("up")


def test_a_name_that_cannot_be_looked_up_is_down(state: pc.Cursor) -> None:
    event = HealthCheck(f"tcp://{'x' * 64}.invalid:80", failures=1)
    assert event.poll(state) == pc.Fire({"state": "down"}, key="1")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("example.org:80", "is no web address"),
        ("tcp://example.org", "needs a host and a port"),
        ("tcp://:80", "needs a host and a port"),
        ("tcp://example.org:99999", "needs a host and a port"),
        ("https://a:b@example.org/", "put it into a header"),
    ],
)
def test_what_cannot_be_checked_is_refused(target: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        pc.events.health(target, flow="load")


def test_no_failures_are_no_measure() -> None:
    with pytest.raises(DefinitionError, match="failures is at least 1"):
        pc.events.health("tcp://example.org:80", failures=0, flow="load")


def test_the_function_declares_an_event() -> None:
    event = pc.events.health("tcp://example.org:5432", flow="load", timeout="2s")
    assert (event.name, event.timeout, event.parameters["timeout"]) == ("load-health", 7.0, 2.0)
