"""The client: calls as values, problems as errors, events, and what happens when a connection is lost."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullcord.client import AsyncClient, Client, ServerUnreachableError, UnexpectedAnswerError, aio, calls, sync
from pullcord.client.errors import error_of
from pullcord.client.events import Event, EventReader, Following, reached, shows
from pullcord.core import errors as tree
from pullcord.core.errors import UsageError
from pullcord.gate.request import RefusedError

RECEIPT = {
    "request_id": "r", "outcome": "admitted", "reason": "started", "code": None, "flow": "f", "run_id": "1",
    "state": "running", "replayed": False, "position": None,
}  # fmt: skip
REFUSAL = RECEIPT | {"outcome": "rejected", "code": "queue_full", "run_id": None, "state": None, "status": 429}

Script = list[Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]]


def answer(status: int, body: Any, kind: str = "application/json") -> Callable[[BaseHTTPRequestHandler, Any], None]:
    def send(handler: BaseHTTPRequestHandler, _: Any) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return send


def redirect(handler: BaseHTTPRequestHandler, _: Any) -> None:
    handler.send_response(307)
    handler.send_header("location", "/elsewhere")
    handler.send_header("content-length", "0")
    handler.end_headers()


def hang_up(handler: BaseHTTPRequestHandler, _: Any) -> None:
    handler.close_connection = True


@pytest.fixture
def server() -> Iterator[tuple[str, Script, list[dict[str, Any]]]]:
    script: Script = []
    heard: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            size = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(size)) if size else None
            heard.append({"path": self.path, "body": body, "headers": dict(self.headers)})
            script.pop(0)(self, body)

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", script, heard
        http.shutdown()
        thread.join()


def test_a_lost_connection_is_tried_again_under_the_same_request_id(server: Any) -> None:
    url, script, heard = server
    script += [hang_up, hang_up, answer(202, RECEIPT)]
    with Client(url, "key") as client:
        assert client.run("f", {"day": date(2030, 1, 31)}).run_id == "1"
    assert len(heard) == 3
    assert len({call["body"]["request_id"] for call in heard}) == 1
    assert UUID(heard[0]["body"]["request_id"]).version == 4
    assert heard[0]["body"]["inputs"] == {"day": "2030-01-31"}
    assert {name.lower(): value for name, value in heard[0]["headers"].items()}["authorization"] == "Bearer key"


def test_it_gives_up_after_two_more_tries(server: Any) -> None:
    url, script, heard = server
    script += [hang_up] * 4
    with Client(url) as client, pytest.raises(ServerUnreachableError, match="lost"):
        client.run("f")
    assert len(heard) == 3


def test_what_would_do_harm_twice_is_not_repeated(server: Any) -> None:
    url, script, heard = server
    script += [hang_up, answer(202, {})]
    with Client(url) as client, pytest.raises(ServerUnreachableError, match="unknown"):
        client.runs.cancel("1")
    assert len(heard) == 1


def test_a_given_request_id_is_kept(server: Any) -> None:
    url, script, heard = server
    script.append(answer(202, RECEIPT))
    with Client(url) as client:
        client.run("f", request_id="mine", not_before=datetime(2030, 1, 31, tzinfo=UTC), test=True)
    assert heard[0]["body"] == {
        "flow": "f", "inputs": {}, "request_id": "mine", "not_before": "2030-01-31T00:00:00+00:00", "test": True,
    }  # fmt: skip


def test_a_refusal_is_raised_or_returned(server: Any) -> None:
    url, script, _ = server
    script += [answer(429, REFUSAL), answer(429, REFUSAL)]
    with Client(url) as client:
        with pytest.raises(RefusedError) as caught:
            client.run("f")
        assert (caught.value.code, caught.value.receipt.code) == ("queue_full", "queue_full")
        assert client.run("f", raise_on_refusal=False).refused


def test_redirects_do_not_carry_the_key_away(server: Any) -> None:
    url, script, heard = server
    script.append(redirect)
    with Client(url, "key") as client, pytest.raises(UnexpectedAnswerError):
        client.runs.get("1")
    assert len(heard) == 1


async def test_the_async_client_does_the_same(server: Any) -> None:
    url, script, heard = server
    events = b'id: 1\nevent: run\ndata: {"state": "running"}\n\nid: 2\nevent: end\ndata: {"state": "succeeded"}\n\n'
    script += [hang_up, answer(202, RECEIPT), answer(200, events, "text/event-stream")]
    async with AsyncClient(url) as client:
        assert (await client.run("f")).run_id == "1"
        assert [event.kind async for event in client.runs.events("1")] == ["run", "end"]
    assert len(heard) == 3


def test_a_cut_stream_goes_on_after_the_last_event(server: Any) -> None:
    url, script, heard = server
    script += [
        answer(200, b'id: 1.0.0\nevent: log\ndata: {"text": "a"}\n\nid: 2', "text/event-stream"),
        answer(200, b'id: 2.0.0\nevent: end\ndata: {"state": "failed"}\n\n', "text/event-stream"),
    ]
    with Client(url) as client:
        assert [event.kind for event in client.runs.events("1")] == ["log", "end"]
    assert "1.0.0" in heard[1]["headers"].values()


def test_many_are_split_into_batches() -> None:
    sizes = [len(json.loads(call.body or b"")["requests"]) for call in calls.batches([("f", None)] * 2500)]
    assert sizes == [1000, 1000, 500]
    large = [("f", {"x": "y" * 1_000_000})] * 9
    assert [len(json.loads(call.body or b"")["requests"]) for call in calls.batches(large)] == [4, 4, 1]


def test_one_of_many_may_be_a_mapping() -> None:
    (call,) = calls.batches([{"flow": "f", "inputs": {"a": 1}, "priority": 5}])
    (wanted,) = json.loads(call.body or b"")["requests"]
    assert (wanted["flow"], wanted["inputs"], wanted["priority"]) == ("f", {"a": 1}, 5)
    with pytest.raises(UsageError):
        list(calls.batches(["f"]))  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("status", "data", "kind", "code"),
    [
        (404, {"code": "not_found", "detail": "d"}, tree.NotFoundError, "not_found"),
        (404, {"code": "unknown_flow", "detail": "d"}, tree.NotFoundError, "unknown_flow"),
        (
            409,
            {"code": "not_cancellable", "detail": "d", "state": "failed"},
            tree.NotCancellableError,
            "not_cancellable",
        ),
        (422, {"code": "invalid_inputs", "detail": "d", "errors": []}, tree.InvalidInputsError, "invalid_inputs"),
        (401, {"code": "unauthenticated", "detail": "d"}, tree.UnauthenticatedError, "unauthenticated"),
        (503, {"code": "store_full", "detail": "d"}, tree.StoreFullError, "store_full"),
        (418, {"code": "of_the_future", "detail": "d"}, tree.PullcordError, "of_the_future"),
        (502, None, UnexpectedAnswerError, "unexpected_answer"),
        (500, ["strange"], UnexpectedAnswerError, "unexpected_answer"),
    ],
)
def test_problems_become_errors(status: int, data: Any, kind: type[Exception], code: str) -> None:
    error = error_of(status, data)
    assert type(error) is kind
    assert error.code == code


def test_times_have_zones() -> None:
    with pytest.raises(UsageError, match="zone"):
        calls.moment(datetime(2030, 1, 1))


@pytest.mark.parametrize("text", ["", ".", ".."])
def test_names_stay_in_their_place(text: str) -> None:
    with pytest.raises(UsageError):
        calls.segment(text)
    assert calls.segment("a/../b?c") == "a%2F..%2Fb%3Fc"


@given(st.lists(st.text(), max_size=5), st.data())
def test_events_come_through_however_the_stream_is_cut(texts: list[str], data: st.DataObject) -> None:
    stream = b"".join(
        f"id: {n}\nevent: log\ndata: {json.dumps(text)}\n\n: still here\n\n".encode() for n, text in enumerate(texts)
    )
    reader, seen = EventReader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        seen += [event for event in reader.feed(stream[:size]) if event is not None]
        stream = stream[size:]
    assert [(event.id, event.data) for event in seen] == [(str(n), text) for n, text in enumerate(texts)]


def test_a_stream_that_never_came_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    state = Following()
    state.lost(None)
    now[0] = 2.0
    with pytest.raises(ServerUnreachableError):
        state.lost(None)


def test_a_stream_that_was_there_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    state = Following(timeout=100.0)
    state.note(Event("log", {}, "7"))
    for now[0] in (1.0, 10.0, 25.0):
        assert 0 < state.lost(None) <= 2.0
    assert state.headers["last-event-id"] == "7"
    now[0] = 101.0
    assert state.is_over()


def test_what_is_waited_for() -> None:
    step = {"name": "load", "state": "succeeded"}
    assert reached({"state": "failed", "steps": []}, "step:load")
    assert reached({"state": "running", "steps": [step]}, "step:load")
    assert not reached({"state": "running", "steps": [step]}, "ended")
    assert reached({"state": "waiting", "steps": []}, "started")
    assert not reached({"state": "queued", "steps": []}, "started")
    assert shows(Event("step", step, ""), "step:load")
    assert not shows(Event("step", step, ""), "step:save")
    assert shows(Event("end", {"state": "failed"}, ""), "started")


@pytest.mark.parametrize("name", ["Client", "Runs", "Flows", "Requests"])
def test_both_clients_have_the_same_surface(name: str) -> None:
    def surface(kind: Any) -> dict[str, list[tuple[str, Any]]]:
        return {
            key: [(p.name, p.default) for p in inspect.signature(value).parameters.values()]
            for key, value in vars(kind).items()
            if callable(value) and not key.startswith("_")
        }

    assert surface(getattr(sync, name)) == surface(getattr(aio, f"Async{name}"))


@pytest.mark.parametrize(
    "make",
    [
        lambda text: calls.get_run(text),
        lambda text: calls.get_flow(text),
        lambda text: calls.cancel(text, False, None),
        lambda text: calls.get("/v1/runs", calls.page_of, flow=text).parameters,
        lambda text: calls.cancel("1", False, text),
        lambda text: calls.run({"flow": "f", "inputs": {"a": text}}, None, "ended"),
    ],
    ids=["id", "name", "action", "query", "reason", "input"],
)
def test_what_is_not_utf_8_is_refused_in_words(make: Callable[[str], Any]) -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        make("a\udcff")


def test_what_cannot_be_sent_is_not_always_an_input() -> None:
    with pytest.raises(UsageError, match=r"the request cannot be written as JSON: .*object"):
        calls.encode({"reason": object()})
