"""Every call of the API as a pure value: what to send, and how to read the answer. Sync and async share this."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote
from uuid import uuid4

from pydantic_core import PydanticSerializationError, from_json, to_json

from pullcord.client.errors import UnexpectedAnswerError, error_of
from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import UsageError
from pullcord.core.states import Outcome
from pullcord.core.until import check_until
from pullcord.gate.request import Receipt, RefusedError

T = TypeVar("T")

Wait = Duration | bool | None
"""How long to wait: not at all (None or False), for ever (True), or a duration."""

Moment = str | datetime
"""A time: RFC 3339 text, or a datetime with a zone."""

Wanted = Mapping[str, Any] | tuple[str, Mapping[str, Any] | None]
"""One request of many: a mapping with the arguments of `run`, or `(flow, inputs)`."""

JSON_LINES: Final = "application/x-ndjson"
TEXT: Final = "text/plain"

BATCH: Final = 1000
BATCH_BYTES: Final = 4 * 1024 * 1024
"""A batch is not larger, in requests and bytes."""

FIRST_WAIT: Final = 20.0
"""Seconds that the call itself waits for a run; after that the client follows the run's events."""


class Page(list[dict[str, Any]]):
    """A part of a list, newest first.

    Attributes:
        next: cursor of the part after this one, or None at the end.
        more: what the answer said besides the items, for example the load failures of `flows.list()`.
    """

    def __init__(
        self, items: Iterable[dict[str, Any]] = (), next: str | None = None, more: dict[str, Any] | None = None
    ) -> None:
        super().__init__(items)
        self.next = next
        self.more = more or {}

    def as_json(self) -> dict[str, Any]:
        """Return the page as the API shows it."""
        return {"items": list(self), "next": self.next} | self.more


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One call.

    Attributes:
        method: the HTTP method.
        path: below the server's address.
        parse: makes a value of the parsed body.
        query: parameters; None is left out.
        body: JSON, or None.
        repeatable: whether asking twice does no harm, so that it may be sent again when the connection is lost.
        patience: seconds that the server may take longer than usual.
        headers: further headers.
        accepts: the field that makes an answer with an error status an answer all the same.
    """

    method: str
    path: str
    parse: Callable[[Any], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    repeatable: bool = False
    patience: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    accepts: str | None = None

    @property
    def parameters(self) -> dict[str, str]:
        """The query as text.

        Raises:
            UsageError: a value cannot be sent.
        """
        return {name: sendable(moment(value)) for name, value in self.query.items() if value is not None}

    def finish(self, status: int, content: bytes, retry_after: str | None = None) -> T:
        """Return what the answer says.

        Args:
            status: its HTTP status.
            content: its body.
            retry_after: its `Retry-After` header.

        Raises:
            PullcordError: it says that something is wrong.
        """
        accept = self.headers.get("accept") if status == 200 else None
        if accept == JSON_LINES:
            data: Any = [from_json(line) for line in content.split(b"\n") if line]
        else:
            data = content.decode() if accept == TEXT else parsed(content)
        if status >= 300 and not (isinstance(data, dict) and self.accepts is not None and self.accepts in data):
            raise error_of(status, data)
        if retry_after is not None and retry_after.isdigit() and isinstance(data, dict):
            data["retry_after"] = int(retry_after)
        try:
            return self.parse(data)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UnexpectedAnswerError(
                "the answer is not one of a Pullcord server of this version; check the address and the versions"
            ) from None


def parsed(content: bytes) -> Any:
    """Read a body; None when it is no JSON."""
    try:
        return from_json(content)
    except ValueError:
        return None


def moment(value: Any) -> str:
    """Return a query or time value as text.

    Raises:
        UsageError: a datetime has no zone.
    """
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise UsageError(f"the time {value} has no zone; use an aware datetime, such as datetime.now(UTC)")
        return value.isoformat()
    return str(value)


def sendable(text: str) -> str:
    """Return a text that can be sent.

    Raises:
        UsageError: it is not UTF-8, as what a terminal with another encoding types.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{text!r} is not UTF-8; write it as UTF-8 text") from None
    return text


def encode(value: Any) -> bytes:
    """Write a body; dates, paths, UUIDs and models are written as pydantic writes them.

    Raises:
        UsageError: it holds something JSON does not know.
    """
    try:
        return to_json(value)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        reason = "a text in it is not UTF-8" if "surrogates not allowed" in str(error) else error
        raise UsageError(f"the request cannot be written as JSON: {reason}") from None


