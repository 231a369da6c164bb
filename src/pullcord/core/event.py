"""Event triggers: functions that look whether something has happened, and say what to run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, overload

from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import DefinitionError, PullcordError, UsageError
from pullcord.core.trigger import EVENT, Declaration, flow_names

if TYPE_CHECKING:
    from pullcord.core.flow import Flow

SHORTEST: Final = 0.05
"""No event is polled more often than so, in seconds."""


@dataclass(slots=True)
class Cursor:
    """How far an event has read. What is assigned to `value` is kept together with the runs that the poll caused.

    Attributes:
        value: any JSON; None at first.
    """

    value: Any = None


@dataclass(frozen=True, slots=True)
class Skip:
    """Nothing to run this time.

    Attributes:
        reason: why, shown in the trigger's history.
    """

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Fire:
    """Run the event's flows.

    Attributes:
        context: the inputs; none unless given.
        key: fires with the same key are one as long as a run of theirs is active; the context itself unless given.
    """

    context: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None


class PollError(PullcordError):
    """What an event function raises when it cannot look right now.

    Any other exception counts as one of these with nothing further said.

    Args:
        message: what is wrong.
        retry_after: how long to leave it alone at least, as a Retry-After header says (RFC 9110, 10.2.3).
        permanent: looking again is of no use until somebody acts (a wrong password, a missing table): the trigger is
            disabled at once.
    """

    code = "poll_failed"

    def __init__(self, message: str, *, retry_after: Duration | None = None, permanent: bool = False) -> None:
        super().__init__(message)
        self.retry_after = None if retry_after is None else seconds(retry_after)
        self.permanent = permanent


Polled = Fire | Skip | Sequence[Fire] | None
"""What an event function returns; None is a skip without a reason."""


class EventTrigger(Declaration):
    """An event. Called, it is the plain function or class.

    Attributes:
        target: the function, coroutine function, or class with `poll` and perhaps `setup` and `teardown`.
        flows: what it runs, by name; further flows may name it in their `triggers`.
        every: seconds between polls.
        timeout: seconds that a poll may take.
        allow_concurrent: whether equal contexts may run at the same time.
        max_errors: after so many failed polls in a row it is disabled; None for never.
        description: the docstring, Markdown.
    """

    kind = EVENT

    def __init__(
        self,
        target: Callable[..., Any],
        *,
        flow: Flow[..., Any] | str | Sequence[Flow[..., Any] | str] = (),
        every: Duration = "5s",
        name: str | None = None,
        timeout: Duration = "30s",
        allow_concurrent: bool = False,
        max_errors: int | None = 10,
        parameters: Mapping[str, Any] | None = None,
        enabled: bool = True,
    ) -> None:
        if inspect.isclass(target):
            if not callable(getattr(target, "poll", None)):
                raise DefinitionError(f"{target.__name__} has no method poll(); an event class needs one")
        elif not inspect.isfunction(target):
            raise DefinitionError(f"{target!r} is neither a function nor a class")
        super().__init__(name or target.__name__.strip("_").replace("_", "-"), parameters, enabled)
        self.__doc__ = target.__doc__
        self.target = target
        self.flows = flow_names(flow, "flow=")
        self.every = _length(every, "every", SHORTEST)
        self.timeout = _length(timeout, "timeout", 0.01)
        self.allow_concurrent = bool(allow_concurrent)
        if max_errors is not None and (
            isinstance(max_errors, bool) or not isinstance(max_errors, int) or max_errors < 1
        ):
            raise DefinitionError(
                f"max_errors is a whole number of at least 1, or None for no limit, not {max_errors!r}"
            )
        self.max_errors = max_errors
        self.description = inspect.getdoc(target) or ""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function or class itself, as tests do."""
        return self.target(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<event {self.name}>"

    def settings(self) -> dict[str, Any]:
        """Return cadence, deadline and the like as a JSON object."""
        return {
            "every": self.every,
            "timeout": self.timeout,
            "allow_concurrent": self.allow_concurrent,
            "max_errors": self.max_errors,
        }


def _length(value: Duration, what: str, least: float) -> float:
    try:
        length = seconds(value)
    except UsageError as error:
        raise DefinitionError(f"{what}: {error.message}") from None
    if length < least:
        raise DefinitionError(f"{what} is at least {round(least * 1000)} ms, not {value!r}")
    return length


def _count(value: int | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise DefinitionError(f"max_errors is a whole number of at least 1, or None for no limit, not {value!r}")
    return value


@overload
def event(target: Callable[..., Any], /) -> EventTrigger: ...
@overload
def event(
    *,
    flow: Flow[..., Any] | str | Sequence[Flow[..., Any] | str] = (),
    every: Duration = "5s",
    name: str | None = None,
    timeout: Duration = "30s",
    allow_concurrent: bool = False,
    max_errors: int | None = 10,
    parameters: Mapping[str, Any] | None = None,
    enabled: bool = True,
) -> Callable[[Callable[..., Any]], EventTrigger]: ...
def event(
    target: Callable[..., Any] | None = None, /, **options: Any
) -> EventTrigger | Callable[[Callable[..., Any]], EventTrigger]:
    """Declare an event; works with and without parentheses, on `def`, `async def` and classes with `poll`.

    The function may take a parameter annotated `pullcord.Cursor`; its other parameters come from `parameters` and are
    validated like inputs. A class takes its parameters in `__init__`; `setup()` and `teardown()`, where it has them,
    are called once around all polls.

    Args:
        flow: what to run: a flow, its name, or a list; a flow may name the event in its `triggers` instead.
        every: time between polls, from 50 ms.
        name: the function's name with dashes unless given.
        timeout: how long a poll may take.
        allow_concurrent: let equal contexts run at the same time; they are one as long as a run is active unless given.
        max_errors: failed polls in a row after which the event is disabled; 10 unless given, None for never.
        parameters: arguments of the function.
        enabled: whether it is polled from the start.

    Raises:
        DefinitionError: the declaration cannot work.
    """

    def declare(function: Callable[..., Any]) -> EventTrigger:
        return EventTrigger(function, **options)

    return declare if target is None else declare(target)
