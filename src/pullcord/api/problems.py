"""Errors as `application/problem+json` (RFC 9457), by their stable code."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

from pydantic_core import to_json

from pullcord.core.errors import InvalidInputsError, PullcordError
from pullcord.core.states import Outcome
from pullcord.gate.request import Receipt

STATUS: Final[dict[str, int]] = {
    "invalid_json": 400,
    "unauthenticated": 401,
    "invalid_signature": 401,
    "timestamp_out_of_window": 401,
    "forbidden": 403,
    "unknown_flow": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "idempotency_conflict": 409,
    "request_id_conflict": 409,
    "duplicate_delivery": 409,
    "overlap_rejected": 409,
    "flow_paused": 409,
    "would_deadlock": 409,
    "parent_stopped": 409,
    "not_cancellable": 409,
    "not_resumable": 409,
    "code_changed": 409,
    "already_delivered": 409,
    "already_answered": 409,
    "question_expired": 409,
    "question_cancelled": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "invalid_inputs": 422,
    "invalid_answer": 422,
    "invalid_request": 422,
    "rate_limited": 429,
    "queue_full": 429,
    "mapping_failed": 500,
    "location_unavailable": 503,
    "secret_missing": 503,
    "trigger_disabled": 503,
    "store_error": 503,
    "store_full": 503,
    "store_read_only": 503,
    "store_corrupt": 503,
    "store_locked": 503,
    "not_ready": 503,
}
"""The HTTP status of each error code; a code that is not here is a 500."""

PROBLEM_TYPE: Final = "application/problem+json"

UNEXPECTED: Final = "something went wrong inside the server; its log says what, beside the id {}"
"""The detail of an error that nobody foresaw."""

log = logging.getLogger(__name__)

CHALLENGE: Final = "Bearer"
"""What `WWW-Authenticate` says beside a 401 (RFC 9110 asks for it)."""


def problem(code: str, detail: str, **fields: Any) -> tuple[int, bytes]:
    """Return status and body of a problem."""
    status = STATUS.get(code, 500)
    body = {
        "type": f"urn:pullcord:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    return status, to_json(fields | body)


def problem_of(error: PullcordError) -> tuple[int, bytes]:
    """Return status and body for an error of the tree."""
    fields = dict(error.fields)
    if isinstance(error, InvalidInputsError):
        fields["errors"] = error.errors
    return problem(error.code, error.message, **fields)


def unexpected(error: Exception, what: str, **fields: Any) -> tuple[str, str]:
    """Log an error that nobody foresaw.

    Args:
        error: the error.
        what: what failed, for the log.
        fields: more for the log.

    Returns:
        The id of the occurrence, a URN that is in the log line too, and what to tell the caller.
    """
    instance = uuid4()
    log.error("%s", what, exc_info=error, extra=fields | {"instance": str(instance)})
    return instance.urn, UNEXPECTED.format(instance)


def unexpected_problem(error: Exception, what: str, **fields: Any) -> tuple[int, bytes]:
    """Log an error that nobody foresaw; return status and body for the caller, `instance` being its id in the log."""
    instance, detail = unexpected(error, what, **fields)
    return problem("internal_error", detail, instance=instance)


def retry_after(receipt: Receipt) -> dict[str, str]:
    """Return the header that says when asking again makes sense, where that is known of a refusal."""
    return {} if receipt.retry_after is None else {"retry-after": str(receipt.retry_after)}


def receipt_status(receipt: Receipt, waited: bool, reached: bool) -> int:
    """Return the HTTP status of a receipt that is no refusal."""
    if receipt.refused and receipt.outcome is Outcome.REJECTED:
        return STATUS.get(receipt.code or "", 500)
    if waited:
        return 200 if reached else 202
    return 202 if receipt.outcome in (Outcome.ADMITTED, Outcome.AWAITING_APPROVAL) else 200
