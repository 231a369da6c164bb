"""What every trigger that is declared in code has in common."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pullcord.core.canonical import canonical_json
from pullcord.core.errors import DefinitionError, UsageError

if TYPE_CHECKING:
    from pullcord.core.flow import Flow

NAME_RULE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What a flow or a trigger may be called."""

CRON, INTERVAL, AT = "cron", "interval", "at"
EVENT, WEBHOOK, COMPLETION = "event", "webhook", "completion"
SCHEDULES: Final = frozenset({CRON, INTERVAL, AT})
"""The kinds of triggers that ask at a time."""


class Declaration(ABC):
    """A trigger as the code declares it.

    Args:
        name: by which people and programs find it; a schedule without one is called after its flow and its kind.
        parameters: fixed inputs of the runs it asks for; of an event, the arguments of its function.
        enabled: whether it asks for runs from the start.

    Raises:
        DefinitionError: the name or the parameters cannot be.
    """

    kind: ClassVar[str]

    def __init__(self, name: str | None, parameters: Mapping[str, Any] | None = None, enabled: bool = True) -> None:
        if name is not None and not (isinstance(name, str) and NAME_RULE.fullmatch(name)):
            raise DefinitionError(
                f"{name!r} is no trigger name: 1 to 100 letters, digits, dots, dashes and underscores, "
                "beginning with a letter or digit"
            )
        if not isinstance(enabled, bool):
            raise DefinitionError(f"enabled is True or False, not {enabled!r}")
        self.name = name
        self.parameters = _json_object(parameters or {})
        self.enabled = enabled

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return what is particular to the kind as a JSON object, as manifests carry it."""


def _json_object(parameters: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(parameters, Mapping) or not all(isinstance(key, str) for key in parameters):
        raise DefinitionError(f"parameters is an object of names and values, not {parameters!r}")
    given = dict(parameters)
    if all(key.isascii() and _is_plain(value) for key, value in given.items()):
        return given
    try:
        canonical_json(given)
    except UsageError as error:
        raise DefinitionError(f"parameters must be JSON: {error.message}") from None
    return given


def _is_plain(value: object) -> bool:
    """Say whether a value is JSON at first sight; that is quicker than writing it."""
    kind = type(value)
    if kind is int:
        return -(2**63) <= value < 2**63  # type: ignore[operator]
    return (kind is str and value.isascii()) or kind is bool or value is None  # type: ignore[attr-defined]


def flow_names(flow: Flow[..., Any] | str | Sequence[Flow[..., Any] | str], what: str) -> list[str]:
    """Return the names of the flows that somebody gave as flows, names, or a list of them.

    Raises:
        DefinitionError: something else was given as `what`.
    """
    given = [flow] if isinstance(flow, str) or not isinstance(flow, Sequence) else list(flow)
    names = [item if isinstance(item, str) else getattr(item, "name", None) for item in given]
    for name, item in zip(names, given, strict=True):
        if not isinstance(name, str):
            raise DefinitionError(f"{what} takes a flow, a flow's name or a list of them, not {item!r}")
    return list(dict.fromkeys(str(name) for name in names))
