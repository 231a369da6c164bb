"""The OpenAPI document: FastAPI's, and the hot route that FastAPI does not serve."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from pullcord.api.models import BatchRequest, RunRequest
from pullcord.core.states import Outcome, RunState

_REF = "#/components/schemas/"

RECEIPT: dict[str, Any] = {
    "type": "object",
    "required": ["request_id", "outcome", "reason", "code", "flow", "run_id", "state", "replayed", "position"],
    "properties": {
        "request_id": {"type": "string", "format": "uuid"},
        "outcome": {"enum": [outcome.value for outcome in Outcome]},
        "reason": {"type": "string"},
        "code": {"type": ["string", "null"]},
        "flow": {"type": "string"},
        "run_id": {"type": ["string", "null"]},
        "state": {"enum": [*(state.value for state in RunState), None]},
        "replayed": {"type": "boolean"},
        "position": {"type": ["integer", "null"]},
        "errors": {"type": "array", "items": {"type": "object"}},
        "run": {"type": "object"},
    },
}

PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}


def _answer(description: str, schema: str, media: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {media: {"schema": {"$ref": _REF + schema}}}}


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): _answer("refused", "Problem", "application/problem+json") for status in statuses}


def describe(rest: FastAPI) -> None:
    """Make `rest.openapi()` return the whole document."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(_document(rest))
        return made

    rest.openapi = openapi  # type: ignore[method-assign]


def _document(rest: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=rest.title, version=rest.version, routes=rest.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (RunRequest, BatchRequest):
        schemas[model.__name__] = model.model_json_schema(ref_template=_REF + "{model}")
    schemas |= {"Receipt": RECEIPT, "Problem": PROBLEM}
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"] |= _problems(400, 401, 403, 404, 409, 413, 422, 503)
    document["paths"].setdefault("/v1/runs", {})["post"] = {
        "tags": ["runs"],
        "summary": "Ask for a run",
        "operationId": "submit_run",
        "parameters": [
            {"name": "wait", "in": "query", "schema": {"type": "string", "examples": ["30s"]}},
            {"name": "until", "in": "query", "schema": {"type": "string", "pattern": "^(ended|started|step:.+)$"}},
            {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": 255}},
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": _REF + "RunRequest"}}}},
        "responses": {
            "202": _answer("admitted", "Receipt"),
            "200": _answer("replayed, or waited for", "Receipt"),
        }
        | _problems(400, 401, 403, 404, 409, 413, 422, 429, 503),
    }
    document["paths"]["/v1/runs/batch"]["post"]["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _REF + "BatchRequest"}}},
    }
    document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"bearer": []}]
    return document
