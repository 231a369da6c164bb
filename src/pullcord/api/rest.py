"""The other routes, on FastAPI. Imported after the server is ready, or with the first call that needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

import pullcord
from pullcord.api.admission import invalid, refuse, source_of
from pullcord.api.again import add_again
from pullcord.api.artifacts import add_artifacts
from pullcord.api.auth import Authenticator
from pullcord.api.batch import submit_batch
from pullcord.api.channels import add_channels
from pullcord.api.dependencies import (
    Caller,
    Cursor,
    FirstSince,
    FirstUntil,
    Limit,
    RequestId,
    RunId,
    Text,
    When,
    body_of,
    caller,
    exact_parameters,
    json_response,
    no_request,
    problem_response,
    receipt_response,
)
from pullcord.api.limits import add_limits
from pullcord.api.models import CancelRequest, ValidateRequest, moment_of
from pullcord.api.notifications import add_notifications
from pullcord.api.openapi import describe
from pullcord.api.pauses import add_pauses
from pullcord.api.problems import problem, problem_of, unexpected_problem
from pullcord.api.questions import add_questions
from pullcord.api.retention import add_retention
from pullcord.api.stats import add_stats
from pullcord.api.stream import RunStream, ndjson
from pullcord.api.traffic import LOGGED, route_of
from pullcord.api.triggers import add_triggers
from pullcord.app import App
from pullcord.clock import rfc3339
from pullcord.core.errors import (
    InvalidInputsError,
    PullcordError,
    PullcordRuntimeError,
    StoreError,
    UnauthenticatedError,
    UsageError,
)
from pullcord.core.manifest import FlowSpec
from pullcord.core.states import Outcome, RunState
from pullcord.gate.request import ANONYMOUS
from pullcord.store.queries.flows import last_runs
from pullcord.store.queries.limits import list_waiting_runs
from pullcord.store.queries.page import Page
from pullcord.store.queries.requests import RequestFilter, get_request, list_requests
from pullcord.store.queries.runs import RunFilter
from pullcord.triggers.outlook import NOTHING, Ahead

ADMISSION: Final = "/v1/runs"
"""Where the one route is that is not here."""


Cancel = Annotated[CancelRequest, body_of(CancelRequest, optional=True)]
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
        return json_response({"receipts": [receipt.as_json() for receipt in receipts]})

    add_again(rest, app)

    @rest.get("/v1/runs", tags=["runs"], summary="List runs, newest first")
    async def runs(
        flow: Text = None, state: RunState | None = None, trigger: Text = None, invoker: Text = None, tag: Text = None,
        since: When = None, until: When = None, limit: Limit = 50, cursor: Cursor = None,
    ) -> Any:  # fmt: skip
        tagged = None
        if tag is not None:
            tagged = tuple(name for name, spec in app.engine.catalog.flows.items() if tag in spec.tags)
        which = RunFilter(flow, tagged, state, trigger, invoker, _moment("since", since), _moment("until", until))
        return json_response(await app.store.read(list_waiting_runs, which, Page(limit, cursor)))

    @rest.get("/v1/runs/{run_id}", tags=["runs"], summary="Look at a run")
    async def run(run_id: RunId) -> Any:
        return json_response(await app.watch.run(run_id))

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

    @rest.get("/v1/requests", tags=["ledger"], summary="List requests, newest first")
    async def requests(
        flow: Text = None, outcome: Outcome | None = None, trigger: Text = None, invoker: Text = None,
        since: FirstSince = None, until: FirstUntil = None, limit: Limit = 50, cursor: Cursor = None,
    ) -> Any:  # fmt: skip
        which = RequestFilter(flow, outcome, trigger, invoker, _moment("since", since), _moment("until", until))
        return json_response(await app.store.read(list_requests, which, Page(limit, cursor)))

    @rest.get("/v1/requests/{request_id}", tags=["ledger"], summary="Look at a request")
    async def ledger_row(request_id: RequestId, invoker: Caller) -> Any:
        item = await app.store.read(get_request, request_id, invoker.id)
        if item is None:
            raise no_request(request_id)
        return item

    add_triggers(rest, app)
    add_notifications(rest, app)
    add_artifacts(rest, app)
    add_retention(rest, app)
    add_limits(rest, app)
    add_channels(rest, app)
    add_questions(rest, app)
    add_stats(rest, app)

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
        ahead = {} if removed else app.outlook.of(page)
        items = [
            _flow_item(specs[name], last.get(name), ahead.get(name, NOTHING), app.flows.paused(name), times.get(name))
            for name in page
        ]
        more = len(names) > limit
        return {"items": items, "next": page[-1] if more else None, "failures": catalog.failures}

    @rest.get("/v1/code/diff", tags=["flows"], summary="What a reload of the code would change")
    async def code_diff() -> Any:
        return {"locations": await app.code_changes()}

    @rest.get("/v1/flows/{name}", tags=["flows"], summary="Look at a flow")
    async def flow(name: str) -> Any:
        spec = await app.engine.catalog.resolve(name)
        last = await app.store.read(last_runs, [name])
        return _flow_item(spec, last.get(name), app.outlook.of([name])[name], app.flows.paused(name))

    add_pauses(rest, app, flow)

    @rest.post("/v1/flows/{name}/validate", tags=["flows"], summary="Validate inputs; nothing is recorded")
    async def validate(name: str, body: Validate) -> Any:
        try:
            return {"valid": True, "inputs": await app.validate(name, body.inputs), "errors": []}
        except InvalidInputsError as error:
            return {"valid": False, "inputs": None, "errors": error.errors}

    return rest


def _flow_item(
    spec: FlowSpec,
    last: dict[str, Any] | None,
    ahead: Ahead,
    paused: dict[str, Any] | None,
    removed_at: int | None = None,
) -> dict[str, Any]:
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
        "triggers": ahead.triggers,
        "paused": paused,
        "next_runs": ahead.next_runs,
        "last_run": last,
        "removed_at": rfc3339(removed_at),
        "permissions": ["read", "run", "cancel", "pause"] if removed_at is None else ["read"],
    }


def _moment(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    at = moment_of(text.replace(" ", "+"))
    if at is None:
        raise UsageError(f"{name} must be a time with zone, such as 2030-01-31T02:00:00Z")
    return at


def _sse(events: AsyncIterator[bytes]) -> StreamingResponse:
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


def _asks_for_runs(request: Request) -> bool:
    path: str = request.scope["path"]
    return request.method == "POST" and path.startswith("/v1/runs/") and path.endswith(("/batch", "/rerun", "/resume"))


def _methods(rest: FastAPI, request: Request) -> str:
    """Return which methods an address takes; the router says it of one of its routes alone."""
    path = route_of(request.scope)
    routes = [route for route in rest.routes if isinstance(route, APIRoute) and route.path == path]
    return ", ".join(sorted({method for route in routes for method in route.methods or ()}))


def _handle_errors(rest: FastAPI, app: App, authenticator: Authenticator) -> None:
    @rest.exception_handler(PullcordError)
    async def known(request: Request, error: PullcordError) -> Response:
        if isinstance(error, StoreError | PullcordRuntimeError) or not _asks_for_runs(request):
            return problem_response(*problem_of(error))
        try:
            invoker = authenticator.identify(request.headers.get("authorization"))
        except UnauthenticatedError:
            invoker = ANONYMOUS
        try:
            return receipt_response(await refuse(app, invoker, source_of(request.scope), error))
        except PullcordError as worse:
            return problem_response(*problem_of(worse))

    @rest.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        errors = [{"loc": list(item["loc"]), "msg": str(item["msg"]), "type": item["type"]} for item in error.errors()]
        return problem_response(*problem_of(invalid(errors)))

    @rest.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        headers = {name.lower(): value for name, value in (error.headers or {}).items()}
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["allow"] = "GET, POST" if request.scope["path"] == ADMISSION else _methods(rest, request)
            return problem_response(*problem("method_not_allowed", "this address does not take that method"), headers)
        return problem_response(
            *problem("not_found", "there is nothing at this address; /openapi.json lists what there is")
        )

    @rest.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        request.scope[LOGGED] = True
        fields = {"method": request.method, "route": route_of(request.scope)}
        return problem_response(*unexpected_problem(error, f"{request.method} {request.url.path} failed", **fields))
