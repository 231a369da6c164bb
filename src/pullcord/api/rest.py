"""The other routes, on FastAPI. Imported after the server is ready, or with the first call that needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel
from pydantic_core import to_json
from starlette.exceptions import HTTPException

import pullcord
from pullcord.api.admission import invalid, parse, read_body, refuse, source_of
from pullcord.api.auth import Authenticator
from pullcord.api.batch import submit_batch
from pullcord.api.models import CancelRequest, RerunRequest, ValidateRequest, moment_of
from pullcord.api.openapi import describe
from pullcord.api.parameters import check_parameters
from pullcord.api.problems import CHALLENGE, PROBLEM_TYPE, problem, problem_of, receipt_status, unexpected_problem
from pullcord.api.stream import RunStream, ndjson
from pullcord.api.traffic import LOGGED, route_of
from pullcord.app import App
from pullcord.clock import rfc3339
from pullcord.core.errors import (
    InvalidInputsError,
    NotFoundError,
    PullcordError,
    PullcordRuntimeError,
    StoreError,
    UnauthenticatedError,
    UsageError,
)
from pullcord.core.manifest import FlowSpec
from pullcord.core.states import Outcome, RunState
from pullcord.gate.request import ANONYMOUS, Invoker, Receipt
from pullcord.store.queries.flows import last_runs
from pullcord.store.queries.page import Page
from pullcord.store.queries.requests import RequestFilter, get_request, list_requests
from pullcord.store.queries.runs import RunFilter, list_runs

M = TypeVar("M", bound=BaseModel)

ADMISSION: Final = "/v1/runs"
"""Where the one route is that is not here."""


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
        raise _no_request(text) from None


def _no_request(text: str) -> NotFoundError:
    return NotFoundError(f"no request has the id {text[:60]!r}; `pullcord why FLOW` shows the latest")


RunId = Annotated[str, AfterValidator(_run_id)]
RequestId = Annotated[str, AfterValidator(_request_id)]
Caller = Annotated[Invoker, Depends(caller)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")]
Text = Annotated[str | None, Query(min_length=1, max_length=200)]
When = Annotated[str | None, Query(min_length=1, max_length=200, json_schema_extra={"format": "date-time"})]


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


Cancel = Annotated[CancelRequest, body_of(CancelRequest, optional=True)]
Rerun = Annotated[RerunRequest, body_of(RerunRequest, optional=True)]
Validate = Annotated[ValidateRequest, body_of(ValidateRequest)]


def make_rest(app: App, authenticator: Authenticator) -> FastAPI:
    """Build the FastAPI application for a running app."""
    rest = FastAPI(
        title="Pullcord", version=pullcord.__version__, docs_url=None, redoc_url=None, openapi_url=None,
        dependencies=[Depends(caller), Depends(exact_parameters)], redirect_slashes=False,
    )  # fmt: skip
    rest.state.authenticator = authenticator
    _handle_errors(rest, app, authenticator)
    describe(rest)

    @rest.post("/v1/runs/batch", tags=["runs"], summary="Ask for many runs")
    async def batch(request: Request, invoker: Caller) -> Any:
        receipts = await submit_batch(app, request, invoker)
        return _json({"receipts": [receipt.as_json() for receipt in receipts]})

    @rest.get("/v1/runs", tags=["runs"], summary="List runs, newest first")
    async def runs(
        flow: Text = None, state: RunState | None = None, trigger: Text = None, invoker: Text = None, tag: Text = None,
        since: When = None, until: When = None, limit: Limit = 50, cursor: Cursor = None,
    ) -> Any:  # fmt: skip
        tagged = None
        if tag is not None:
            tagged = tuple(name for name, spec in app.engine.catalog.flows.items() if tag in spec.tags)
        which = RunFilter(flow, tagged, state, trigger, invoker, _moment("since", since), _moment("until", until))
        return _json(await app.store.read(list_runs, which, Page(limit, cursor)))

    @rest.get("/v1/runs/{run_id}", tags=["runs"], summary="Look at a run")
    async def run(run_id: RunId) -> Any:
        return _json(await app.watch.run(run_id))

    @rest.get("/v1/runs/{run_id}/events", tags=["runs"], summary="Follow a run", response_class=StreamingResponse)
    async def events(run_id: RunId, request: Request) -> Any:
        await app.watch.run(run_id)
        stream = RunStream(app, run_id, request.headers.get("last-event-id"), logs_only=False)
        return _sse(stream.events())

    @rest.get("/v1/runs/{run_id}/logs", tags=["runs"], summary="Follow a run's log", response_class=StreamingResponse)
    async def logs(run_id: RunId, request: Request) -> Any:
        await app.watch.run(run_id)
        if "application/x-ndjson" in request.headers.get("accept", ""):
            return StreamingResponse(ndjson(app, run_id), media_type="application/x-ndjson")
        stream = RunStream(app, run_id, request.headers.get("last-event-id"), logs_only=True)
        return _sse(stream.events())

    @rest.post("/v1/runs/{run_id}/cancel", tags=["runs"], summary="Cancel a run", status_code=202)
    async def cancel(run_id: RunId, invoker: Caller, how: Cancel) -> Any:
        return await app.cancel(run_id, reason=how.reason, force=how.force, invoker=invoker)

    @rest.post("/v1/runs/{run_id}/rerun", tags=["runs"], summary="Run it again from the beginning", status_code=202)
    async def rerun(run_id: RunId, request: Request, invoker: Caller, how: Rerun) -> Any:
        receipt = await app.rerun(run_id, how.inputs, invoker=invoker, source=source_of(request.scope))
        return _receipt_response(receipt)

    @rest.get("/v1/requests", tags=["ledger"], summary="List requests, newest first")
    async def requests(
        flow: Text = None, outcome: Outcome | None = None, trigger: Text = None, invoker: Text = None,
        since: When = None, until: When = None, limit: Limit = 50, cursor: Cursor = None,
    ) -> Any:  # fmt: skip
        which = RequestFilter(flow, outcome, trigger, invoker, _moment("since", since), _moment("until", until))
        return _json(await app.store.read(list_requests, which, Page(limit, cursor)))

    @rest.get("/v1/requests/{request_id}", tags=["ledger"], summary="Look at a request")
    async def ledger_row(request_id: RequestId, invoker: Caller) -> Any:
        item = await app.store.read(get_request, request_id, invoker.id)
        if item is None:
            raise _no_request(request_id)
        return item

    @rest.get("/v1/flows", tags=["flows"], summary="List flows")
    async def flows(limit: Limit = 50, cursor: Text = None, removed: bool = False) -> Any:
        catalog = app.engine.catalog
        gone = catalog.removed if removed else {}
        # Once: a reload during the query must not take a flow out of the page.
        specs = {name: spec for name, (spec, _) in gone.items()} if removed else catalog.flows
        times = {name: at for name, (_, at) in gone.items()}
        names = sorted(name for name in specs if cursor is None or name > cursor)
        page = names[:limit]
        last = await app.store.read(last_runs, page)
        items = [_flow_item(specs[name], last.get(name), times.get(name)) for name in page]
        more = len(names) > limit
        return {"items": items, "next": page[-1] if more else None, "failures": catalog.failures}

    @rest.get("/v1/code/diff", tags=["flows"], summary="What a reload of the code would change")
    async def code_diff() -> Any:
        return {"locations": await app.code_changes()}

    @rest.get("/v1/flows/{name}", tags=["flows"], summary="Look at a flow")
    async def flow(name: str) -> Any:
        spec = await app.engine.catalog.resolve(name)
        last = await app.store.read(last_runs, [name])
        return _flow_item(spec, last.get(name))

    @rest.post("/v1/flows/{name}/validate", tags=["flows"], summary="Validate inputs; nothing is recorded")
    async def validate(name: str, body: Validate) -> Any:
        try:
            return {"valid": True, "inputs": await app.validate(name, body.inputs), "errors": []}
        except InvalidInputsError as error:
            return {"valid": False, "inputs": None, "errors": error.errors}

    return rest


def _flow_item(spec: FlowSpec, last: dict[str, Any] | None, removed_at: int | None = None) -> dict[str, Any]:
    return {
        "name": spec.name,
        "description": spec.description,
        "version": spec.version,
        "location": spec.location,
        "place": spec.place,
        "tags": spec.tags,
        "input_schema": spec.input_schema,
        "settings": spec.settings,
        "is_async": spec.is_async,
        "triggers": [],
        "paused": None,
        "next_runs": [],
        "last_run": last,
        "removed_at": rfc3339(removed_at),
        "permissions": ["read", "run", "cancel"] if removed_at is None else ["read"],
    }


def _receipt_response(receipt: Receipt) -> Response:
    if receipt.outcome is Outcome.REJECTED and receipt.code is not None:
        fields = receipt.as_json()
        fields.pop("code")
        return _response(*problem(receipt.code, receipt.reason, **fields))
    return JSONResponse(receipt.as_json(), receipt_status(receipt, False, False))


def _moment(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    at = moment_of(text.replace(" ", "+"))
    if at is None:
        raise UsageError(f"{name} must be a time with zone, such as 2030-01-31T02:00:00Z")
    return at


def _json(value: Any) -> Response:
    """Return JSON directly: FastAPI would walk through every value first, which costs more than admitting a run."""
    return Response(to_json(value), media_type="application/json")


def _sse(events: AsyncIterator[bytes]) -> StreamingResponse:
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


def _response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem as a response."""
    challenge = {"www-authenticate": CHALLENGE} if status == HTTPStatus.UNAUTHORIZED else {}
    return Response(body, status, {**(headers or {}), **challenge}, PROBLEM_TYPE)


