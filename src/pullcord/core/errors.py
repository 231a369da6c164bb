"""The one error tree of Pullcord: every error has a stable `code` and says what to do next.

HTTP statuses and exit statuses are decided elsewhere (`api/`, `cli/`), from the code alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypedDict


class FieldError(TypedDict):
    """One thing that is wrong with one input field.

    Keys:
        loc: path to the field, beginning with `"inputs"`.
        msg: the rule in words; it never repeats the value.
        type: pydantic's error type, for example `"missing"`.
    """

    loc: list[str | int]
    msg: str
    type: str


class PullcordError(Exception):
    """The root of all errors that Pullcord raises on purpose.

    Args:
        message: what happened and what the user can do next.
        fields: further facts about this error; they stay readable as `error.fields`.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields

    def __str__(self) -> str:
        return self.message


class DefinitionError(PullcordError):
    """A flow or step is declared in a way that cannot work; raised while the file is imported."""

    code = "invalid_definition"


class UsageError(PullcordError):
    """A setting, option or argument makes no sense as given."""

    code = "invalid_request"


class PullcordRuntimeError(PullcordError, RuntimeError):
    """A part was used before it was set up, after it was stopped, or from the wrong thread."""

    code = "not_ready"


class NotFoundError(PullcordError):
    """No run, request or flow has that id or name."""

    code = "not_found"


class InvalidInputsError(PullcordError):
    """The inputs of a flow are not valid; `errors` names each field."""

    code = "invalid_inputs"

    def __init__(self, message: str, errors: list[FieldError], **fields: Any) -> None:
        super().__init__(message, **fields)
        self.errors = errors


class NotCancellableError(PullcordError):
    """The run has ended already; `state` says how."""

    code = "not_cancellable"

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message, state=state)
        self.state = state


class NotResumableError(PullcordError):
    """The run goes on, or has succeeded; `state` says which."""

    code = "not_resumable"

    def __init__(self, message: str, state: str) -> None:
        super().__init__(message, state=state)
        self.state = state


class AlreadyDeliveredError(PullcordError):
    """The notification has arrived; there is nothing to try again."""

    code = "already_delivered"


class InvalidAnswerError(PullcordError):
    """An answer does not fit the schema of its question; `errors` names each field."""

    code = "invalid_answer"


class AlreadyAnsweredError(PullcordError):
    """Somebody has answered the question already; `answered_by` and `answered_at` say who and when."""

    code = "already_answered"


class QuestionExpiredError(PullcordError):
    """The time for an answer is over."""

    code = "question_expired"


class QuestionCancelledError(PullcordError):
    """Nobody waits for the answer any more: the run that asked has ended, is cancelled, or has begun anew."""

    code = "question_cancelled"


class UnauthenticatedError(PullcordError):
    """No valid credential came with the call."""

    code = "unauthenticated"


class ForbiddenError(PullcordError):
    """The caller is known but may not do this."""

    code = "forbidden"


class InvalidSignatureError(PullcordError):
    """A webhook's delivery is not signed by anybody who has its secret."""

    code = "invalid_signature"


class TimestampError(PullcordError):
    """A webhook's delivery was signed too long ago, or with a clock that is ahead."""

    code = "timestamp_out_of_window"


class SecretError(PullcordError):
    """A secret that the server needs is not there, or is of another kind."""

    code = "secret_missing"


class UnreadableError(PullcordError):
    """A body is no JSON."""

    code = "invalid_json"


class MappingError(PullcordError):
    """A trigger's own function, which makes inputs of what has happened, failed."""

    code = "mapping_failed"


class DisabledError(PullcordError):
    """The trigger is disabled, by the code or by somebody."""

    code = "trigger_disabled"


class HeldBackError(PullcordError):
    """What a trigger has seen is not taken now, and will be when it has passed; `code` says what is in the way.

    Attributes:
        room: so many of what was asked for, from the first on, could have been taken.
    """

    def __init__(self, code: str, message: str, room: int = 0) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]
        self.room = room


class TooLargeError(PullcordError):
    """A body or value is over its limit, in bytes."""

    code = "too_large"


