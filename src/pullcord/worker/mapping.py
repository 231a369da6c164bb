"""Mapping: what a hook received, or how a run ended, becomes the inputs of runs by a function of the user's."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import from_json

from pullcord.core.errors import NotFoundError
from pullcord.core.event import Fire
from pullcord.core.trigger import WEBHOOK, Declaration
from pullcord.worker.calls import Call
from pullcord.worker.outcomes import Outcome, outcome_of


async def map_payload(declaration: Declaration | None, name: str, payload: str, call: Call) -> Outcome:
    """Call the mapping function of a declaration.

    Args:
        declaration: with a function `inputs`: of a webhook it gets the body, and the headers where it takes a second
            parameter; of other kinds the payload.
        name: of the trigger.
        payload: JSON text; of a webhook an object of `body` and `headers`.
        call: in which the function is called.

    Raises:
        NotFoundError: the trigger is gone, or has no mapping function any more.
    """
    function = getattr(declaration, "inputs", None)
    if declaration is None or not callable(function):
        raise NotFoundError(f"the trigger {name!r} has no mapping function in this location any more")
    given = from_json(payload)
    arguments = [given]
    if declaration.kind == WEBHOOK:
        arguments = [given["body"], given["headers"]][: _places(function)]
    value = await call.function(function, *arguments)
    return outcome_of(Fire(value) if isinstance(value, Mapping) else value, "a mapping function")


def _places(function: Callable[..., Any]) -> int:
    """Return how many arguments a function can be called with, 1 or 2."""
    parameters = inspect.signature(function).parameters.values()
    if any(item.kind is item.VAR_POSITIONAL for item in parameters):
        return 2
    positional = [item for item in parameters if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    return min(2, max(1, len(positional)))
