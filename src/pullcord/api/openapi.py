"""The OpenAPI document: FastAPI's, and what FastAPI does not know: the routes it does not serve, bodies, answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from pullcord.api.models import (
    AnswerRequest,
    BatchRequest,
    CancelRequest,
    LimitChange,
    PauseRequest,
    PreviewRequest,
    ReplayRequest,
    RerunRequest,
    ResumeRequest,
    RetryFailedRequest,
    RunRequest,
    TriggerChange,
    ValidateRequest,
)
from pullcord.api.notifications import NotificationChange
from pullcord.api.problems import PROBLEM_TYPE
from pullcord.api.schemas import REF, SCHEMAS, Schema, ref

JSON: Final = "application/json"
STREAM: Final = "text/event-stream"
LINES: Final = "application/x-ndjson"
METRICS: Final = "text/plain"
ANY: Final = "*/*"

_LIST: Final = (401, 422, 503)
_LOOK: Final = (401, 404, 422, 503)
_SEND: Final = (400, 413, 415, 422)
_GATE: Final = (*_SEND, 401, 403, 404, 409, 429, 503)
"""Whatever the gate may say."""


@dataclass(frozen=True, slots=True)
class _Call:
    """What a call takes and answers.

    Attributes:
        answers: description and schema by status.
        problems: statuses of refusals.
        body: what it takes.
        optional: whether it may come without.
        media: content types of the answers; a stream of text has no schema.
        refusal: schema of the refusals.
    """

    answers: dict[int, tuple[str, str]]
    problems: tuple[int, ...] = ()
    body: type[BaseModel] | None = None
    optional: bool = False
    media: tuple[str, ...] = (JSON,)
    refusal: str = "Problem"
    parameters: list[dict[str, Any]] = field(default_factory=list)


_RESUME: Final = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "the id of the last event that was seen; the stream goes on behind it",
    "schema": {"type": "string"},
}
_RANGE: Final = {
    "name": "Range",
    "in": "header",
    "description": "a part of the content, such as `bytes=0-1023`",
    "schema": {"type": "string"},
}
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "the same as `idempotency_key` in the body",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_ASK: Final = [
    {
        "name": "wait",
        "in": "query",
        "description": "how long to wait for the run, such as `30s`; the receipt then has `run`",
        "schema": {"type": "string", "maxLength": 40, "examples": ["30s"]},
    },
    {
        "name": "until",
        "in": "query",
        "description": "what to wait for",
        "schema": {"type": "string", "pattern": "^(ended|started|step:.+)$", "default": "ended"},
    },
    _KEY,
]

_RETRY_AFTER: Final = {
    "description": "seconds after which asking again makes sense, where that is known",
    "schema": {"type": "integer"},
}

_DELIVERY: Final[list[dict[str, Any]]] = [
    {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}},
    *(
        {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for name, text in (
            ("webhook-id", "the delivery's id; the same in every try"),
            ("webhook-timestamp", "when it was signed, in seconds since 1970"),
            ("webhook-signature", "`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`"),
        )
    ),
]
"""What a sender of Standard Webhooks sends; those of other schemes send headers of their own."""

_CALLS: Final[dict[tuple[str, str], _Call]] = {
    ("post", "/v1/runs"): _Call(
        {202: ("admitted, or the time of `wait` is over", "Receipt"), 200: ("replayed, or waited for", "Receipt")},
        _GATE, RunRequest, refusal="Refusal", parameters=_ASK,
    ),
    ("post", "/v1/runs/batch"): _Call(
        {200: ("a receipt for each request, in order", "Receipts")},
        (*_SEND, 401, 503), BatchRequest, refusal="Refusal",
    ),
    ("get", "/v1/runs"): _Call({200: ("runs, newest first", "RunPage")}, _LIST),
    ("get", "/v1/runs/{run_id}"): _Call({200: ("the run", "Run")}, _LOOK),
    ("get", "/v1/runs/{run_id}/events"): _Call(
        {200: ("`run`, `step`, `progress`, `log` and `end` events", "")}, _LOOK, media=(STREAM,), parameters=[_RESUME]
    ),
    ("get", "/v1/runs/{run_id}/logs"): _Call(
        {200: ("`log` and `end` events; or, when `Accept` asks for it, the lines there are now", "")},
        _LOOK, media=(STREAM, LINES), parameters=[_RESUME],
    ),
    ("get", "/v1/runs/{run_id}/artifacts"): _Call({200: ("artifacts by name", "ArtifactPage")}, _LOOK),
    ("get", "/v1/runs/{run_id}/artifacts/{name}"): _Call(
        {200: ("the content", ""), 206: ("a part of it", ""), 304: ("the one that is known already", "")},
        (*_LOOK, 400, 416), media=(ANY,), parameters=[_RANGE],
    ),
    ("post", "/v1/runs/{run_id}/cancel"): _Call(
        {202: ("the run", "Run")}, (*_SEND, 401, 403, 404, 409, 503), CancelRequest, optional=True
    ),
    ("post", "/v1/runs/{run_id}/resume"): _Call(
        {202: ("admitted", "Receipt"), 200: ("replayed", "Receipt")},
        _GATE, ResumeRequest, optional=True, refusal="Refusal", parameters=[_KEY],
    ),
    ("post", "/v1/runs/{run_id}/rerun"): _Call(
        {202: ("admitted", "Receipt"), 200: ("replayed", "Receipt")},
        _GATE, RerunRequest, optional=True, refusal="Refusal", parameters=[_KEY],
    ),
    ("post", "/v1/runs/retry-failed"): _Call(
        {200: ("what would be asked for again, or was", "RetryFailed")}, (*_SEND, 401, 404, 503), RetryFailedRequest
    ),
    ("get", "/v1/requests"): _Call({200: ("requests, newest first", "LedgerPage")}, _LIST),
    ("get", "/v1/requests/{request_id}"): _Call({200: ("the request", "LedgerRow")}, _LOOK),
    ("get", "/v1/questions"): _Call({200: ("questions, newest first", "QuestionPage")}, _LIST),
    ("get", "/v1/questions/{question_id}"): _Call({200: ("the question", "Question")}, _LOOK),
    ("post", "/v1/questions/{question_id}/answer"): _Call(
        {200: ("the question, answered", "Question")}, (*_SEND, 401, 403, 404, 409, 503), AnswerRequest
    ),
    ("get", "/v1/flows"): _Call({200: ("flows by name, and what could not be loaded", "FlowPage")}, _LIST),
    ("get", "/v1/code/diff"): _Call({200: ("each location, with what would change", "CodeDiff")}, _LIST),
    ("get", "/v1/flows/{name}"): _Call({200: ("the flow", "Flow")}, _LOOK),
    ("post", "/v1/flows/{name}/validate"): _Call(
        {200: ("whether the inputs are valid", "Validation")}, (*_SEND, 401, 404, 503), ValidateRequest
    ),
    ("get", "/v1/retention"): _Call({200: ("how long things are kept", "Retention")}, _LIST),
    ("get", "/v1/retention/preview"): _Call({200: ("what would be pruned", "Pruning")}, _LIST),
    ("post", "/v1/retention/prune"): _Call({202: ("it has begun", "Retention")}, (401, 403, 422, 503)),
    ("post", "/v1/flows/{name}/pause"): _Call(
        {200: ("the flow as it is then", "Flow")}, (*_SEND, 401, 403, 404, 503), PauseRequest
    ),
    ("post", "/v1/flows/{name}/resume"): _Call(
        {200: ("the flow as it is then", "Flow")}, (401, 403, 404, 422, 503)
    ),
    ("get", "/v1/flows/{name}/stats"): _Call({200: ("the figures of the flow", "FlowStats")}, _LOOK),
    ("get", "/v1/stats"): _Call({200: ("flows by name, each with the figures of one window", "StatsPage")}, _LIST),
    ("get", "/v1/triggers"): _Call({200: ("triggers by name", "TriggerPage")}, _LIST),
    ("get", "/v1/triggers/{trigger}"): _Call({200: ("the trigger", "Trigger")}, _LOOK),
    ("patch", "/v1/triggers/{trigger}"): _Call(
        {200: ("the trigger as it is then", "Trigger")}, (*_SEND, 401, 403, 404, 503), TriggerChange
    ),
    ("get", "/v1/triggers/{trigger}/history"): _Call({200: ("lines, newest first", "TriggerHistory")}, _LOOK),
    ("post", "/v1/triggers/{trigger}/preview"): _Call(
        {200: ("what it would do", "TriggerPreview")}, (*_SEND, 401, 403, 404, 503), PreviewRequest, optional=True
    ),
    ("post", "/v1/triggers/{trigger}/replay"): _Call(
        {202: ("admitted", "Receipt"), 200: ("not admitted, and no fault", "Receipt")}, _GATE, ReplayRequest
    ),
    ("get", "/v1/notifications"): _Call({200: ("notifications, newest first", "NotificationPage")}, _LIST),
    ("get", "/v1/notifications/{notification_id}"): _Call(
        {200: ("the notification, with its message", "NotificationItem")}, _LOOK
    ),
    ("post", "/v1/notifications/{notification_id}/retry"): _Call(
        {202: ("the notification", "NotificationItem")}, (401, 404, 409, 422, 503)
    ),
    ("get", "/v1/flows/{name}/notifications"): _Call({200: ("its rules", "NotificationRules")}, _LOOK),
    ("put", "/v1/flows/{name}/notifications"): _Call(
        {200: ("its rules as they are then", "NotificationRules")}, (*_SEND, 401, 404, 503), NotificationChange
    ),
    ("get", "/v1/limits"): _Call({200: ("limits by name", "LimitPage")}, (401, 503)),
    ("get", "/v1/limits/{limit}"): _Call({200: ("the limit", "Limit")}, (401, 404, 503)),
    ("patch", "/v1/limits/{limit}"): _Call(
        {200: ("the limit as it is then", "Limit")}, (*_SEND, 401, 403, 404, 503), LimitChange
    ),
    ("get", "/v1/channels"): _Call({200: ("channels by name", "ChannelPage")}, _LIST),
    ("post", "/v1/channels/{channel}/test"): _Call({200: ("what became of the message", "ChannelTest")}, _LOOK),
    ("post", "/v1/hooks/{name}"): _Call(
        {202: ("admitted", "Receipt"), 200: ("it came before, or was skipped", "Receipt")},
        (400, 401, 404, 405, 409, 413, 422, 429, 500, 503), parameters=_DELIVERY,
    ),
    ("get", "/healthz"): _Call({200: ("the server runs", "Alive")}),
    ("get", "/readyz"): _Call(
        {200: ("every location has reported or failed", "Readiness"), 503: ("not yet", "Readiness")}
    ),
    ("get", "/metrics"): _Call({200: ("Prometheus' text format", "")}, (), media=(METRICS,)),
    ("get", "/openapi.json"): _Call({200: ("this document", "")}),
}  # fmt: skip

_DIRECT: Final = {
    ("post", "/v1/runs"): ("submit_run", "runs", "Ask for a run"),
    ("post", "/v1/hooks/{name}"): ("deliver", "triggers", "Deliver to a webhook, signed"),
    ("get", "/healthz"): ("healthz", "server", "Is the server alive?"),
    ("get", "/readyz"): ("readyz", "server", "Is the server ready?"),
    ("get", "/metrics"): ("metrics", "server", "Figures for Prometheus"),
    ("get", "/openapi.json"): ("openapi", "server", "This document"),
}
"""What FastAPI does not serve: operation id, tag and summary."""


def describe(rest: FastAPI) -> None:
    """Make `rest.openapi()` return the whole document."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(_document(rest))
        return made

    rest.openapi = openapi  # type: ignore[method-assign]