class UnavailableError(PullcordError):
    """A part that is needed does not answer right now; trying again later makes sense."""

    code = "location_unavailable"


class LocationError(PullcordError):
    """A code location cannot be loaded at all, or two flows share a name."""

    code = "location_failed"


# --- what a step or a run can end with ---------------------------------------------------------


class RunError(PullcordError):
    """The root of errors that Pullcord raises inside a flow."""

    code = "run_error"


class StepFailedError(RunError):
    """A step failed with an exception that cannot be rebuilt from its record.

    A flow must see the same exception on the first execution and on a replay after a crash. An
    exception whose class and arguments survive JSON is raised as itself; any other becomes this.

    Attributes:
        type: the qualified name of the original exception class.
        kinds: the names of the classes that it inherits from.
    """

    code = "step_failed"

    def __init__(self, type: str, message: str, kinds: Sequence[str] = ()) -> None:
        super().__init__(f"{type}: {message}", type=type)
        self.type = type
        self.original_message = message
        self.kinds = list(kinds)
        self.args = (type, message, self.kinds) if kinds else (type, message)


class StepTimeoutError(RunError, TimeoutError):
    """A step took longer than its `timeout`."""

    code = "step_timeout"

    def __init__(self, message: str) -> None:
        super().__init__(message)


class AskTimeoutError(RunError, TimeoutError):
    """Nobody answered a question within its `timeout`."""

    code = "ask_timeout"

    def __init__(self, message: str) -> None:
        super().__init__(message)


class AnswerUnfitError(RunError, ValueError):
    """A recorded answer does not fit the schema that the code asks with now."""

    code = "answer_unfit"

    def __init__(self, message: str) -> None:
        super().__init__(message)


class RunTimeoutError(RunError, TimeoutError):
    """A run took longer than its flow's `timeout`."""

    code = "run_timeout"


class ResultError(RunError, TypeError):
    """A result cannot be written as JSON, or does not fit the return annotation."""

    code = "unserializable_result"

    def __init__(self, message: str) -> None:
        super().__init__(message)


class ChildFailedError(RunError):
    """A child run ended otherwise than `succeeded`.

    Attributes:
        flow: the child's flow name.
        state: how it ended.
    """

    code = "child_failed"

    def __init__(self, message: str, flow: str = "", state: str = "failed") -> None:
        super().__init__(message, flow=flow, state=state)
        self.flow = flow
        self.state = state
        self.args = (message, flow, state)


class ArtifactError(RunError):
    """A file cannot be stored with the run: it is missing, no file, too large, changed meanwhile, or the disk is full.

    Attributes:
        name: what the artifact was to be called.
        why: `missing`, `not_a_file`, `unreadable`, `too_large`, `changed` or `disk`.
    """

    code = "artifact_not_stored"

    def __init__(self, message: str, name: str, why: str) -> None:
        super().__init__(message)
        self.name = name
        self.why = why
        self.args = (message, name, why)


class CodeChangedError(RunError):
    """After a deploy the flow asked for other steps than were recorded (design rule 7)."""

    code = "code_changed"


# --- the store -----------------------------------------------------------------------------------


class PollTimeoutError(PullcordError, TimeoutError):
    """A poll, or the mapping of a payload, took longer than it may."""

    code = "poll_timeout"


class PollResultError(PullcordError):
    """What an event function or a mapping function returned cannot be used."""

    code = "poll_result"


class StoreError(PullcordError):
    """The database cannot do what was asked; nothing of the failed request was kept."""

    code = "store_error"


class StoreLockedError(StoreError):
    """Another process holds the data folder."""

    code = "store_locked"


class StoreFullError(StoreError):
    """The disk is full."""

    code = "store_full"


class StoreReadOnlyError(StoreError):
    """The data folder or file cannot be written."""

    code = "store_read_only"


class StoreCorruptError(StoreError):
    """The database file is damaged."""

    code = "store_corrupt"


class StoreVersionError(StoreError):
    """The database was written by a newer Pullcord."""

    code = "store_too_new"
