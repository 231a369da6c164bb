"""The shapes of answers, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Any, Final

from pullcord.core.changes import ADDED, CHANGED, REMOVED
from pullcord.core.concurrency import OnConflict
from pullcord.core.notify import EVENTS
from pullcord.core.states import ENDED, Outcome, QuestionState, RunState, StepState
from pullcord.store.queries.outbox import STATES
from pullcord.triggers.record import HEALTH

REF: Final = "#/components/schemas/"

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    """Point at a schema by its name."""
    return {"$ref": REF + name}


def listed(item: Schema) -> Schema:
    """Return the schema of an array."""
    return {"type": "array", "items": item}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _one_of(values: Any) -> Schema:
    return {"type": "string", "enum": [str(value) for value in values]}


_TEXT: Final[Schema] = {"type": "string"}
_MAYBE_TEXT: Final[Schema] = {"type": ["string", "null"]}
_ID: Final[Schema] = {"type": "string", "format": "uuid"}
_MAYBE_ID: Final[Schema] = {"type": ["string", "null"], "format": "uuid"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
_NUMBER: Final[Schema] = {"type": "integer"}
_NUMERIC: Final[Schema] = {"type": "number"}
_MAYBE_NUMERIC: Final[Schema] = {"type": ["number", "null"]}
_FLAG: Final[Schema] = {"type": "boolean"}
_MAP: Final[Schema] = {"type": "object"}
_STATE: Final = _one_of(RunState)
_MAYBE_NUMBER: Final[Schema] = {"type": ["integer", "null"]}
_CONCURRENCY: Final = _object(
    {
        "limit": _MAYBE_NUMBER,
        "key": _MAYBE_TEXT,
        "on_conflict": _one_of(OnConflict),
        "group": _or_null(_object({"name": _TEXT, "limit": _MAYBE_NUMBER})),
    }
)
_SETTINGS: Final = _object({"concurrency": _CONCURRENCY, "retries": _MAP, "tags": listed(_TEXT)})
_LIMIT: Final[Schema] = {
    "name": _TEXT,
    "kind": _one_of(("flow", "group")),
    "limit": _MAYBE_NUMBER,
    "declared": _MAYBE_NUMBER,
    "configured": _MAYBE_NUMBER,
    "override": _or_null(_object({"limit": _MAYBE_NUMBER, "by": _TEXT, "at": _TIME, "reason": _MAYBE_TEXT})),
    "key": _MAYBE_TEXT,
    "group": _MAYBE_TEXT,
    "flows": listed(_TEXT),
    "held": _NUMBER,
    "queued": _NUMBER,
}

_RECEIPT: Final[Schema] = {
    "request_id": _ID,
    "outcome": _one_of(Outcome),
    "reason": _TEXT,
    "code": _MAYBE_TEXT,
    "flow": _TEXT,
    "run_id": _MAYBE_ID,
    "state": _or_null(_STATE),
    "replayed": _FLAG,
    "position": {"type": ["integer", "null"]},
}
_PROBLEM: Final[Schema] = {"type": _TEXT, "title": _TEXT, "status": _NUMBER, "detail": _TEXT, "code": _TEXT}
_ERRORS: Final[Schema] = {"errors": listed(ref("FieldError"))}

_INPUT_CHANGES: Final[Schema] = {
    "type": "object",
    "additionalProperties": _object({"after": {}}, {"before": {}}),
}
_SUMMARY: Final[Schema] = {
    "id": _ID,
    "flow": _TEXT,
    "flow_version": _TEXT,
    "state": _STATE,
    "inputs": _MAP,
    "trigger": ref("TriggerRef"),
    "invoker": ref("Invoker"),
    "source": _TEXT,
    "reason": _MAYBE_TEXT,
    "request_id": _ID,
    "parent_id": _MAYBE_ID,
    "rerun_of": _MAYBE_ID,
    "changes": _or_null(_INPUT_CHANGES),
    "priority": _NUMBER,
    "not_before": _MAYBE_TIME,
    "expires_at": _MAYBE_TIME,
    "scheduled_for": _MAYBE_TIME,
    "queued_at": _MAYBE_TIME,
    "started_at": _MAYBE_TIME,
    "ended_at": _MAYBE_TIME,
    "attempt": _NUMBER,
    "takeovers": _NUMBER,
    "resumed_from": _MAYBE_ID,
    "test": _FLAG,
    "cancel": _or_null(_object({"by": _TEXT, "at": _TIME, "reason": _MAYBE_TEXT, "force": _FLAG})),
    "error": _or_null(_object({"type": _TEXT, "message": _TEXT})),
    "waiting_for": _or_null(_object({"kind": _TEXT, "text": _TEXT}, {"question_id": _ID})),
    "partial": _or_null(_object({"steps": listed(_TEXT), "text": _TEXT})),
    "progress": _or_null(_object({"done": _NUMERIC, "total": _MAYBE_NUMERIC, "text": _MAYBE_TEXT})),
}
_LEDGER_ROW: Final[Schema] = {
    "request_id": _ID,
    "flow": _MAYBE_TEXT,
    "inputs": {"type": ["object", "null"]},
    "outcome": _one_of(Outcome),
    "code": _MAYBE_TEXT,
    "reason": _TEXT,
    "errors": _or_null(listed(ref("FieldError"))),
    "run_id": _MAYBE_ID,
    "state": _or_null(_STATE),
    "trigger": ref("TriggerRef"),
    "invoker": ref("Invoker"),
    "source": _TEXT,
    "note": _MAYBE_TEXT,
    "idempotency_key": _MAYBE_TEXT,
    "origin": _or_null(_object({}, {"resumed_from": _ID, "force": _FLAG, "rerun_of": _ID, "changes": _INPUT_CHANGES})),
    "dry_run": _FLAG,
    "run_pruned": _FLAG,
    "scheduled_for": _MAYBE_TIME,
    "at": _TIME,
    "last_at": _TIME,
    "count": _NUMBER,
}
_CHANNEL: Final[Schema] = {
    "name": _TEXT,
    "kind": _TEXT,
    "timeout": {"type": "number"},
    "group": {"type": ["number", "null"]},
    "per_hour": {"type": ["integer", "null"]},
    "options": _MAP,
}
_CHANNEL_TEST: Final[Schema] = {
    "channel": _TEXT,
    "kind": _TEXT,
    "delivered": _FLAG,
    "seconds": {"type": "number"},
    "error": _MAYBE_TEXT,
    "permanent": _FLAG,
    "retry_after": {"type": ["number", "null"]},
}
_LAST_RUN: Final[Schema] = {
    "id": _ID,
    "state": _STATE,
    "queued_at": _MAYBE_TIME,
    "started_at": _MAYBE_TIME,
    "ended_at": _MAYBE_TIME,
}
_HEALTH: Final = _one_of(HEALTH)
_FLOW_TRIGGER: Final[Schema] = {
    "id": _ID,
    "name": _TEXT,
    "kind": _TEXT,
    "enabled": _FLAG,
    "health": _HEALTH,
    "next_due": _MAYBE_TIME,
}
_OVERRIDE: Final[Schema] = {
    "enabled": {"type": ["boolean", "null"]},
    "until": _MAYBE_TIME,
    "parameters": {"type": ["object", "null"]},
    "settings": {"type": ["object", "null"]},
    "by": _TEXT,
    "at": _TIME,
    "reason": _MAYBE_TEXT,
}
_TRIGGER: Final[Schema] = {
    **_FLOW_TRIGGER,
    "flow": _MAYBE_TEXT,
    "flows": listed(_TEXT),
    "location": _TEXT,
    "place": _TEXT,
    "description": _TEXT,
    "settings": _MAP,
    "parameters": _MAP,
    "declared": _object({"enabled": _FLAG, "settings": _MAP, "parameters": _MAP}),
    "override": _or_null(_object(_OVERRIDE)),
    "last_poll_at": _MAYBE_TIME,
    "last_fired_at": _MAYBE_TIME,
    "consecutive_errors": _NUMBER,
    "error": _MAYBE_TEXT,
    "cursor": {},
    "registered_at": _TIME,
    "removed_at": _MAYBE_TIME,
}
_HISTORY_LINE: Final[Schema] = {
    "id": _NUMBER,
    "outcome": _TEXT,
    "reason": _MAYBE_TEXT,
    "detail": {},
    "at": _TIME,
    "last_at": _TIME,
    "count": _NUMBER,
}
_PREVIEWED_TICK: Final[Schema] = {"at": _TIME, "local": _TEXT, "due": _TIME, "fires": _FLAG, "notes": listed(_TEXT)}
_PREVIEWED_POLL: Final[Schema] = {
    "outcome": {"type": "string", "enum": ["fire", "skip", "failed"]},
    "fires": listed(_object({"context": {}, "key": _MAYBE_TEXT})),
    "reason": _MAYBE_TEXT,
    "error": _or_null(_MAP),
    "cursor": {},
    "took_ms": {"type": "number"},
}
_RULE: Final[Schema] = {"event": {"type": "string", "enum": sorted(EVENTS)}, "channels": listed(_TEXT), "from": _TEXT}
_NOTIFICATION: Final[Schema] = {
    "id": _TEXT,
    "event": _TEXT,
    "channel": _TEXT,
    "flow": _MAYBE_TEXT,
    "run_id": _MAYBE_TEXT,
    "title": _TEXT,
    "state": {"type": "string", "enum": list(STATES)},
    "gathering": _FLAG,
    "count": _NUMBER,
    "tries": _NUMBER,
    "next_try_at": _MAYBE_TIME,
    "last_error": _MAYBE_TEXT,
    "created_at": _TIME,
    "delivered_at": _MAYBE_TIME,
}
_MESSAGE: Final[Schema] = {
    "level": {"type": "string", "enum": ["info", "success", "warning", "error"]},
    "text": _TEXT,
    "link": _MAYBE_TEXT,
    "data": {"type": ["object", "null"]},
}
_FLOW: Final[Schema] = {
    "name": _TEXT,
    "description": _TEXT,
    "version": _TEXT,
    "location": _TEXT,
    "place": _TEXT,
    "tags": listed(_TEXT),
    "input_schema": _MAP,
    "settings": _SETTINGS,
    "is_async": _FLAG,
    "triggers": listed(_object(_FLOW_TRIGGER)),
    "paused": _or_null(_object({"by": _TEXT, "at": _TIME, "reason": _TEXT, "until": _MAYBE_TIME})),
    "next_runs": listed(_TIME),
    "last_run": _or_null(_object(_LAST_RUN)),
    "removed_at": _MAYBE_TIME,
    "permissions": listed(_TEXT),
}
_ENDS: Final = _object({"id": _ID, "ended_at": _TIME})
_STANDING: Final[Schema] = {
    "flow": _TEXT,
    "since": _MAYBE_TIME,
    "last_success": _or_null(_ENDS),
    "last_failure": _or_null(_ENDS),
    "streak": _or_null(_object({"state": _STATE, "count": _NUMBER, "at_least": _FLAG})),
    "usual_duration": _MAYBE_NUMERIC,
}
_COUNTS: Final[Schema] = dict.fromkeys(sorted(ENDED), _NUMBER)
_PERCENTILES: Final[Schema] = {"median": _MAYBE_NUMERIC, "p95": _MAYBE_NUMERIC, "sample": _NUMBER}
_WINDOW: Final[Schema] = {
    "window": _TEXT,
    "from": _TIME,
    "to": _TIME,
    "runs": _NUMBER,
    "states": _object(_COUNTS),
    "success_rate": _MAYBE_NUMERIC,
    "duration": _object({**_PERCENTILES, "mean": _MAYBE_NUMERIC, "longest": _MAYBE_NUMERIC}),
    "queue_time": _object(_PERCENTILES),
    "records": _MAYBE_NUMERIC,
    "retries": _NUMBER,
    "takeovers": _NUMBER,
    "period": _NUMBER,
    "series": listed(_object({"at": _TIME, **_COUNTS, "median": _MAYBE_NUMERIC})),
}
_FAILURE: Final[Schema] = {"location": _TEXT, "place": _TEXT, "message": _TEXT, "traceback": _TEXT}
_PAIR: Final[Schema] = _object({"before": {}, "after": {}})
_CHANGE: Final[Schema] = {
    "flow": _TEXT,
    "change": {"type": "string", "enum": [ADDED, REMOVED, CHANGED]},
    "version": _object({"before": _MAYBE_TEXT, "after": _MAYBE_TEXT}),
    "inputs": {"type": "object", "additionalProperties": {"type": "string", "enum": [ADDED, REMOVED, CHANGED]}},
    "settings": {"type": "object", "additionalProperties": _PAIR},
}
_UNLOADED: Final[Schema] = {"place": _TEXT, "message": _TEXT, "traceback": _TEXT}
_LOCATION_DIFF: Final[Schema] = {
    "location": _TEXT,
    "accepted": _FLAG,
    "changes": listed(_object(_CHANGE)),
    "failures": listed(_object(_UNLOADED)),
}
_STEP: Final[Schema] = {
    "seq": _NUMBER,
    "name": _TEXT,
    "attempt": _NUMBER,
    "state": _one_of(StepState),
    "started_at": _TIME,
    "ended_at": _MAYBE_TIME,
    "result": {},
    "error": _or_null(ref("Failure")),
    "kept": _FLAG,
    "set_aside": {"type": ["integer", "null"]},
}
_ATTEMPT: Final[Schema] = {
    "attempt": _NUMBER,
    "state": _STATE,
    "started_at": _MAYBE_TIME,
    "ended_at": _MAYBE_TIME,
    "error": _or_null(ref("Failure")),
    "next_at": _MAYBE_TIME,
}
_AGAIN_GROUP: Final[Schema] = {
    "flow": _TEXT,
    "error": _TEXT,
    "retryable": _NUMBER,
    "skipped": {"type": "object", "additionalProperties": _NUMBER},
    "reasons": {"type": "object", "additionalProperties": _TEXT},
}

_ARTIFACT: Final[Schema] = {
    "name": _TEXT,
    "size": _NUMBER,
    "sha256": _TEXT,
    "media_type": _MAYBE_TEXT,
    "description": _MAYBE_TEXT,
    "step": _MAYBE_TEXT,
    "at": _TIME,
}
_KEPT: Final[Schema] = {
    name: {"anyOf": [{"type": "number"}, {"type": "string", "enum": ["forever"]}]}
    for name in ("runs", "logs", "artifacts", "ledger", "trigger_history")
} | {"count": {"type": ["integer", "null"]}}
_PRUNED: Final[Schema] = {"kind": _TEXT, "of": _MAYBE_TEXT, "count": _NUMBER, "bytes": {"type": ["integer", "null"]}}
_PRUNING: Final[Schema] = {
    "began": _TIME,
    "ended": _MAYBE_TIME,
    "failure": _MAYBE_TEXT,
    "items": listed(_object(_PRUNED)),
}


def _page(item: str, **more: Schema) -> Schema:
    return _object({"items": listed(ref(item)), "next": _MAYBE_TEXT, **more})


_QUESTION: Final[Schema] = {
    "id": _ID,
    "run_id": _ID,
    "flow": _TEXT,
    "state": _one_of(QuestionState),
    "question": _TEXT,
    "details": {"type": ["object", "null"]},
    "schema": _MAP,
    "to": listed(_TEXT),
    "asked_at": _TIME,
    "expires_at": _MAYBE_TIME,
    "on_timeout": {},
    "answer": {},
    "answered_by": _MAYBE_TEXT,
    "answered_at": _MAYBE_TIME,
    "reason": _MAYBE_TEXT,
}

SCHEMAS: Final[dict[str, Schema]] = {
    "FieldError": _object({"loc": listed({"type": ["string", "integer"]}), "msg": _TEXT, "type": _TEXT}),
    "TriggerRef": _object({"kind": _TEXT, "name": _MAYBE_TEXT}),
    "Invoker": _object({"id": _TEXT, "kind": _TEXT, "on_behalf_of": _or_null(listed(_TEXT))}),
    "Failure": _object({"type": _TEXT, "message": _TEXT, "traceback": _MAYBE_TEXT}),
    "Receipt": _object(_RECEIPT, {**_ERRORS, "run": ref("Run")}),
    "Receipts": _object({"receipts": listed(ref("Receipt"))}),
    "Problem": _object(_PROBLEM, {**_ERRORS, "instance": _TEXT}),
    "Refusal": _object({**_RECEIPT, **_PROBLEM}, _ERRORS),
    "RunSummary": _object(_SUMMARY),
    "RunPage": _page("RunSummary"),
    "Step": _object(_STEP),
    "Attempt": _object(_ATTEMPT),
    "Run": _object(
        {
            **_SUMMARY,
            "error": _or_null(ref("Failure")),
            "attempts": listed(ref("Attempt")),
            "steps": listed(ref("Step")),
            "result": {},
        }
    ),
    "RetryFailed": _object(
        {
            "dry_run": _FLAG,
            "since": _TIME,
            "until": _TIME,
            "failed": _NUMBER,
            "retryable": _NUMBER,
            "more": _FLAG,
            "groups": listed(_object(_AGAIN_GROUP)),
            "runs": listed(_ID),
            "cancelled": {"type": "object", "additionalProperties": _ID},
            "receipts": listed(_object({"origin": _ID, "receipt": ref("Receipt")})),
        }
    ),
    "Artifact": _object(_ARTIFACT),
    "ArtifactPage": _page("Artifact"),
    "Retention": _object(
        {"retention": _object(_KEPT), "flows": _MAP, "pruning": _FLAG, "last": _or_null(ref("Pruning"))}
    ),
    "Pruning": _object(_PRUNING),
    "LedgerRow": _object(_LEDGER_ROW),
    "LedgerPage": _page("LedgerRow"),
    "Question": _object(_QUESTION),
    "QuestionPage": _page("Question"),
    "Flow": _object(_FLOW),
    "FlowPage": _page("Flow", failures=listed(_object(_FAILURE))),
    "Limit": _object(_LIMIT),
    "LimitPage": _page("Limit"),
    "FlowStats": _object({**_STANDING, "windows": listed(_object(_WINDOW))}),
    "StatsPage": _object({"items": listed(_object({**_STANDING, **_WINDOW})), "next": _MAYBE_TEXT}),
    "Trigger": _object(_TRIGGER),
    "TriggerPage": _page("Trigger"),
    "TriggerLine": _object(_HISTORY_LINE),
    "TriggerHistory": _page("TriggerLine"),
    "TriggerPreview": _object(
        {"trigger": _TEXT, "kind": _TEXT}, {"ticks": listed(_object(_PREVIEWED_TICK)), **_PREVIEWED_POLL}
    ),
    "Notification": _object(_NOTIFICATION),
    "NotificationItem": _object({**_NOTIFICATION, "message": _object(_MESSAGE)}),
    "NotificationPage": _page("Notification"),
    "NotificationRules": _object(
        {
            "flow": _TEXT,
            "rules": listed(_object(_RULE)),
            "muted": _or_null(_object({"until": _MAYBE_TIME})),
            "changed": _or_null(_object({"by": _TEXT, "at": _TIME, "reason": _MAYBE_TEXT})),
            "unknown_channels": listed(_TEXT),
        }
    ),
    "Channel": _object(_CHANNEL),
    "ChannelPage": _page("Channel"),
    "ChannelTest": _object(_CHANNEL_TEST),
    "CodeDiff": _object({"locations": listed(_object(_LOCATION_DIFF))}),
    "Validation": _object({"valid": _FLAG, "inputs": {"type": ["object", "null"]}, **_ERRORS}),
    "Alive": _object({"status": _TEXT}),
    "Readiness": _object(
        {
            "ready": _FLAG,
            "locations": _MAP,
            "failures": listed(_object(_FAILURE)),
            "parts": listed(_object({"name": _TEXT, "ready": _FLAG, "detail": _TEXT})),
        }
    ),
}
"""Every shape, by its name. Only what is promised is named; an answer may hold more."""
