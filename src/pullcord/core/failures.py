"""Which errors are meant: by exception class, or by name where the class need not be there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from pullcord.core.errors import PullcordError, StepFailedError

RetryOn = type[BaseException] | str | Sequence[type[BaseException] | str]
"""One kind of error or several: classes, or names with their modules."""


def name_of(kind: type[BaseException] | str) -> str:
    """Return the name of a class with its module, without `builtins`; a name is itself."""
    if isinstance(kind, str):
        return kind
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def kinds_of(error: BaseException) -> list[str]:
    """Return by what names an error can be meant: its class and those it inherits from, and its code.

    A `StepFailedError` stands for an exception that could not be rebuilt, and goes by the names of that one too.
    """
    names = [name_of(kind) for kind in type(error).__mro__ if kind is not object]
    if isinstance(error, PullcordError):
        names.append(error.code)
    if isinstance(error, StepFailedError):
        names += [error.type, *error.kinds]
    return names


def original(record: dict[str, Any]) -> tuple[str, str]:
    """Return type and message of an error record; those of the original where a `StepFailedError` stands for it."""
    kind, message = str(record["type"]), str(record["message"])
    if kind == StepFailedError.code:
        inner, colon, rest = message.partition(": ")
        return (inner, rest) if colon else (kind, message)
    return kind, message


def covers(wanted: Sequence[type[BaseException] | str], error: BaseException) -> bool:
    """Say whether an error is one of these kinds. Nothing is imported to find out."""
    names: set[str] = set()
    for kind in wanted:
        found = kind if isinstance(kind, type) else _loaded(kind)
        if isinstance(found, type) and isinstance(error, found):
            return True
        names.add(name_of(kind))
    return not names.isdisjoint(kinds_of(error))


def _loaded(name: str) -> Any:
    """Return what a name stands for in a module that is loaded: classes are often known by a shorter name too."""
    module, _, rest = name.rpartition(".")
    parts = [rest]
    while module:
        found: Any = sys.modules.get(module)
        if found is not None:
            try:
                for part in parts:
                    found = getattr(found, part)
            except Exception:  # a module may make its attributes when they are asked for
                return None
            return found
        module, _, rest = module.rpartition(".")
        parts.insert(0, rest)
    return None
