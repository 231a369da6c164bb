"""Flows: registered functions with a name, an input schema and settings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar, overload

from pullcord.core.concurrency import Concurrency, OnConflict, concurrency_of
from pullcord.core.context import current
from pullcord.core.durations import Duration
from pullcord.core.errors import DefinitionError
from pullcord.core.inputs import InputModel
from pullcord.core.keep import Keep
from pullcord.core.notify import Rule, notify_of
from pullcord.core.quotas import Quotas, Rate
from pullcord.core.results import ResultCodec
from pullcord.core.retry import Retry, retry_of
from pullcord.core.step import check_function, duration_of
from pullcord.core.trigger import NAME_RULE, Declaration

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """What a flow's decorator says besides the function.

    Attributes:
        concurrency: how many runs may be active at once, counted how.
        retry: when a failed run gets a new attempt.
        timeout: seconds an attempt may take, or None.
        tags: words to find the flow by.
        isolated: whether every run gets a worker process of its own.
        notify: who is told of what.
        keep: how long its runs are kept.
        quotas: what the flow takes at most.
    """

    concurrency: Concurrency
    retry: Retry
    timeout: float | None
    tags: tuple[str, ...]
    isolated: bool
    quotas: Quotas
    notify: tuple[Rule, ...] = ()
    keep: Keep | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the settings as a JSON object, as manifests carry them."""
        return {
            "concurrency": self.concurrency.as_json(),
            "retries": self.retry.as_json(),
            "timeout": self.timeout,
            "tags": list(self.tags),
            "isolated": self.isolated,
            "notify": [rule.as_json() for rule in self.notify],
            "keep": None if self.keep is None else self.keep.as_json(),
            **self.quotas.as_json(),
        }