def _document(rest: FastAPI) -> dict[str, Any]:
    # The routes of third-party triggers are their own business.
    routes = [
        route
        for route in rest.routes
        if isinstance(route, APIRoute) and all((method.lower(), route.path) in _CALLS for method in route.methods or ())
    ]
    document = get_openapi(title=rest.title, version=rest.version, routes=routes)
    paths: dict[str, dict[str, Any]] = document["paths"]
    for (method, path), (name, tag, summary) in _DIRECT.items():
        operation: dict[str, Any] = {"operationId": name, "tags": [tag], "summary": summary}
        if path != "/v1/runs":
            operation["security"] = []
        if method == "post" and path != "/v1/runs":
            operation["requestBody"] = {"required": True, "content": {JSON: {"schema": {}}}}
        paths.setdefault(path, {})[method] = operation
    for path, operations in paths.items():
        for method, operation in operations.items():
            _fill(operation, _CALLS[method, path])
    models = {call.body.__name__: call.body for call in _CALLS.values() if call.body is not None}
    bodies = {name: model.model_json_schema(ref_template=REF + "{model}") for name, model in models.items()}
    # What is no request is refused in a receipt of its own.
    bodies["BatchRequest"]["properties"]["requests"]["items"] = {"anyOf": [ref("RunRequest"), {}]}
    given = document.get("components", {}).get("schemas", {})
    enums = {name: schema for name, schema in given.items() if "enum" in schema}
    document["components"] = {
        "schemas": enums | SCHEMAS | bodies,
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
    }
    document["security"] = [{"bearer": []}]
    return document


def _fill(operation: dict[str, Any], call: _Call) -> None:
    if call.parameters:
        operation["parameters"] = [*operation.get("parameters", []), *call.parameters]
    if call.body is not None:
        content = {JSON: {"schema": ref(call.body.__name__)}}
        operation["requestBody"] = {"required": not call.optional, "content": content}
    responses = {str(status): _answer(text, call.media, name) for status, (text, name) in call.answers.items()}
    for status in sorted(call.problems):
        responses[str(status)] = _answer("refused", (PROBLEM_TYPE,), call.refusal)
    if "429" in responses:
        responses["429"] = {**responses["429"], "headers": {"Retry-After": _RETRY_AFTER}}
    operation["responses"] = responses


def _answer(description: str, media: tuple[str, ...], name: str) -> Schema:
    if STREAM in media or ANY in media:  # OpenAPI 3.1 has no words for the items of a stream
        return {"description": description, "content": {kind: {} for kind in media}}
    schema = ref(name) if name else {"type": "object"} if media == (JSON,) else {"type": "string"}
    return {"description": description, "content": {kind: {"schema": schema} for kind in media}}
