"""A real server on a thread of its own, a client that says what it expects, and a way to hold flows back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Coroutine, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import UUID

import httpx2
import uvloop

from pullcord.api.server import Listener, bind
from pullcord.app import App
from tests.system.processes import poll

FLOWS = Path(__file__).with_name("flows")

PATIENCE = 60.0
"""Seconds after which a test gives up waiting for what should long have happened."""

RECEIPT = {"request_id", "outcome", "reason", "code", "flow", "run_id", "state", "replayed", "position"}
"""The fields of a receipt, exactly."""

PROBLEM = {"type", "title", "status", "detail", "code"}

Json = dict[str, Any]
T = TypeVar("T")


class Server:
    """An app that listens on a free port.

    Args:
        data_dir: where data lives.
        flows: the code location.
        wait: whether to wait until the location has reported.
    """

    def __init__(self, data_dir: Path, flows: Path = FLOWS, *, wait: bool = True) -> None:
        self.data_dir = data_dir
        self.app: App
        self.port = 0
        self._flows = flows
        self._wait = wait
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._up = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(PATIENCE), "the server did not start"
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the server did not stop"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        return (self.data_dir / "token").read_text().strip()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    @contextlib.contextmanager
    def client(self, token: str | None = None) -> Iterator[Api]:
        """Open a client with the owner's token; or with another one, or with none where it is empty."""
        token = self.token if token is None else token
        headers = {"authorization": f"Bearer {token}"} if token else {}
        # Without TLS there is nothing to verify, and loading certificates for each test would take most of its time.
        with httpx2.Client(base_url=self.url, headers=headers, timeout=PATIENCE, trust_env=False, verify=False) as http:
            yield Api(http)

    def connect(self) -> socket.socket:
        """Open a bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def raw(self, request: bytes) -> bytes:
        """Send bytes and return the first of the answer."""
        with self.connect() as link:
            link.sendall(request)
            return link.recv(1 << 16)

    def _work(self) -> None:
        try:
            uvloop.run(self._serve())
        except BaseException as error:
            self._failure = error
            self._up.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        bound = bind("127.0.0.1", 0)
        self.port = bound.getsockname()[1]
        async with App([self._flows], self.data_dir, workers=1, stop_patience=0.1) as self.app:
            listener = Listener(self.app, bound, {"url": self.url})
            await listener.start()
            try:
                if self._wait:
                    await self.app.ready()
                    # A run starts at once where there is a worker for it; its code may load after that of control.
                    while not all(fleet.settled for fleet in self.app.engine.fleets.values()):  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
                self._up.set()
                await self._stop.wait()
            finally:
                await listener.stop()
        with contextlib.suppress(TimeoutError):
            # The workers are dead, but the loop must not end before it has seen their channels close.
            async with asyncio.timeout(PATIENCE):
                while any(fleet.workers for fleet in self.app.engine.fleets.values()):  # noqa: ASYNC110
                    await asyncio.sleep(0)


class Api:
    """Calls, each with the status that is expected of its answer.

    Args:
        http: the client to make them with.
    """

    def __init__(self, http: httpx2.Client) -> None:
        self.http = http

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of an answer."""
        return checked(self.http.get(path, params=query or None), 200)

    def post(self, path: str, body: Any = None, status: int = 202) -> Any:
        """Return the JSON of an answer."""
        return checked(self.http.post(path, json=body), status)

    def submit(
        self,
        flow: str,
        inputs: Any = None,
        status: int = 202,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Json:
        """Ask for a run and return the receipt."""
        body = {"flow": flow, "inputs": inputs or {}} | fields
        return receipt_of(self.http.post("/v1/runs", json=body, headers=headers, params=query), status)

    def run(self, flow: str, inputs: Any = None, **fields: Any) -> Json:
        """Ask for a run, wait for its end and return it."""
        run: Json = self.submit(flow, inputs, status=200, query={"wait": "30s"}, **fields)["run"]
        assert run["ended_at"] is not None
        return run

    def ended(self, run_id: str) -> Json:
        """Follow a run to its end and return it."""
        assert events_of(self, run_id)[-1].kind == "end"
        run: Json = self.get(f"/v1/runs/{run_id}")
        return run

    def pages(self, path: str, limit: int = 1000, **query: Any) -> list[Json]:
        """Return all items of a list."""
        items: list[Json] = []
        cursor: str | None = None
        while True:
            page = self.get(path, limit=limit, **query, **({} if cursor is None else {"cursor": cursor}))
            assert set(page) >= {"items", "next"}
            assert len(page["items"]) <= limit
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                return items

    def settle(self, flow: str) -> None:
        """Wait until no run of a flow is under way: other tests may have left some that are."""
        for state in ("queued", "running"):  # the way they go, so that none is missed
            poll(lambda: self.get("/v1/runs", flow=flow, state=state)["items"] == [])  # noqa: B023

    def count(self, problem: Json) -> int:
        """Return how often the ledger has noted a malformed request; equal ones share a row."""
        wanted = (problem["code"], problem["detail"])
        cursor: Json = {}
        while True:
            page = self.get("/v1/requests", outcome="rejected", limit=100, **cursor)
            for row in page["items"]:
                if (row["code"], row["reason"]) == wanted:
                    count: int = row["count"]
                    return count
            if page["next"] is None:
                return 0
            cursor = {"cursor": page["next"]}


class Event:
    """A Server-Sent Event.

    Attributes:
        id: where to resume behind it.
        kind: `run`, `step`, `progress`, `log` or `end`.
        data: the JSON.
    """

    def __init__(self, id: str, kind: str, data: Json) -> None:
        self.id = id
        self.kind = kind
        self.data = data

    def __repr__(self) -> str:
        return f"<{self.kind} {self.id} {self.told}>"

    @property
    def told(self) -> Any:
        """What of it must not come twice."""
        return self.data.get(
            {"run": "state", "step": "seq", "log": "text", "end": "state", "progress": "done"}[self.kind]
        )


def stream(api: Api, run_id: str, what: str = "events", last: str | None = None) -> Iterator[Event]:
    """Follow a run until the stream closes."""
    headers = {} if last is None else {"last-event-id": last}
    with api.http.stream("GET", f"/v1/runs/{run_id}/{what}", headers=headers) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if line.startswith(":"):
                continue
            if line:
                assert name in ("id", "event", "data")
                assert name not in fields
                fields[name] = value
            elif fields:
                yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
                fields = {}
        assert not fields, "the stream ended within an event"


def events_of(api: Api, run_id: str, what: str = "events", last: str | None = None) -> list[Event]:
    """Return all events of a run; its stream closes after `end`."""
    return list(stream(api, run_id, what, last))


class Hold:
    """Where flows of the tests report, and wait for a word: a listening socket whose port they get as an input."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(PATIENCE)
        self._links: list[socket.socket] = []

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def begun(self) -> Held:
        """Wait until a flow (or a step) has begun."""
        link, _ = self._socket.accept()
        self._links.append(link)
        return Held(link)

    def close(self) -> None:
        """Let all go."""
        self._socket.close()
        for link in self._links:
            link.close()


class Held:
    """A flow that waits.

    Args:
        link: its connection.
    """

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    def release(self, word: str = "done") -> None:
        """Let it go on."""
        self._link.sendall(word.encode())
        self._link.close()


def checked(response: httpx2.Response, status: int) -> Any:
    """Return the JSON of an answer that has the expected status."""
    assert response.status_code == status, f"{response.status_code} instead of {status}: {response.text[:1000]}"
    kind = "application/json" if status < 400 else "application/problem+json"
    assert response.headers["content-type"] == kind
    return response.json()


def receipt_of(response: httpx2.Response, status: int) -> Json:
    """Return a receipt that has all the fields it must have and no others."""
    receipt: Json = checked(response, status)
    extra = set(receipt) - RECEIPT - ({"errors", *PROBLEM} if status >= 400 else {"run"})
    assert not extra, f"unexpected fields: {extra}"
    assert set(receipt) >= RECEIPT
    assert UUID(receipt["request_id"])
    assert receipt["reason"]
    assert receipt["replayed"] is (response.headers.get("idempotent-replayed") == "true")
    assert receipt["replayed"] is (receipt["outcome"] == "replayed")
    return receipt


def problem_of(response: httpx2.Response, status: int, code: str) -> Json:
    """Return a problem that is as RFC 9457 and the contract say."""
    assert response.status_code == status, f"{response.status_code} instead of {status}: {response.text[:1000]}"
    assert response.headers["content-type"] == "application/problem+json"
    problem: Json = response.json()
    assert set(problem) >= PROBLEM
    assert problem["code"] == code
    assert problem["type"] == f"urn:pullcord:problem:{code}"
    assert problem["status"] == status
    assert problem["title"] == HTTPStatus(status).phrase
    assert problem["detail"]
    for error in problem.get("errors", []):
        assert set(error) == {"loc", "msg", "type"}
        assert all(isinstance(part, str | int) for part in error["loc"])
    return problem


def refusal_of(response: httpx2.Response, status: int, code: str) -> Json:
    """Return a refusal: a problem with the receipt's fields beside it."""
    problem = problem_of(response, status, code)
    receipt_of(response, status)
    assert problem["outcome"] == "rejected"
    assert problem["reason"] == problem["detail"]
    return problem


def locations(problem: Json) -> list[list[str | int]]:
    """Return which fields a problem names."""
    return [error["loc"] for error in problem["errors"]]