def receipt_of(data: Any) -> Receipt:
    """Read a receipt, or a problem with a receipt's fields."""
    names = ("code", "run_id", "state", "position", "run")
    optional = {name: data.get(name) for name in (*names, "retry_after")}
    return Receipt(
        request_id=data["request_id"],
        outcome=Outcome(data["outcome"]),
        reason=data["reason"],
        flow=data["flow"],
        replayed=bool(data.get("replayed")),
        errors=data.get("errors") or [],
        **optional,
    )


def item_of(data: Any) -> dict[str, Any]:
    """Read an item."""
    return dict(data)


def admitted(receipt: Receipt, raise_on_refusal: bool) -> Receipt:
    """Return a receipt.

    Raises:
        RefusedError: nothing was admitted, and that is to be an error.
    """
    if raise_on_refusal and receipt.refused:
        raise RefusedError(receipt)
    return receipt


def page_of(data: Any) -> Page:
    """Read a page of a list."""
    more = {name: value for name, value in data.items() if name not in ("items", "next")}
    return Page(data["items"], data["next"], more)


# --- runs ----------------------------------------------------------------------------------------


def waiting_time(wait: Wait) -> float | None:
    """Return for how long to wait in seconds: 0 not at all, None for ever."""
    if wait is None or wait is False:
        return 0.0
    return None if wait is True else seconds(wait)