class Flow(Generic[P, R]):
    """A flow. Called inside a run it starts a child run; anywhere else it is the plain function.

    Attributes:
        name: the function's name with dashes unless given.
        function: the function itself.
        description: the docstring, Markdown.
        settings: what the decorator says.
        triggers: what asks for runs besides people and programs.
        version: given by the author, or None: then it is the hash of the module's source.
        is_async: whether the function is a coroutine function.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None,
        version: str | None,
        settings: FlowSettings,
        triggers: Sequence[Declaration] = (),
    ) -> None:
        check_function(function, "flow")
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name or function.__name__.strip("_").replace("_", "-")
        if not NAME_RULE.fullmatch(self.name):
            raise DefinitionError(
                f"{self.name!r} is no flow name: 1 to 100 letters, digits, dots, dashes and underscores, "
                "beginning with a letter or digit"
            )
        self.description = inspect.getdoc(function) or ""
        self.version = version
        self.settings = settings
        self.triggers = _triggers_of(triggers)
        self.is_async = inspect.iscoroutinefunction(function)
        settings.concurrency.check_parameters(inspect.signature(function).parameters)
        self._inputs: InputModel | None = None
        self._codec: ResultCodec | None = None

    @property
    def inputs(self) -> InputModel:
        """The input schema; made at the first use, when all annotations are defined."""
        if self._inputs is None:
            self._inputs = InputModel(self.function)
        return self._inputs

    @property
    def codec(self) -> ResultCodec:
        """How the flow's result is written and read."""
        if self._codec is None:
            self._codec = ResultCodec(self.function)
        return self._codec

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Start a child run and return its result; outside a run, call the function."""
        runtime = current.get()
        if runtime is None:
            return self.function(*args, **kwargs)
        result: R = runtime.call_flow(self, args, kwargs)
        return result

    def __repr__(self) -> str:
        return f"<flow {self.name}>"


def _tags_of(tags: Sequence[str]) -> tuple[str, ...]:
    if isinstance(tags, str) or not all(isinstance(tag, str) and tag for tag in tags):
        raise DefinitionError(f"tags must be a list of words, not {tags!r}")
    return tuple(dict.fromkeys(tags))


def _keep_of(keep: Keep | None) -> Keep | None:
    if keep is not None and not isinstance(keep, Keep):
        raise DefinitionError(f"keep is a pc.Keep, for example pc.Keep(runs='30d'), not {keep!r}")
    return keep


def _triggers_of(triggers: Sequence[Declaration]) -> tuple[Declaration, ...]:
    if not isinstance(triggers, list | tuple) or not all(isinstance(item, Declaration) for item in triggers):
        raise DefinitionError(
            f"triggers is a list of schedules, events and hooks, for example [pc.cron(...)], not {triggers!r}"
        )
    return tuple(dict.fromkeys(triggers))


@overload
def flow(function: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(
    *,
    name: str | None = None,
    version: str | None = None,
    concurrency: int | Concurrency | None = 1,
    retries: int | Retry | None = None,
    timeout: Duration | None = None,
    tags: Sequence[str] = (),
    isolated: bool = False,
    keep: Keep | None = None,
    rate: Rate | None = None,
    max_queued: int | None = None,
    queue_ttl: Duration | None = None,
    suspend_after: int | None = None,
    triggers: Sequence[Declaration] = (),
    notify: Sequence[Rule] = (),
) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    version: str | None = None,
    concurrency: int | Concurrency | None = 1,
    retries: int | Retry | None = None,
    timeout: Duration | None = None,
    tags: Sequence[str] = (),
    isolated: bool = False,
    keep: Keep | None = None,
    rate: Rate | None = None,
    max_queued: int | None = None,
    queue_ttl: Duration | None = None,
    suspend_after: int | None = None,
    triggers: Sequence[Declaration] = (),
    notify: Sequence[Rule] = (),
) -> Flow[P, R] | Callable[[Callable[P, R]], Flow[P, R]]:
    """Declare a flow; works with and without parentheses, on `def` and `async def`.

    Inputs are validated at the gate, kept as JSON, and read again by the worker and by each run that goes on with this
    one. So a validator has to leave alone what it has changed already; inputs that never stay the same are refused.

    Args:
        name: the function's name with dashes unless given.
        version: the hash of the module's source unless given.
        concurrency: how many runs may be active at once, later ones queue in order; 1 unless given, None for no limit.
            A `Concurrency` says more: a limit for each key, other policies, a limit shared with other flows.
        retries: further attempts of a failed run, a number or a `Retry`; recorded steps are kept unless that says
            otherwise. A run that was cancelled, lost its workers, or does not fit its code any more gets none.
        timeout: how long one attempt may take.
        tags: words to find the flow by.
        isolated: give every run a worker process of its own.
        keep: how long its runs, their logs and their artifacts are kept; the server's setting unless given.
        rate: how many requests are admitted in a time, a `Rate`.
        max_queued: how many runs may wait for a concurrency slot, for each value of the key where there is one; what
            comes then is refused with `queue_full`.
        queue_ttl: how long a run may wait to start; then it is cancelled, and its request has expired.
        suspend_after: after so many failed runs in a row the flow is paused, until somebody resumes it.
        triggers: schedules, events, hooks and ends of other flows that ask for runs.
        notify: rules that say which channels are told of what, such as `pc.on_failure("ops-mail")`.

    Raises:
        DefinitionError: the declaration cannot work.
    """
    settings = FlowSettings(
        concurrency=concurrency_of(concurrency),
        retry=retry_of(retries),
        timeout=duration_of(timeout, "timeout"),
        tags=_tags_of(tags),
        isolated=isolated,
        notify=notify_of(notify),
        keep=_keep_of(keep),
        quotas=Quotas.declared(rate, max_queued, queue_ttl, suspend_after),
    )
    if concurrency is None and max_queued is not None:
        raise DefinitionError("max_queued is about runs that wait for a slot; give the flow a concurrency limit too")
    if max_queued is not None and settings.concurrency.on_conflict is OnConflict.CANCEL_RUNNING:
        raise DefinitionError("with cancel_running only the newest run waits, and it always may; leave max_queued out")
    if max_queued == 0 and settings.concurrency.on_conflict is OnConflict.BUFFER_ONE:
        raise DefinitionError("with buffer_one a run waits, and with max_queued=0 none may; leave max_queued out")

    def declare(target: Callable[P, R]) -> Flow[P, R]:
        return Flow(target, name=name, version=version, settings=settings, triggers=triggers)

    return declare if function is None else declare(function)
