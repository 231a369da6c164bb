"""The bodies of requests, read strictly; and from the same models their part of the OpenAPI document."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from pullcord.clock import microseconds
from pullcord.core.errors import UsageError
from pullcord.gate.request import Invoker, TriggerRequest, expiry_of
from pullcord.gate.retrying import Wanted

LONGEST_DURATION: Final = 40
"""No duration is written with more characters: reading one takes time that grows with the square of its length."""

MOST_ERRORS: Final = 100
"""No answer lists more field errors."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must not contain control characters")
    return text


def storable(text: str) -> str:
    """Return a text that a database takes.

    Raises:
        ValueError: it holds a NUL character.
    """
    if "\0" in text:
        raise ValueError("must not contain NUL characters")
    return text


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise ValueError("must be a UUID") from None


def _moment(text: str) -> str:
    if moment_of(text) is None:
        raise ValueError("must be a time with zone, such as 2030-01-31T02:00:00Z")
    return text


def _length(value: str | float) -> str | float:
    if isinstance(value, str) and len(value) > LONGEST_DURATION:
        raise ValueError("must be a duration, such as 30s or 5m")
    try:
        expiry_of(value)
    except UsageError as error:
        raise ValueError(error.message) from None
    return value


def moment_of(text: str) -> int | None:
    """Return an RFC 3339 time as microseconds since 1970 UTC, or None when it is none."""
    try:
        moment = datetime.fromisoformat(text)
        # Near the ends of the calendar a moment may lie outside of it in UTC, in which it will be shown.
        return microseconds(moment.astimezone(UTC)) if moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


Name = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
Key = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_printable)]
Words = Annotated[str, Field(max_length=1000), AfterValidator(storable)]
Uuid = Annotated[str, Field(json_schema_extra={"format": "uuid"}), AfterValidator(_uuid)]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"}), AfterValidator(_moment)]

Length = Annotated[
    str | float, Field(json_schema_extra={"description": "a duration, like 30s, or seconds"}), AfterValidator(_length)
]


class Strict(BaseModel):
    """A body without surprises: no unknown fields, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True)


class RunRequest(Strict):
    """One intent to run a flow."""

    flow: Name
    inputs: Annotated[Any, Field(json_schema_extra={"type": "object"})] = {}  # what is none, the gate refuses by name
    request_id: Uuid | None = None
    idempotency_key: Key | None = None
    reason: Words | None = None
    not_before: Moment | None = None
    priority: int = Field(0, ge=-1000, le=1000)
    expires_in: Length | None = None
    on_behalf_of: Name | None = None
    test: bool = False
    dry_run: bool = False

    def trigger_request(self, invoker: Invoker, source: str, header_key: str | None) -> TriggerRequest:
        """Return what the gate takes.

        Args:
            invoker: who calls.
            source: where the call came in.
            header_key: the `Idempotency-Key` header, if there was one.

        Raises:
            UsageError: header and body name different keys.
        """
        key = one_key(header_key, self.idempotency_key)
        if self.on_behalf_of is not None:
            invoker = Invoker(invoker.id, invoker.kind, (*invoker.on_behalf_of, self.on_behalf_of))
        return TriggerRequest(
            flow=self.flow,
            inputs=self.inputs,
            invoker=invoker,
            source=source,
            request_id=self.request_id,
            idempotency_key=key,
            note=self.reason,
            not_before=None if self.not_before is None else moment_of(self.not_before),
            priority=self.priority,
            test=self.test,
            dry_run=self.dry_run,
            expires_in=None if self.expires_in is None else expiry_of(self.expires_in),
        )


def one_key(header: str | None, field: str | None) -> str | None:
    """Return the idempotency key of a call.

    Raises:
        UsageError: header and body name different keys.
    """
    if header is not None and field not in (None, header):
        raise UsageError("the Idempotency-Key header and `idempotency_key` differ; send one of them")
    return header or field


class BatchRequest(Strict):
    """Up to a thousand intents; each is decided on by itself."""

    requests: list[Any] = Field(min_length=1, max_length=1000)


class PauseRequest(Strict):
    """Why a flow is paused, and until when; until it is resumed unless that is said."""

    reason: Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(storable)]
    until: Moment | None = None


class CancelRequest(Strict):
    """How to cancel a run."""

    force: bool = False
    reason: Words | None = None


class AnswerRequest(Strict):
    """The answer to a question."""

    answer: Any
    reason: Words | None = None


class AgainRequest(Strict):
    """How a run is asked for again."""

    reason: Words | None = None
    idempotency_key: Key | None = None
    request_id: Uuid | None = None


class ResumeRequest(AgainRequest):
    """How to resume a run: by force also where its code has changed since."""

    force: bool = False


class RerunRequest(AgainRequest):
    """Which inputs differ from the original's."""

    inputs: dict[str, Any] = {}


