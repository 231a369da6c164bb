"""`POST /v1/runs`, as plain ASGI: the one hot route (FastAPI's handling costs as much as the whole gate)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from pullcord.api.auth import Authenticator
from pullcord.api.models import LONGEST_DURATION, RunRequest, body_errors, sentence
from pullcord.api.parameters import check_parameters
from pullcord.api.problems import (
    CHALLENGE,
    PROBLEM_TYPE,
    problem,
    problem_of,
    receipt_status,
    retry_after,
    unexpected_problem,
)
from pullcord.app import App
from pullcord.core.durations import seconds
from pullcord.core.errors import PullcordError, TooLargeError, UnauthenticatedError, UsageError
from pullcord.core.states import Outcome
from pullcord.core.until import check_until
from pullcord.gate.request import ANONYMOUS, Invoker, Receipt

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY: Final = 8 * 1024 * 1024
"""No body is longer, in bytes."""

LONGEST_WAIT: Final = 3600.0
"""No call waits longer for a run, in seconds."""

M = TypeVar("M", bound=BaseModel)


class InvalidBodyError(PullcordError):
    """The body is no readable JSON."""

    code = "invalid_json"


class BodyTypeError(InvalidBodyError):
    """The body says that it is something else than JSON, as the forms of other sites have to."""

    code = "unsupported_media_type"


async def read_body(scope: Scope, receive: Receive) -> bytes:
    """Return the body of a call.

    Raises:
        TooLargeError: it is longer than `MAX_BODY`.
        BodyTypeError: its content type is not JSON.
    """
    announced = header(scope, b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > MAX_BODY:
        raise TooLargeError(
            f"the body is {int(announced):,} bytes, over the limit of {MAX_BODY:,}; pass a path instead"
        )
    message = await receive()
    if not message.get("more_body"):
        body: bytes = message.get("body", b"")
    else:
        chunks, size = [message.get("body", b"")], len(message.get("body", b""))
        while message.get("more_body"):
            message = await receive()
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > MAX_BODY:
                raise TooLargeError(f"the body is over the limit of {MAX_BODY:,} bytes; pass a path instead")
            chunks.append(chunk)
        body = b"".join(chunks)
    if len(body) > MAX_BODY:
        raise TooLargeError(f"the body is over the limit of {MAX_BODY:,} bytes; pass a path instead")
    if body:
        _check_type(scope)
    return body


def _check_type(scope: Scope) -> None:
    kind = header(scope, b"content-type")
    essence = "" if kind is None else kind.partition(";")[0].strip().lower()
    if essence not in ("", "application/json") and not essence.endswith("+json"):
        raise BodyTypeError(f"the body is {essence[:60]!r}; send JSON with `Content-Type: application/json`")


def header(scope: Scope, name: bytes) -> str | None:
    """Return a header's value."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None


def source_of(scope: Scope) -> str:
    """Return where a call says it comes from."""
    source = header(scope, b"x-pullcord-source")
    return source if source in ("cli", "python") else "http"


def parse(model: type[M], body: Any) -> M:
    """Read a body: JSON text as bytes, or what was read of it.

    Raises:
        InvalidBodyError: it is no JSON.
        UsageError: it is not what was expected; `errors` in its fields names each thing that is wrong.
    """
    try:
        return model.model_validate_json(body) if isinstance(body, bytes) else model.model_validate(body)
    except ValidationError as error:
        errors = body_errors(error)
        if errors[0]["type"] == "json_invalid":
            raise InvalidBodyError(f"the body is not valid JSON: {errors[0]['msg']}") from None
        raise invalid(errors) from None


def invalid(errors: list[dict[str, Any]]) -> PullcordError:
    """Return the error for a body that reads well but says something impossible."""
    return UsageError(sentence(errors), errors=errors)


def wait_of(query: bytes) -> tuple[float | None, str]:
    """Return how long to wait, in seconds (None: not at all), and until what.

    Raises:
        UsageError: the query makes no sense.
    """
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    check_parameters(pairs, ("wait", "until"))
    values = dict(pairs)
    until = check_until(values.get("until", "ended"))
    if "wait" not in values:
        return None, until
    if len(values["wait"]) > LONGEST_DURATION:  # reading one takes time that grows with the square of its length
        raise UsageError("wait is too long a text for a duration; write it like '500ms', '30s', '5m' or '1h30m'")
    return min(seconds(values["wait"]), LONGEST_WAIT), until


async def refuse(app: App, invoker: Invoker, source: str, error: PullcordError) -> Receipt:
    """Return the receipt of a call that cannot be read; even that leaves a row (design rule 3)."""
    return await app.gate.refuse_malformed(invoker, source, error.code, error.message, error.fields.get("errors"))


class Admission:
    """The route.

    Args:
        app: the running app.
        authenticator: knows who calls.
    """

    def __init__(self, app: App, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> int:
        """Serve one call; return the status of the answer."""
        extra: list[tuple[bytes, bytes]] = []
        kind = PROBLEM_TYPE
        try:
            receipt, waited, reached = await self._submit(scope, receive)
        except PullcordError as error:
            status, body = problem_of(error)
        except Exception as error:
            status, body = unexpected_problem(error, "a request for a run failed", method="POST", route=scope["path"])
        else:
            if receipt.code is not None and receipt.outcome is Outcome.REJECTED:
                fields = receipt.as_json()
                fields.pop("code")
                status, body = problem(receipt.code, receipt.reason, **fields)
                extra = [(name.encode(), value.encode()) for name, value in retry_after(receipt).items()]
            else:
                extra = [(b"idempotent-replayed", b"true")] if receipt.replayed else []
                status, body = receipt_status(receipt, waited, reached), to_json(receipt.as_json())
                kind = "application/json"
        await respond(send, status, body, kind, extra)
        return status

    async def _submit(self, scope: Scope, receive: Receive) -> tuple[Receipt, bool, bool]:
        invoker, source = ANONYMOUS, source_of(scope)
        try:
            invoker = self._authenticator.identify(header(scope, b"authorization"))
            body = await read_body(scope, receive)
            wait, until = (None, "ended") if not scope["query_string"] else wait_of(scope["query_string"])
            request = parse(RunRequest, body).trigger_request(invoker, source, key_header(scope))
        except (UnauthenticatedError, TooLargeError, InvalidBodyError, UsageError) as error:
            return await refuse(self._app, invoker, source, error), False, False
        receipt = await self._app.gate.submit(request)
        if wait is None or receipt.run_id is None or receipt.refused:
            return receipt, False, False
        return receipt, True, await self._app.wait(receipt, wait, until)


def key_header(scope: Scope) -> str | None:
    """Return the `Idempotency-Key` header.

    Raises:
        UsageError: it makes no sense.
    """
    key = header(scope, b"idempotency-key")
    if key is not None and not (0 < len(key) <= 255 and key.isprintable()):
        raise UsageError("the Idempotency-Key header must be 1 to 255 printable characters")
    return key


async def respond(
    send: Send,
    status: int,
    body: bytes,
    content_type: str = "application/json",
    extra: list[tuple[bytes, bytes]] | None = None,
) -> None:
    """Send a whole response."""
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        *(extra or []),
    ]
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", CHALLENGE.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
