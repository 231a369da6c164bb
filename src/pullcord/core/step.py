"""Steps: functions whose results are recorded, so that they are never run again in the same run."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, overload

from pullcord.core.context import current
from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import DefinitionError, UsageError
from pullcord.core.interruption import OnCancel, Writes, filled, on_cancel_of, writes_of
from pullcord.core.results import ResultCodec
from pullcord.core.retry import FAILED, Retry, retry_of

P = ParamSpec("P")
R = TypeVar("R")

_NO_NAME = re.compile(r"[\x00\ud800-\udfff]")


class Step(Generic[P, R]):
    """A step: call it inside a flow and its result is recorded; anywhere else it is the plain function.

    Steps are at-least-once: after a crash the step that was running, and had no record yet, runs again.

    Attributes:
        name: the function's name unless given.
        function: the function itself.
        retry: when it is tried again.
        timeout: seconds a try may take, or None.
        is_async: whether the function is a coroutine function.
        keyed: whether calls with an equal key are one and the same.
        finishes: whether it is let run to its end when its run is cancelled.
        writes: what it may leave half-written when it is interrupted, as patterns over its parameters.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None,
        retries: int | Retry | None,
        timeout: Duration | None,
        key: str | Callable[P, str] | None,
        on_cancel: OnCancel = "stop",
        writes: Writes | None = None,
    ) -> None:
        check_function(function, "step")
        functools.update_wrapper(self, function)
        self.function = function
        self.name = _checked_name(name or function.__name__)
        self.is_async = inspect.iscoroutinefunction(function)
        self.retry = retry_of(retries)
        if self.retry.start != FAILED:
            raise DefinitionError("start= is for attempts of a run; a step is always tried again from its beginning")
        self.timeout = duration_of(timeout, "timeout")
        self._key = key
        self.keyed = key is not None
        self._signature = inspect.signature(function)
        self.finishes = on_cancel_of(on_cancel) == "finish"
        self.writes = writes_of(writes, self._signature, self.name)
        self._codec: ResultCodec | None = None

    @property
    def codec(self) -> ResultCodec:
        """How results are written and read; made at the first use, when all annotations are defined."""
        if self._codec is None:
            self._codec = ResultCodec(self.function)
        return self._codec

    def explicit_key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """Return the identity that `key=` names for these arguments, or None without `key=`.

        Raises:
            UsageError: the key's pattern names a parameter the step does not have.
        """
        if self._key is None:
            return None
        if callable(self._key):
            return str(self._key(*args, **kwargs))
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            return self._key.format(**bound.arguments)
        except (KeyError, IndexError, AttributeError) as error:
            raise UsageError(
                f"the key {self._key!r} of step {self.name!r} does not fit its parameters: {error}"
            ) from None

    def written_by(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
        """Return what a call with these arguments may leave half-written."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:  # the call itself will say so
            return list(self.writes)
        bound.apply_defaults()
        return filled(self.writes, bound.arguments)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the step, or return its recorded result."""
        runtime = current.get()
        if runtime is None:
            return self.function(*args, **kwargs)
        result: R = runtime.call_step(self, args, kwargs)
        return result

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind like a function, so that a method can be a step."""
        call: Callable[..., R] = self
        return self if instance is None else functools.partial(call, instance)

    def __repr__(self) -> str:
        return f"<step {self.name}>"


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or _NO_NAME.search(name):
        raise DefinitionError(f"{name!r} is no step name: a text without NUL characters and lone surrogates")
    return name


def check_function(function: Any, what: str) -> None:
    """Refuse what cannot be a flow or step: something that is no function, or a generator.

    Raises:
        DefinitionError: with the reason.
    """
    if not inspect.isfunction(function):
        raise DefinitionError(f"@pc.{what} goes on a function, not on {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(f"{function.__qualname__!r} is a generator; a {what} returns one value, so return a list")


def duration_of(value: Duration | None, what: str) -> float | None:
    """Return a declared duration in seconds, or None.

    Raises:
        DefinitionError: it is not a positive duration.
    """
    if value is None:
        return None
    try:
        result = seconds(value)
    except UsageError as error:
        raise DefinitionError(f"{what}: {error.message}") from None
    if result <= 0:
        raise DefinitionError(f"{what} must be longer than zero, not {value!r}")
    return result


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    retries: int | Retry | None = None,
    delay: Duration | None = None,
    timeout: Duration | None = None,
    key: str | Callable[..., str] | None = None,
    on_cancel: OnCancel = "stop",
    writes: Writes | None = None,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int | Retry | None = None,
    delay: Duration | None = None,
    timeout: Duration | None = None,
    key: str | Callable[..., str] | None = None,
    on_cancel: OnCancel = "stop",
    writes: Writes | None = None,
) -> Step[P, R] | Callable[[Callable[P, R]], Step[P, R]]:
    """Declare a step; works with and without parentheses, on `def` and `async def`.

    Args:
        name: the function's name unless given.
        retries: further tries after a failure, a number or a `Retry`; none unless given.
        delay: pause before the first of them when `retries` is a number; 1 s unless given.
        timeout: how long one try may take; no limit unless given. A sync step cannot be stopped from outside:
            its worker process is replaced.
        key: the step's identity where arguments and order do not name it: a pattern over the parameters such as
            `"{order_id}"`, or a function of the arguments.
        on_cancel: what cancelling the run means: `stop` interrupts async code, and ends the run when a sync step is
            over; `finish` lets the step run to its end and records it first. A forced cancel overrides both.
        writes: what the step may leave half-written when it is interrupted, for the people who clean up: a text, a
            pattern over the parameters such as `"{path}"`, or a list of them; nothing unless given.

    Raises:
        DefinitionError: the declaration cannot work.
    """
    if delay is not None:
        if isinstance(retries, Retry) or not retries:
            raise DefinitionError("delay= goes with a number of retries; a Retry has a delay of its own")
        retries = Retry(limit=retries, delay=delay)

    def declare(target: Callable[P, R]) -> Step[P, R]:
        return Step(target, name=name, retries=retries, timeout=timeout, key=key, on_cancel=on_cancel, writes=writes)

    return declare if function is None else declare(function)
