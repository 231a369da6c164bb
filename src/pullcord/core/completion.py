"""Completion triggers: the end of one flow starts another."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

from pullcord.core.errors import DefinitionError
from pullcord.core.manifest import TriggerSpec
from pullcord.core.states import ENDED, RunState
from pullcord.core.trigger import COMPLETION, Declaration, flow_names

if TYPE_CHECKING:
    from pullcord.core.flow import Flow

_STATES: Final = sorted(ENDED)


class CompletionTrigger(Declaration):
    """Asks for runs when runs of other flows have ended.

    Attributes:
        of: the flows whose ends count, by name.
        on: the states that count.
        inputs: makes the inputs from the run that has ended, or None: its result is the inputs.
    """

    kind = COMPLETION

    def __init__(
        self,
        of: Flow[..., Any] | str | Sequence[Flow[..., Any] | str],
        *,
        on: str | Sequence[str] = RunState.SUCCEEDED,
        inputs: Callable[..., Any] | None = None,
        name: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        enabled: bool = True,
    ) -> None:
        super().__init__(name, parameters, enabled)
        self.of = flow_names(of, "the flow that ends")
        self.on = [on] if isinstance(on, str) else list(on)
        if not self.of:
            raise DefinitionError("completion() needs the flow whose end it waits for")
        unknown = [state for state in self.on if state not in ENDED]
        if unknown or not self.on:
            raise DefinitionError(f"on= takes states that a run ends in ({', '.join(_STATES)}), not {on!r}")
        if inputs is not None and not inspect.isfunction(inputs):
            raise DefinitionError(f"inputs= takes a function that makes inputs from the ended run, not {inputs!r}")
        self.inputs = inputs

    def settings(self) -> dict[str, Any]:
        """Return flows and states as a JSON object."""
        return {"of": self.of, "on": [str(state) for state in self.on], "mapped": self.inputs is not None}


def completion(
    of: Flow[..., Any] | str | Sequence[Flow[..., Any] | str],
    *,
    on: str | Sequence[str] = RunState.SUCCEEDED,
    inputs: Callable[..., Any] | None = None,
    name: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    enabled: bool = True,
) -> CompletionTrigger:
    """Run a flow when runs of another have ended; for `triggers=[…]` of the flow that is to run.

    The result of the ended run is the inputs when it is a JSON object, and `{"result": …}` when it is anything else
    but None. Test runs start nothing.

    Args:
        of: the flow that ends, its name, or a list.
        on: states that count: `succeeded` unless given, `failed`, `cancelled`, or a list of them.
        inputs: a function that makes the inputs from the ended run (`id`, `flow`, `state`, `inputs`, `result`,
            `error`, …, as the API shows it); it may return `pc.Skip("why")` instead.
        name: the flow's name and `-completion` unless given.
        parameters: inputs that are the same every time.
        enabled: whether it asks from the start.

    Raises:
        DefinitionError: the declaration cannot work.
    """
    return CompletionTrigger(of, on=on, inputs=inputs, name=name, parameters=parameters, enabled=enabled)


def cycles(fresh: Iterable[TriggerSpec], known: Iterable[TriggerSpec]) -> list[tuple[TriggerSpec, list[str]]]:
    """Return the fresh completion triggers that would have flows start one another in a circle, each with the circle.

    Args:
        fresh: triggers that are declared; the first ones of a circle are let through.
        known: triggers that there are already.
    """
    after: dict[str, set[str]] = {}
    found: list[tuple[TriggerSpec, list[str]]] = []
    for spec in [*known, *fresh]:
        if spec.kind != COMPLETION:
            continue
        edges = [(source, target) for source in from_json(spec.settings)["of"] for target in spec.flows]
        circle = next((path for a, b in edges if (path := _way(after, b, a)) is not None), None)
        if circle is not None:
            found.append((spec, [circle[-1], *circle]))
            continue
        for source, target in edges:
            after.setdefault(source, set()).add(target)
    return found


def _way(after: Mapping[str, set[str]], start: str, end: str) -> list[str] | None:
    """Return a shortest way from one flow to another, along what starts what; None if there is none."""
    before: dict[str, str | None] = {start: None}
    queue = deque([start])
    while queue:
        flow = queue.popleft()
        if flow == end:
            path: list[str] = []
            step: str | None = flow
            while step is not None:
                path.append(step)
                step = before[step]
            return path[::-1]
        for following in sorted(after.get(flow, ())):
            if following not in before:
                before[following] = flow
                queue.append(following)
    return None