class RetryFailedRequest(Strict):
    """Which failed runs to ask for again, and how."""

    since: Moment
    until: Moment | None = None
    flow: Name | None = None
    error: Name | None = None
    from_beginning: bool = False
    force: bool = False
    limit: int = Field(100, ge=1, le=1000)
    reason: Words | None = None
    dry_run: bool = True

    def wanted(self) -> Wanted:
        """Return what is wanted."""
        until = None if self.until is None else max(0, moment_of(self.until) or 0)
        return Wanted(
            since=max(0, moment_of(self.since) or 0),
            until=until,
            flow=self.flow,
            error=self.error,
            from_beginning=self.from_beginning,
            force=self.force,
            limit=self.limit,
            reason=self.reason,
        )


class ValidateRequest(Strict):
    """Inputs to look at without asking for a run."""

    inputs: dict[str, Any] = {}


class LimitChange(Strict):
    """Another limit, null for none; or `reset` for that of code and settings again."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["limit"], "properties": {"reset": {"const": False}}},
                {"required": ["reset"], "properties": {"reset": {"const": True}}, "not": {"required": ["limit"]}},
            ]
        }
    )

    limit: Annotated[int, Field(ge=1, lt=2**31 - 1)] | None = None
    reset: bool = False
    reason: Words | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if ("limit" in self.model_fields_set) == self.reset:
            raise ValueError("must have either limit, which may be null for none, or reset: true")
        return self


class TriggerChange(Strict):
    """What is to be different about a trigger from what its code says; null for the code's value again."""

    enabled: bool | None = None
    until: Moment | None = None
    schedule: Annotated[
        str | float | dict[str, Any] | None, Field(json_schema_extra={"description": "expression, seconds or time"})
    ] = None
    settings: dict[str, Any] | None = None
    parameters: dict[str, Any] | None = None
    cursor: Any = None
    reason: Words | None = None

    def changes(self) -> dict[str, Any]:
        """Return what was sent; a null that was sent is something else than a field that was not."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class PreviewRequest(Strict):
    """How far to look ahead, or from where."""

    cursor: Any = None
    n: int = Field(10, ge=1, le=1000)


class ReplayRequest(Strict):
    """Which request of a trigger to make again."""

    request_id: Uuid


def body_errors(error: ValidationError) -> list[dict[str, Any]]:
    """Return what is wrong with a body, without the values; of a flood of errors the first hundred."""
    return [
        {"loc": [_clipped(part) for part in item["loc"]], "msg": item["msg"], "type": item["type"]}
        for item in error.errors(include_url=False, include_context=False, include_input=False)[:MOST_ERRORS]
    ]


def _clipped(part: int | str) -> int | str:
    """Keep the name of a field that the caller made up from filling the answer and the ledger."""
    return part[:100] if isinstance(part, str) else part


def sentence(errors: list[dict[str, Any]]) -> str:
    """Return the same in words."""
    return "the request is not valid: " + "; ".join(
        f"{'.'.join(map(str, error['loc'])) or 'body'}: {error['msg']}" for error in errors[:5]
    )
