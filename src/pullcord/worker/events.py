"""How an event is called: what its function takes, and which of it is the cursor."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, get_type_hints

from pydantic_core import from_json

from pullcord.core.canonical import canonical_json
from pullcord.core.errors import DefinitionError, InvalidInputsError, UsageError
from pullcord.core.event import Cursor, EventTrigger
from pullcord.core.inputs import InputModel

_VARIADIC: Final = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS


class Signature:
    """What the function or class of an event takes. Events of one class share it.

    Args:
        target: the function or class.

    Attributes:
        is_class: whether an instance is polled.
        is_async: whether polls are coroutines.
        cursors: names of the function's parameters that get the cursor; of a class, `poll`'s only parameter.

    Raises:
        DefinitionError: it cannot be called by a poll.
    """

    __slots__ = ("_inputs", "cursors", "is_async", "is_class", "target")

    def __init__(self, target: Callable[..., Any]) -> None:
        self.target = target
        self.is_class = inspect.isclass(target)
        if inspect.isclass(target):
            poll: Any = getattr(target, "poll")  # noqa: B009  mypy knows no poll
            self.is_async = inspect.iscoroutinefunction(poll)
            self.cursors = _cursors_of_method(target, poll)
            self._inputs = _inputs_of_class(target)
        else:
            self.is_async = inspect.iscoroutinefunction(target)
            self.cursors, self._inputs = _parts_of_function(target)

    def arguments(self, parameters: str) -> dict[str, Any]:
        """Return the keyword arguments that parameters given as JSON text stand for.

        Raises:
            InvalidInputsError: with one entry for each that is wrong.
        """
        if self._inputs is None:
            if parameters == "{}":
                return {}
            self._inputs = InputModel(_nothing)
        try:
            return self._inputs.arguments(parameters)
        except InvalidInputsError as error:
            # People change parameters while the server runs, so that this is what a poll fails with.
            wrong = "; ".join(f"{'.'.join(map(str, item['loc'][1:])) or 'all'}: {item['msg']}" for item in error.errors)
            raise InvalidInputsError(f"the parameters do not fit the event's function: {wrong}", error.errors) from None


def _nothing() -> None:
    """Take no parameters."""


def signature_of(trigger: EventTrigger, known: dict[Any, Signature]) -> Signature:
    """Return an event's signature after a look at its declared parameters.

    Args:
        trigger: the event.
        known: signatures by target, which grows.

    Raises:
        DefinitionError: the function cannot be polled, or the parameters do not fit it.
    """
    signature = known.get(trigger.target)
    if signature is None:
        signature = known[trigger.target] = Signature(trigger.target)
    try:
        signature.arguments(canonical_json(trigger.parameters) if trigger.parameters else "{}")
    except InvalidInputsError as error:
        raise DefinitionError(
            f"parameters= of the event {trigger.name!r}: {error.message} (the parameter that takes the cursor is "
            "annotated pc.Cursor)"
        ) from None
    return signature


def cursor_of(text: str | None) -> Cursor:
    """Return the cursor that its JSON text stands for."""
    return Cursor(None if text is None else from_json(text))


def text_of(cursor: Cursor) -> str | None:
    """Return a cursor's value as canonical JSON; None for none.

    Raises:
        UsageError: the value is no JSON.
    """
    if cursor.value is None:
        return None
    try:
        return canonical_json(cursor.value)
    except UsageError as error:
        raise UsageError(f"the cursor cannot be kept: {error.message}; assign plain JSON to its value") from None


def _parts_of_function(target: Callable[..., Any]) -> tuple[tuple[str, ...], InputModel | None]:
    code: Any = getattr(target, "__code__", None)
    if code is not None and not (code.co_argcount or code.co_kwonlyargcount or code.co_flags & _VARIADIC):
        return (), None
    names = list(inspect.signature(target).parameters)
    try:
        hints = get_type_hints(target)
    except NameError as error:
        raise DefinitionError(
            f"the annotations of {target.__qualname__!r} name something unknown: {error}; import it at module level"
        ) from None
    cursors = tuple(name for name in names if hints.get(name) is Cursor)
    return cursors, None if len(cursors) == len(names) else InputModel(target, without=cursors)


def _inputs_of_class(target: type) -> InputModel | None:
    make: Any = getattr(target, "__init__")  # noqa: B009  mypy warns of access through a class
    if make is object.__init__:
        return None
    itself, *others = inspect.signature(make).parameters
    return InputModel(make, without=(itself,)) if others else None


def _cursors_of_method(target: type, poll: Any) -> tuple[str, ...]:
    names = list(inspect.signature(poll).parameters)[1:]
    if len(names) > 1:
        raise DefinitionError(
            f"{target.__name__}.poll() takes the cursor or nothing besides self, not {', '.join(names)}; "
            "other parameters go into __init__"
        )
    return tuple(names)
