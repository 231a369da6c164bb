"""Which flows there are right now, and what could not be loaded."""

from __future__ import annotations

import asyncio
import difflib
import logging
from dataclasses import dataclass, field
from typing import Any, Final

from pullcord.core.errors import NotFoundError, UnavailableError
from pullcord.core.manifest import FlowSpec, LoadFailure
from pullcord.engine.locations import CodeLocation

log = logging.getLogger(__name__)

PATIENCE: Final = 10.0
"""Seconds that a request waits for a location that is loading or a worker that is being replaced."""


class UnknownFlowError(NotFoundError):
    """No location has a flow of that name."""

    code = "unknown_flow"


@dataclass(slots=True)
class LocationState:
    """What is known about one location.

    Attributes:
        location: where the code is.
        reported: set when it was loaded, or failed, for the first time.
        flows: its flows, by name.
        failures: what could not be loaded.
        down: why it cannot be used at all, or None.
    """

    location: CodeLocation
    reported: asyncio.Event = field(default_factory=asyncio.Event)
    flows: dict[str, FlowSpec] = field(default_factory=dict)
    failures: list[LoadFailure] = field(default_factory=list)
    down: str | None = None


class Catalog:
    """All locations and their flows.

    Args:
        locations: where flows come from.
        remembered: flows that an earlier server registered.
    """

    def __init__(self, locations: list[CodeLocation], remembered: dict[str, FlowSpec]) -> None:
        self.states = {location.name: LocationState(location) for location in locations}
        self._remembered = remembered

    @property
    def flows(self) -> dict[str, FlowSpec]:
        """Every flow that can run, by name."""
        return {name: spec for state in self.states.values() for name, spec in state.flows.items()}

    def get(self, name: str) -> FlowSpec | None:
        """Return a flow that can run."""
        for state in self.states.values():
            spec = state.flows.get(name)
            if spec is not None:
                return spec
        return None

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Everything that could not be loaded."""
        return [
            {"location": name, "place": failure.place, "message": failure.message, "traceback": failure.traceback}
            for name, state in self.states.items()
            for failure in state.failures
        ]

    def update(self, name: str, manifest: dict[str, Any]) -> tuple[list[FlowSpec], bool]:
        """Take a location's manifest; return its flows, and whether all of its files loaded.

        A flow whose name another location has already is refused here, naming both places.
        """
        state = self.states[name]
        state.failures = [LoadFailure(**failure) for failure in manifest["failures"]]
        others = {spec.name: spec for key, other in self.states.items() if key != name for spec in other.flows.values()}
        flows: dict[str, FlowSpec] = {}
        for item in manifest["flows"]:
            spec = FlowSpec(location=name, **item)
            clash = others.get(spec.name)
            if clash is None:
                flows[spec.name] = spec
            else:
                state.failures.append(
                    LoadFailure(
                        spec.place,
                        f"two flows are called {spec.name!r}: {clash.place} and {spec.place}; give one another name=",
                        "",
                    )
                )
        _log_change(name, state, flows)
        state.flows = flows
        state.down = None
        state.reported.set()
        return list(flows.values()), not manifest["failures"]

    def fail(self, name: str, reason: str) -> None:
        """A location cannot be loaded at all."""
        state = self.states[name]
        log.error("%s cannot be loaded: %s", name, reason, extra={"location": name})
        state.down = reason
        state.failures = [LoadFailure(state.location.target, reason, "")]
        state.reported.set()

    @property
    def ready(self) -> bool:
        """Whether every location has reported or failed."""
        return all(state.reported.is_set() for state in self.states.values())

    def awaits(self, location: str, name: str) -> bool:
        """Say whether a flow that a location lacks may come: it is still loading, or something in it is broken."""
        state = self.states[location]
        return name not in state.flows and (not state.reported.is_set() or bool(state.failures))

    async def wait_ready(self) -> None:
        """Wait until every location has reported or failed."""
        for state in self.states.values():
            await state.reported.wait()

    async def resolve(self, name: str) -> FlowSpec:
        """Return a flow, waiting for locations that are still loading.

        Raises:
            UnknownFlowError: there is no such flow.
            UnavailableError: it was there, but its file does not load now.
        """
        spec = self.get(name)
        if spec is not None:
            return spec
        if not self.ready:
            try:
                await asyncio.wait_for(self.wait_ready(), PATIENCE)
            except TimeoutError:
                raise UnavailableError(
                    f"not all code has loaded after {PATIENCE:g} s, and {name!r} is not among the flows so far; "
                    "try again"
                ) from None
            spec = self.get(name)
            if spec is not None:
                return spec
        known = self._remembered.get(name)
        failures = self.failures
        if known is not None and failures:
            first = next(
                (item for item in failures if known.place.startswith(item["place"].split(":")[0])), failures[0]
            )
            raise UnavailableError(
                f"the flow {name!r} cannot be loaded now: {first['message']} ({first['place']}); mend it and try again"
            )
        close = difflib.get_close_matches(name, self.flows, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UnknownFlowError(f"there is no flow {name[:100]!r}; {hint}`pullcord flows list` shows all")

    def remember(self, specs: list[FlowSpec]) -> None:
        """Keep flows in mind in case their file breaks later."""
        self._remembered |= {spec.name: spec for spec in specs}


def _log_change(name: str, state: LocationState, flows: dict[str, FlowSpec]) -> None:
    before, fields = state.flows, {"location": name, "flows": len(flows), "failures": len(state.failures)}
    if not state.reported.is_set():
        log.info("%s is loaded: %d flows", name, len(flows), extra=fields)
        return
    changes = {
        "added": sorted(flows.keys() - before.keys()),
        "removed": sorted(before.keys() - flows.keys()),
        "changed": sorted(key for key in flows.keys() & before.keys() if flows[key] != before[key]),
    }
    text = "; ".join(f"{what} {', '.join(names)}" for what, names in changes.items() if names) or "nothing changed"
    log.info("%s was loaded again: %s", name, text, extra={**fields, **changes})