def _asks_for_runs(request: Request) -> bool:
    path: str = request.scope["path"]
    return request.method == "POST" and (path == "/v1/runs/batch" or path.endswith("/rerun"))


def _handle_errors(rest: FastAPI, app: App, authenticator: Authenticator) -> None:
    @rest.exception_handler(PullcordError)
    async def known(request: Request, error: PullcordError) -> Response:
        if isinstance(error, StoreError | PullcordRuntimeError) or not _asks_for_runs(request):
            return _response(*problem_of(error))
        try:
            invoker = authenticator.identify(request.headers.get("authorization"))
        except UnauthenticatedError:
            invoker = ANONYMOUS
        try:
            return _receipt_response(await refuse(app, invoker, source_of(request.scope), error))
        except PullcordError as worse:
            return _response(*problem_of(worse))

    @rest.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        errors = [{"loc": list(item["loc"]), "msg": str(item["msg"]), "type": item["type"]} for item in error.errors()]
        return _response(*problem_of(invalid(errors)))

    @rest.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        headers = {name.lower(): value for name, value in (error.headers or {}).items()}
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            if request.scope["path"] == ADMISSION:
                headers["allow"] = "GET, POST"
            return _response(*problem("method_not_allowed", "this address does not take that method"), headers)
        return _response(*problem("not_found", "there is nothing at this address; /openapi.json lists what there is"))

    @rest.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        request.scope[LOGGED] = True
        fields = {"method": request.method, "route": route_of(request.scope)}
        return _response(*unexpected_problem(error, f"{request.method} {request.url.path} failed", **fields))
