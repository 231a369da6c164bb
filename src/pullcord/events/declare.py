"""How the functions of this package declare an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from pullcord.core.durations import Duration
from pullcord.core.event import EventTrigger
from pullcord.core.flow import Flow
from pullcord.core.trigger import flow_names

Flows = Flow[..., Any] | str | Sequence[Flow[..., Any] | str]
"""What an event runs."""


class Options(TypedDict, total=False):
    """What every event takes besides; `pullcord.event` says more.

    Attributes:
        allow_concurrent: let equal contexts run at the same time.
        max_errors: failed polls in a row after which the event is disabled.
        enabled: whether it is polled from the start.
    """

    allow_concurrent: bool
    max_errors: int | None
    enabled: bool


def declared(
    target: Callable[..., Any],
    kind: str,
    parameters: Mapping[str, Any],
    *,
    flow: Flows,
    every: Duration,
    name: str | None,
    timeout: Duration = "30s",
    options: Options,
) -> EventTrigger:
    """Declare an event that polls an instance of a class.

    Args:
        target: the class; making an instance checks the parameters and does nothing else.
        kind: what the event is called after its first flow, `{flow}-{kind}`; without a flow, the name itself.
        parameters: arguments of the class.
        flow: what to run.
        every: time between polls.
        name: its name, where it is given.
        timeout: how long a poll may take.
        options: the others.

    Raises:
        DefinitionError: the declaration cannot work.
    """
    if name is None:
        name = "-".join([*flow_names(flow, "flow=")[:1], kind])
    trigger = EventTrigger(target, flow=flow, every=every, name=name, timeout=timeout, parameters=parameters, **options)
    target(**trigger.parameters)
    return trigger
