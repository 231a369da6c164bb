"""When an endpoint fires, over real HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

import pullcord as pc
from pullcord.core.errors import DefinitionError
from pullcord.events import Endpoint
from pullcord.events.http import MOST_BODY
from tests.unit.events.site import Site


def fired(event: Endpoint, state: pc.Cursor) -> Any:
    """Poll; return the context, or None."""
    seen = event.poll(state)
    return None if isinstance(seen, pc.Skip) else seen.context


def test_a_changed_etag_fires_and_an_unchanged_one_is_not_sent_again(site: Site, state: pc.Cursor) -> None:
    event = Endpoint(site.url)
    site.headers = {"ETag": '"one"'}
    assert fired(event, state) is None
    assert event.poll(state) == pc.Skip("not modified")
    assert [headers["If-None-Match"] for headers in site.asked] == [None, '"one"']
    site.headers = {"ETag": '"two"'}
    assert fired(event, state) == {"value": '"two"'}
    assert Endpoint(site.url).poll(state) == pc.Skip("not modified")


def test_an_endpoint_without_etag_says_what_to_do(site: Site, state: pc.Cursor) -> None:
    with pytest.raises(pc.PollError, match="sends no ETag; watch its status or a path of its JSON"):
        Endpoint(site.url).poll(state)
    assert state.value is None


def test_a_path_of_the_json_fires_when_its_value_changes(site: Site, state: pc.Cursor) -> None:
    event = Endpoint(site.url, watch="json:items.1.version", details=True)

    def answer(version: Any, other: int, **headers: str) -> Any:
        site.body = json.dumps({"items": [other, {"version": version}]}).encode()
        site.headers = headers
        return fired(event, state)

    assert answer(1, 1) is None
    assert answer(1, 2, ETag="a") is None
    assert answer(1, 3, ETag="b") is None
    assert answer(2, 3, ETag="c") == {"value": 2, "url": site.url, "previous": 1}
    assert answer(True, 3) == {"value": True, "url": site.url, "previous": 2}
    assert answer(1, 3) == {"value": 1, "url": site.url, "previous": True}
    assert answer(None, 3) == {"value": None, "url": site.url, "previous": 1}
    assert answer({"a": [1, 2]}, 3) == {"value": {"a": [1, 2]}, "url": site.url, "previous": None}


def test_a_value_that_comes_back_is_another_change(site: Site, state: pc.Cursor) -> None:
    event, keys = Endpoint(site.url, watch="status"), []
    for status in (200, 500, 200, 500):
        site.status = status
        seen = event.poll(state)
        keys += [] if isinstance(seen, pc.Skip) else [seen.key]
    assert keys == ["1", "2", "3"]


def test_what_is_watched_anew_begins_with_a_first_look(site: Site, other_site: Site, state: pc.Cursor) -> None:
    site.headers = other_site.headers = {"ETag": '"one"'}
    assert fired(Endpoint(site.url), state) is None
    assert fired(Endpoint(site.url, watch="status"), state) is None
    assert fired(Endpoint(other_site.url, watch="status"), state) is None
    assert fired(Endpoint(other_site.url), state) is None
    assert all(headers["If-None-Match"] is None for headers in other_site.asked)
    other_site.headers = {"ETag": '"two"'}
    assert fired(Endpoint(other_site.url), state) == {"value": '"two"'}


def test_a_status_fires_and_no_status_is_an_error(site: Site, state: pc.Cursor) -> None:
    event = Endpoint(site.url, watch="status")
    site.headers = {"ETag": "x"}
    assert fired(event, state) is None
    assert fired(event, state) is None
    for status in (500, 401, 304, 200):
        site.status = status
        assert fired(event, state) == {"value": status}
        assert fired(event, state) is None
    assert all(headers["If-None-Match"] is None for headers in site.asked)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_permanent(site: Site, state: pc.Cursor, status: int) -> None:
    site.status = status
    with pytest.raises(pc.PollError, match=rf"http://127.0.0.1:\d+/status refuses the credentials \({status}\)") as it:
        Endpoint(f"{site.url}?token=hush").poll(state)
    assert it.value.permanent
    assert "hush" not in it.value.message


@pytest.mark.parametrize(("status", "header"), [(404, None), (429, "17"), (503, "17"), (500, "soon")])
def test_other_errors_are_tried_again(site: Site, state: pc.Cursor, status: int, header: str | None) -> None:
    site.status = status
    site.headers = {} if header is None else {"Retry-After": header}
    with pytest.raises(pc.PollError, match=f"answers {status}") as caught:
        Endpoint(site.url).poll(state)
    assert not caught.value.permanent
    assert caught.value.retry_after == (17.0 if header == "17" else None)


def test_no_answer_is_an_error_that_is_tried_again(site: Site, state: pc.Cursor, closed_port: int) -> None:
    with pytest.raises(pc.PollError, match=r"cannot be reached: .*refused") as caught:
        Endpoint(f"http://127.0.0.1:{closed_port}/").poll(state)
    assert not caught.value.permanent
    site.hold.clear()
    with pytest.raises(pc.PollError, match=r"timed out|did not answer within 0\.2 s"):
        Endpoint(site.url, timeout=0.2).poll(state)


def test_an_answer_that_is_cut_short_is_an_error(site: Site, state: pc.Cursor) -> None:
    site.headers = {"Content-Length": "100"}
    site.body = b'{"a": 1}'
    with pytest.raises(pc.PollError, match="cannot be read"):
        Endpoint(site.url, watch="json:a").poll(state)


def test_an_answer_that_is_too_large_is_not_read(site: Site, state: pc.Cursor) -> None:
    site.body = b'"' + b"x" * MOST_BODY + b'"'
    with pytest.raises(pc.PollError, match="more than 4000000 bytes") as caught:
        Endpoint(site.url, watch="json:a").poll(state)
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "is no JSON"),
        (b"\xff", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"b": 1}', "has nothing at 'a.0'"),
        (b'{"a": []}', "has nothing at 'a.0'"),
        (b'{"a": 1}', "has nothing at 'a.0'"),
    ],
)
def test_an_answer_without_the_value_is_an_error(site: Site, state: pc.Cursor, body: bytes, message: str) -> None:
    site.body = body
    with pytest.raises(pc.PollError, match=message):
        Endpoint(site.url, watch="json:a.0").poll(state)


def test_credentials_are_looked_up_and_stay_with_their_host(
    site: Site, other_site: Site, state: pc.Cursor, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = Endpoint(site.url, watch="status", headers={"Authorization": "env:TOKEN", "X-Colour": "red"})
    monkeypatch.delenv("TOKEN", raising=False)
    with pytest.raises(pc.PollError, match="the variable TOKEN is not set") as caught:
        event.poll(state)
    assert caught.value.permanent
    monkeypatch.setenv("TOKEN", "Bearer hush")
    site.status, site.headers = 302, {"Location": other_site.url}
    assert fired(event, state) is None
    assert state.value["value"] == 200
    assert (site.asked[0]["Authorization"], site.asked[0]["X-Colour"]) == ("Bearer hush", "red")
    assert (other_site.asked[0]["Authorization"], other_site.asked[0]["X-Colour"]) == (None, None)
    assert "hush" not in json.dumps(state.value)


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_out_of_the_web_is_not_followed(site: Site, state: pc.Cursor, place: str) -> None:
    site.status, site.headers = 302, {"Location": place}
    with pytest.raises(pc.PollError, match="answers 302"):
        Endpoint(site.url, watch="json:a").poll(state)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "file:///etc/passwd",
        "http://",
        "http://[",
        "http://a b/",
        "http://a:0/",
        "http://a/ü",
        "http://u:hush@[",
    ],
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(DefinitionError, match="is no web address") as caught:
        pc.events.endpoint(url, flow="load")
    assert "hush" not in caught.value.message


def test_secrets_in_the_declaration_are_refused() -> None:
    with pytest.raises(DefinitionError, match="put it into a header") as caught:
        pc.events.endpoint("https://ada:hush@example.org/", flow="load")
    assert "hush" not in caught.value.message
    with pytest.raises(DefinitionError, match="write 'env:VARIABLE'") as caught:
        pc.events.endpoint("https://example.org/", flow="load", headers={"authorization": "hush"})
    assert "hush" not in caught.value.message


@pytest.mark.parametrize("watch", ["", "body", "json:", "json:a..b", "json:.a"])
def test_what_cannot_be_watched_is_refused(watch: str) -> None:
    with pytest.raises(DefinitionError, match="watch is 'etag', 'status' or a path"):
        pc.events.endpoint("https://example.org/", watch=watch, flow="load")


def test_the_function_declares_an_event() -> None:
    event = pc.events.endpoint("https://example.org/", flow="load", timeout="30s", every="1h")
    assert (event.name, event.flows, event.every, event.timeout) == ("load-endpoint", ["load"], 3600.0, 35.0)
    assert event.parameters["timeout"] == 30.0
