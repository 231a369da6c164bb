"""What the routes on FastAPI share: who calls, what they take, and how they answer."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel
from pydantic_core import to_json

from pullcord.api.admission import key_header, parse, read_body
from pullcord.api.auth import Authenticator
from pullcord.api.models import one_key, storable
from pullcord.api.parameters import check_parameters
from pullcord.api.problems import CHALLENGE, PROBLEM_TYPE, problem, receipt_status, retry_after
from pullcord.core.errors import NotFoundError
from pullcord.core.states import Outcome
from pullcord.gate.request import Invoker, Receipt

M = TypeVar("M", bound=BaseModel)


def caller(request: Request) -> Invoker:
    """Return who calls, by the `Authorization` header.

    Raises:
        UnauthenticatedError: nobody we know.
    """
    authenticator: Authenticator = request.app.state.authenticator
    return authenticator.identify(request.headers.get("authorization"))


def _run_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise NotFoundError(f"no run has the id {text[:60]!r}; `pullcord runs list` shows the latest") from None


def _request_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise no_request(text) from None


def no_request(text: str) -> NotFoundError:
    """Return the error for the id of a request that does not exist."""
    return NotFoundError(f"no request has the id {text[:60]!r}; `pullcord why FLOW` shows the latest")


def _time(description: str | None = None) -> Any:
    form = {"format": "date-time"}
    return Query(description=description, min_length=1, max_length=200, json_schema_extra=form)


RunId = Annotated[str, AfterValidator(_run_id)]
RequestId = Annotated[str, AfterValidator(_request_id)]
Caller = Annotated[Invoker, Depends(caller)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")]
Text = Annotated[Annotated[str, AfterValidator(storable)] | None, Query(min_length=1, max_length=200)]
When = Annotated[str | None, _time()]
FirstSince = Annotated[str | None, _time("requests first asked at or after this time, their `at`")]
FirstUntil = Annotated[str | None, _time("requests first asked before this time, their `at`")]


def exact_parameters(request: Request) -> None:
    """Refuse a query that the route does not take.

    Raises:
        UsageError: naming the parameters.
    """
    route: APIRoute = request.scope["route"]
    check_parameters(request.query_params.multi_items(), (field.alias for field in route.dependant.query_params))


def body_of(model: type[M], *, optional: bool = False) -> Any:
    """Return a dependency that reads the body as on every other route: bounded, strictly, and after the credential."""

    async def read(request: Request, invoker: Caller) -> M:
        body = await read_body(request.scope, request.receive)
        return model() if optional and not body else parse(model, body)

    return Depends(read)


def key_of(request: Request, field: str | None) -> str | None:
    """Return the idempotency key of a call, from its header or its body.

    Raises:
        UsageError: both name one, and they differ.
    """
    return one_key(key_header(request.scope), field)


def json_response(value: Any, status: int = 200) -> Response:
    """Return JSON directly: FastAPI would walk through every value first, which costs more than admitting a run."""
    return Response(to_json(value), status, media_type="application/json")


def receipt_response(receipt: Receipt) -> Response:
    """Return a receipt, or the problem that a refusal is."""
    if receipt.outcome is Outcome.REJECTED and receipt.code is not None:
        fields = receipt.as_json()
        fields.pop("code")
        return problem_response(*problem(receipt.code, receipt.reason, **fields), retry_after(receipt))
    headers = {"idempotent-replayed": "true"} if receipt.replayed else None
    return JSONResponse(receipt.as_json(), receipt_status(receipt, False, False), headers)


def problem_response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem as a response."""
    challenge = {"www-authenticate": CHALLENGE} if status == HTTPStatus.UNAUTHORIZED else {}
    return Response(body, status, {**(headers or {}), **challenge}, PROBLEM_TYPE)