def request_body(flow: str, inputs: Mapping[str, Any] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return one run request as the API takes it, with a request id, so that it can be sent again."""
    body = {name: value for name, value in options.items() if value is not None and value is not False}
    if "not_before" in body:
        body["not_before"] = moment(body["not_before"])
    if "expires_in" in body:
        body["expires_in"] = seconds(body["expires_in"])
    return {"flow": flow, "inputs": dict(inputs or {}), "request_id": str(uuid4())} | body


def run(body: dict[str, Any], wait: Wait, until: str) -> Call[Receipt]:
    """`POST /v1/runs`."""
    longest = waiting_time(wait)
    first = FIRST_WAIT if longest is None else min(longest, FIRST_WAIT)
    query = {} if first == 0 else {"wait": f"{first:.3f}s", "until": check_until(until)}
    return Call("POST", "/v1/runs", receipt_of, query, encode(body), repeatable=True, patience=first, accepts="outcome")


def batches(wanted: Iterable[Wanted]) -> Iterable[Call[list[Receipt]]]:
    """`POST /v1/runs/batch`, as often as needed.

    Raises:
        UsageError: an item is no request.
    """
    pieces: list[bytes] = []
    size = 0
    for item in wanted:
        piece = encode(_many_body(item))
        if pieces and (len(pieces) == BATCH or size + len(piece) > BATCH_BYTES):
            yield _batch(pieces)
            pieces, size = [], 0
        pieces.append(piece)
        size += len(piece) + 1
    if pieces:
        yield _batch(pieces)


def _many_body(item: Wanted) -> dict[str, Any]:
    if isinstance(item, tuple) and len(item) == 2:
        return request_body(item[0], item[1], {})
    if isinstance(item, Mapping) and isinstance(item.get("flow"), str):
        options = {name: value for name, value in item.items() if name not in ("flow", "inputs")}
        return request_body(item["flow"], item.get("inputs"), options)
    raise UsageError(f"a request is a mapping with `flow` and `inputs`, or (flow, inputs), not {type(item).__name__}")


def _batch(pieces: list[bytes]) -> Call[list[Receipt]]:
    body = b'{"requests":[' + b",".join(pieces) + b"]}"

    def parse(data: Any) -> list[Receipt]:
        return [receipt_of(receipt) for receipt in data["receipts"]]

    return Call("POST", "/v1/runs/batch", parse, body=body, repeatable=True, patience=60.0)


def get_run(run_id: str) -> Call[dict[str, Any]]:
    """`GET /v1/runs/{id}`."""
    return get(f"/v1/runs/{segment(run_id)}", item_of)


def cancel(run_id: str, force: bool, reason: str | None) -> Call[dict[str, Any]]:
    """`POST /v1/runs/{id}/cancel`."""
    body = encode({"force": force, "reason": reason})
    return Call("POST", f"/v1/runs/{segment(run_id)}/cancel", item_of, body=body)


def logs(run_id: str) -> Call[list[dict[str, Any]]]:
    """`GET /v1/runs/{id}/logs` as JSON lines."""
    headers = {"accept": JSON_LINES}
    return Call("GET", f"/v1/runs/{segment(run_id)}/logs", list, headers=headers, repeatable=True)


# --- the rest ------------------------------------------------------------------------------------


def segment(text: str) -> str:
    """Return a name or id as one segment of a path.

    Raises:
        UsageError: it cannot be one.
    """
    if not text or text in (".", ".."):
        raise UsageError(f"{text!r} is neither a name nor an id")
    return quote(sendable(text), safe="")


def get(path: str, parse: Callable[[Any], T], **query: Any) -> Call[T]:
    """`GET` anything."""
    return Call("GET", path, parse, query, repeatable=True)


def get_flow(name: str) -> Call[dict[str, Any]]:
    """`GET /v1/flows/{name}`."""
    return get(f"/v1/flows/{segment(name)}", item_of)


def flow_stats(name: str, window: str | None) -> Call[dict[str, Any]]:
    """`GET /v1/flows/{name}/stats`."""
    return get(f"/v1/flows/{segment(name)}/stats", item_of, window=window)


def stats(window: str | None, limit: int, cursor: str | None) -> Call[Page]:
    """`GET /v1/stats`."""
    return get("/v1/stats", page_of, window=window, limit=limit, cursor=cursor)


def validate(name: str, inputs: Mapping[str, Any] | None) -> Call[dict[str, Any]]:
    """`POST /v1/flows/{name}/validate`, which records nothing."""
    body = encode({"inputs": dict(inputs or {})})
    return Call("POST", f"/v1/flows/{segment(name)}/validate", item_of, body=body, repeatable=True)


def get_request(request_id: str) -> Call[dict[str, Any]]:
    """`GET /v1/requests/{id}`."""
    return get(f"/v1/requests/{segment(request_id)}", item_of)


def list_triggers(enabled_only: bool, flow: str | None, kind: str | None, limit: int, cursor: str | None) -> Call[Page]:
    """`GET /v1/triggers`."""
    enabled = "true" if enabled_only else None
    return get("/v1/triggers", page_of, enabled=enabled, flow=flow, kind=kind, limit=limit, cursor=cursor)


def get_trigger(name: str) -> Call[dict[str, Any]]:
    """`GET /v1/triggers/{id}`."""
    return get(f"/v1/triggers/{segment(name)}", item_of)


def change_trigger(name: str, changes: Mapping[str, Any]) -> Call[dict[str, Any]]:
    """`PATCH /v1/triggers/{id}`."""
    body = {key: moment(value) if isinstance(value, datetime) else value for key, value in changes.items()}
    return Call("PATCH", f"/v1/triggers/{segment(name)}", item_of, body=encode(body))


def enable_trigger(name: str, enabled: bool | None, reason: str | None, until: Moment | None) -> Call[dict[str, Any]]:
    """`PATCH /v1/triggers/{id}` with the fields of a pause."""
    more = {"reason": reason, "until": until}
    return change_trigger(name, {"enabled": enabled} | {key: value for key, value in more.items() if value is not None})


def trigger_history(name: str, limit: int, offset: int) -> Call[Page]:
    """`GET /v1/triggers/{id}/history`."""
    return get(f"/v1/triggers/{segment(name)}/history", page_of, limit=limit, offset=offset or None)


def preview_trigger(name: str, cursor: Any, n: int | None) -> Call[dict[str, Any]]:
    """`POST /v1/triggers/{id}/preview`, which changes nothing; a poll may take as long as it may."""
    body = encode({"cursor": cursor} | ({} if n is None else {"n": n}))
    path = f"/v1/triggers/{segment(name)}/preview"
    return Call("POST", path, item_of, body=body, repeatable=True, patience=60.0)


def replay_trigger(name: str, request_id: str) -> Call[Receipt]:
    """`POST /v1/triggers/{id}/replay`."""
    path = f"/v1/triggers/{segment(name)}/replay"
    return Call("POST", path, receipt_of, body=encode({"request_id": request_id}), accepts="outcome")


def readiness() -> Call[dict[str, Any]]:
    """`GET /readyz`, whose answer says the same things when the server is not ready."""
    return Call("GET", "/readyz", item_of, repeatable=True, accepts="ready")


def metrics() -> Call[str]:
    """`GET /metrics`, a text."""
    return Call("GET", "/metrics", str, repeatable=True, headers={"accept": TEXT})
