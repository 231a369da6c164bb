"""Which flows there are right now, and what could not be loaded."""

from __future__ import annotations

import asyncio
import difflib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from pullcord.clock import rfc3339
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
        failures: what could not be loaded, now or when new code was refused.
        down: why it cannot be used at all, or None.
        lost: flows that are served, and that the code on the disk does not have, for it is broken.
        tolerated: file and message of what had failed already when the flows were taken.
        clashing: names of flows that another location had first.
    """

    location: CodeLocation
    reported: asyncio.Event = field(default_factory=asyncio.Event)
    flows: dict[str, FlowSpec] = field(default_factory=dict)
    failures: list[LoadFailure] = field(default_factory=list)
    down: str | None = None
    lost: set[str] = field(default_factory=set)
    tolerated: set[tuple[str, str]] = field(default_factory=set)
    clashing: set[str] = field(default_factory=set)


class Catalog:
    """All locations and their flows.

    Args:
        locations: where flows come from.
        remembered: flows that an earlier server registered.

    Attributes:
        removed: flows that have left their location, with the time, microseconds.
        limited: flows to which somebody has given another limit than their code has.
    """

    def __init__(self, locations: list[CodeLocation], remembered: dict[str, FlowSpec]) -> None:
        self.states = {location.name: LocationState(location) for location in locations}
        self.removed: dict[str, tuple[FlowSpec, int]] = {}
        self.limited: set[str] = set()
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
        state.flows, state.failures = self.sort_out(name, manifest)
        state.down = None
        state.lost, state.tolerated = set(), _failed(manifest)
        state.clashing = {item["name"] for item in manifest["flows"]} - state.flows.keys()
        state.reported.set()
        return list(state.flows.values()), not manifest["failures"]

    def sort_out(self, name: str, manifest: dict[str, Any]) -> tuple[dict[str, FlowSpec], list[LoadFailure]]:
        """Return the flows of a manifest that are this location's, and what failed."""
        failures = [LoadFailure(**failure) for failure in manifest["failures"]]
        others = {spec.name: spec for key, other in self.states.items() if key != name for spec in other.flows.values()}
        flows: dict[str, FlowSpec] = {}
        for item in manifest["flows"]:
            spec = FlowSpec(location=name, **item)
            clash = others.get(spec.name)
            if clash is None:
                flows[spec.name] = spec
            else:
                failures.append(
                    LoadFailure(
                        spec.place,
                        f"two flows are called {spec.name!r}: {clash.place} and {spec.place}; give one another name=",
                        "",
                    )
                )
        return flows, failures

    def lost(self, name: str, manifest: dict[str, Any]) -> list[str]:
        """Return the flows that new code would lose to a failure which the present code has not."""
        state = self.states[name]
        missing = state.flows.keys() - {item["name"] for item in manifest["flows"]}
        return sorted(missing) if _failed(manifest) - state.tolerated else []

    def keep(self, name: str, failures: list[LoadFailure], lost: list[str]) -> None:
        """New code was refused: the flows stay as they are, and what failed is shown."""
        state = self.states[name]
        state.failures = failures
        state.lost = set(lost)

    def freed(self) -> list[str]:
        """Return the locations with a flow whose name another location had, and has no more."""
        return [name for name, state in self.states.items() if state.clashing - self.flows.keys()]

    def add(self, location: CodeLocation) -> None:
        """There is a new location."""
        self.states[location.name] = LocationState(location)

    def remove(self, name: str) -> None:
        """A location is served no longer, and nobody need wait for it."""
        self.states.pop(name).reported.set()

    def known(self, name: str) -> dict[str, FlowSpec]:
        """Return the flows that a location had until now, be it under an earlier server."""
        state = self.states[name]
        if state.reported.is_set() and state.down is None:
            return state.flows
        return {spec.name: spec for spec in self._remembered.values() if spec.location == name}

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

    def awaits(self, location: str, name: str, afresh: bool = False) -> bool:
        """Say whether a flow that a location lacks may come: it is still loading, or something in it is broken.

        Args:
            afresh: the code is to be loaded anew, so it has to be good on the disk.
        """
        state = self.states[location]
        if afresh and name in state.lost:
            return True
        return name not in state.flows and (not state.reported.is_set() or bool(state.failures))

    async def wait_ready(self) -> None:
        """Wait until every location has reported or failed."""
        while not self.ready:  # a reload may add and remove locations meanwhile
            for state in list(self.states.values()):
                await state.reported.wait()

    async def resolve(self, name: str) -> FlowSpec:
        """Return a flow, waiting for locations that are still loading.

        Raises:
            UnknownFlowError: there is no such flow, or not any more.
            UnavailableError: it was there, but its file does not load now.
        """
        spec = self.get(name)
        if spec is not None:
            return spec
        if not self.ready:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.wait_ready()
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
        gone = self.removed.get(name)
        if gone is not None and known is None:
            raise UnknownFlowError(
                f"the flow {name!r} was removed from {gone[0].location} at {rfc3339(gone[1])}; its runs are kept: "
                f"`pullcord runs list --flow {name}` shows them"
            )
        if known is not None and known.location not in self.states:
            raise UnknownFlowError(
                f"the flow {name!r} comes from the code location {known.location}, which is not served now; name it "
                "as `pullcord serve` was told before"
            )
        close = difflib.get_close_matches(name, self.flows, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UnknownFlowError(f"there is no flow {name[:100]!r}; {hint}`pullcord flows list` shows all")

    def remember(self, specs: list[FlowSpec]) -> None:
        """Keep flows in mind in case their file breaks later."""
        for spec in specs:
            self._remembered[spec.name] = spec
            self.removed.pop(spec.name, None)

    def forget(self, specs: Iterable[FlowSpec], at: int) -> None:
        """Flows have left their location, at a time in microseconds."""
        for spec in specs:
            known = self._remembered.get(spec.name)
            if known is not None and known.location == spec.location:
                del self._remembered[spec.name]
                self.removed[spec.name] = spec, at


def _failed(manifest: dict[str, Any]) -> set[tuple[str, str]]:
    """Return file and message of what could not be loaded; lines move."""
    return {(re.sub(r":\d+$", "", failure["place"]), failure["message"]) for failure in manifest["failures"]}
