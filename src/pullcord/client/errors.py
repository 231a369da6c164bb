"""What can go wrong between a client and its server, and problems turned back into the error tree."""

from __future__ import annotations

from typing import Any

from pullcord.core import errors as tree
from pullcord.core.errors import InvalidInputsError, NotCancellableError, NotFoundError, PullcordError, UsageError


class ServerUnreachableError(PullcordError, ConnectionError):
    """No server answers: none runs, the address is wrong, or the connection was lost."""

    code = "server_unreachable"


class UnexpectedAnswerError(PullcordError):
    """Something answered, but not as a Pullcord server does."""

    code = "unexpected_answer"


_KINDS: dict[str, type[PullcordError]] = {
    kind.code: kind
    for kind in vars(tree).values()
    if isinstance(kind, type) and issubclass(kind, PullcordError) and kind.__init__ is PullcordError.__init__
} | {"unknown_flow": NotFoundError, "invalid_json": UsageError}
"""The class of each code that is built from a message and fields."""


def error_of(status: int, data: Any) -> PullcordError:
    """Return the error that a problem document stands for.

    Args:
        status: the HTTP status.
        data: the parsed body, or None when it was no JSON.
    """
    if not isinstance(data, dict) or not isinstance(data.get("code"), str):
        return UnexpectedAnswerError(
            f"the answer (HTTP status {status}) is not one of a Pullcord server; check the address, and what stands "
            "between you and the server",
            status=status,
        )
    code = data["code"]
    message = str(data.get("detail") or data.get("title") or code)
    fields = {name: value for name, value in data.items() if name not in ("type", "title", "detail", "code")}
    error: PullcordError
    if code == InvalidInputsError.code:
        error = InvalidInputsError(message, fields.pop("errors", []), **fields)
    elif code == NotCancellableError.code:
        error = NotCancellableError(message, str(fields.get("state")))
        error.fields = fields
    else:
        error = _KINDS.get(code, PullcordError)(message, **fields)
    error.code = code  # type: ignore[misc]  # an instance may be more precise than its class
    return error
