"""Exceptions as records: what failed, where in the user's code, and whether it can be raised again as itself."""

from __future__ import annotations

import importlib
import traceback
from typing import Any

from pydantic_core import from_json, to_json

import pullcord
from pullcord.core.errors import (
    CodeChangedError,
    DefinitionError,
    InvalidInputsError,
    PullcordError,
    StepFailedError,
)
from pullcord.core.failures import kinds_of, name_of
from pullcord.core.retry import Retry

_HOME = str(pullcord.__path__[0])
_MESSAGE_LIMIT, _TRACEBACK_LIMIT = 10_000, 20_000


def describe(error: BaseException) -> dict[str, Any]:
    """Return the record of an exception: type, message, traceback, and how to raise it again where that works."""
    kind = type(error)
    record: dict[str, Any] = {
        "type": error.code if isinstance(error, PullcordError) else name_of(kind),
        "message": clean(_text_of(error))[:_MESSAGE_LIMIT],
        "traceback": cut_traceback(error),
    }
    arguments = _arguments(error)
    if arguments is not None:
        record["again"] = [kind.__module__, kind.__qualname__, arguments]
    elif isinstance(error, Exception):
        record["kinds"] = kinds_of(error)
    return record


def describe_end(error: BaseException, retry: Retry) -> dict[str, Any]:
    """Return the record of what a run ends with; it is marked `final` where no other attempt may follow.

    The classes of errors are known here alone: the server, which decides on attempts, has no user code.
    """
    record = describe(error)
    if isinstance(error, CodeChangedError | InvalidInputsError) or not retry.covers(error):
        record["final"] = True
    return record


def rebuild(record: dict[str, Any]) -> BaseException:
    """Return the exception that a record stands for: itself where possible, else a `StepFailedError`."""
    again = record.get("again")
    if again is not None:
        try:
            kind: Any = importlib.import_module(again[0])
            for part in again[1].split("."):
                kind = getattr(kind, part)
            error = kind(*again[2])
            if isinstance(error, Exception):
                return error
        except Exception:
            return _stand_in(record)
    return _stand_in(record)


def _stand_in(record: dict[str, Any]) -> StepFailedError:
    return StepFailedError(record["type"], record["message"], record.get("kinds", ()))


def _arguments(error: BaseException) -> list[Any] | None:
    """Return the constructor's arguments if JSON keeps them and they make an equal exception."""
    if not isinstance(error, Exception) or "<locals>" in type(error).__qualname__:
        return None
    try:
        # As deep as they are in the record, which the server reads.
        arguments: list[Any] = from_json(to_json([[error.args]]))[0][0]
        twin = type(error)(*arguments)
        same = list(error.args) == arguments and str(twin) == str(error) and vars(twin) == vars(error)
    except Exception:
        return None
    return arguments if same else None


def cut_traceback(error: BaseException) -> str:
    """Return the traceback with only the user's own frames above the error line.

    Frames are without their source where a declaration was refused: that line may hold a secret, and be refused for it.
    """
    bare = _refuses_a_declaration(error)
    lines: list[str] = []
    for part in traceback.TracebackException.from_exception(error).format():
        if not (part.lstrip().startswith('File "') and (_HOME in part or "<frozen importlib" in part)):
            lines.append(f"{part.splitlines()[0]}\n" if bare and part.lstrip().startswith('File "') else part)
    return clean("".join(lines))[-_TRACEBACK_LIMIT:]


def _refuses_a_declaration(error: BaseException | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, DefinitionError):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def clean(text: str) -> str:
    """Return text that UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode()


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return f"<{name_of(type(error))} whose message cannot be read>"
