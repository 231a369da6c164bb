"""What a poll or a mapping came to, as the wire carries it: `fire`, `skip` or `failed`, and a detail."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from pullcord.core.canonical import canonical_json
from pullcord.core.errors import PollResultError, UsageError
from pullcord.core.event import Fire, Skip
from pullcord.core.inputs import in_order
from pullcord.worker.failures import clean, describe

MOST_FIRES: Final = 10_000
"""One poll fires no more than so many times."""

MOST_TEXT: Final = 8_000_000
"""The contexts of one poll have no more characters in all: escaped, and in UTF-8, they fit a frame."""

_REASON: Final = 1_000
_REFUSED: Final = frozenset({401, 403})


class Outcome(NamedTuple):
    """One outcome.

    Attributes:
        kind: `fire`, `skip` or `failed`.
        detail: what the wire says beside it.
        size: characters of it, when there are many.
    """

    kind: str
    detail: Any
    size: int = 0


NOTHING: Final = Outcome("skip", None)


def outcome_of(value: Any, what: str = "an event") -> Outcome:
    """Turn what a poll returned into its outcome.

    Args:
        value: None, a Skip, a Fire, or a sequence of Fire.
        what: what returned it, for messages.

    Raises:
        PollResultError: it is nothing of these, or cannot be written.
    """
    if value is None:
        return NOTHING
    if isinstance(value, Skip):
        return Outcome("skip", clean(str(value.reason))[:_REASON] or None)
    if isinstance(value, Fire):
        value = (value,)
    elif not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray):
        raise _wrong(value, what)
    if not value:
        return NOTHING
    if len(value) > MOST_FIRES:
        raise PollResultError(
            f"{len(value)} fires at once are more than {MOST_FIRES}; return fewer and go on with the cursor"
        )
    fires, size = [], 0
    for fire in value:
        if not isinstance(fire, Fire):
            raise _wrong(fire, what)
        context, key = context_of(fire.context), _key_of(fire.key)
        size += len(context) + len(key or "")
        if size > MOST_TEXT:
            raise PollResultError(
                f"the contexts have more than {MOST_TEXT} characters; return fewer and go on with the cursor, "
                "or pass where the data is instead of the data"
            )
        fires.append([context, key])
    return Outcome("fire", fires, size)


def failed(error: BaseException) -> Outcome:
    """Return the outcome of a poll that raised.

    What an exception of another library says about trying again is believed: a `retry_after` in seconds, and a
    `response` of an HTTP client that refuses the credentials or has a Retry-After in seconds (RFC 9110, 10.2.3).
    """
    record = describe(error)
    permanent, retry_after = False, None
    with suppress(Exception):  # properties of anybody's exceptions may raise
        response = getattr(error, "response", None)
        permanent = getattr(error, "permanent", False) is True or getattr(response, "status_code", 0) in _REFUSED
        retry_after = getattr(error, "retry_after", None)
        if retry_after is None and response is not None:
            retry_after = float(response.headers["Retry-After"])
    if isinstance(retry_after, bool) or not isinstance(retry_after, int | float) or not 0 <= retry_after < math.inf:
        retry_after = None
    traceback = record["traceback"] if error.__traceback__ is not None else ""  # none where nothing was raised
    return Outcome(
        "failed",
        {
            "type": record["type"],
            "message": record["message"],
            "traceback": traceback,
            "permanent": permanent,
            "retry_after": retry_after,
        },
    )


def context_of(value: Any) -> str:
    """Write a context as canonical JSON: models, dates, paths and sets as pydantic writes them, sets in order.

    Raises:
        PollResultError: it is no object, or cannot be written.
    """
    if type(value) is dict:
        with suppress(UsageError):
            return canonical_json(value)
    if not isinstance(value, Mapping | BaseModel):
        raise PollResultError(f"a context is an object of names and values, not {_short(value)}")
    given = dict(value) if isinstance(value, Mapping) else value
    try:
        return canonical_json(in_order(given, to_jsonable_python(given)))
    except UsageError as error:
        message = error.message
    except ValueError as error:  # pydantic's own, and what cannot be put in order
        message = str(error)
    raise PollResultError(f"a context cannot be written: {clean(message)}")


def _key_of(key: Any) -> str | None:
    if key is None:
        return None
    if not isinstance(key, str):
        raise PollResultError(f"the key of a Fire is text, not {_short(key)}")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise PollResultError("the key of a Fire holds a lone surrogate; use well-formed Unicode") from None
    return str(key)


def _wrong(value: Any, what: str) -> PollResultError:
    return PollResultError(
        f"{what} returns pc.Fire({{…inputs…}}), a list of them, pc.Skip('why') or None, not {_short(value)}"
    )


def _short(value: Any) -> str:
    try:
        text = clean(repr(value))
    except Exception:
        text = f"a {type(value).__qualname__}"
    return text if len(text) <= 100 else f"{text[:100]}…"
