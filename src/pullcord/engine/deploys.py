"""Code that changes under a running server: what is taken, what is refused, and what is said about it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from pullcord.core.changes import ADDED, CHANGED, REMOVED, FlowChange, compare
from pullcord.core.errors import LocationError
from pullcord.core.manifest import FlowSpec, LoadFailure
from pullcord.engine.locations import CodeLocation
from pullcord.failpoints import hit
from pullcord.store.commands.catalog import RegisterFlows

if TYPE_CHECKING:
    from pullcord.engine.engine import Engine
    from pullcord.engine.fleet import Fleet

log = logging.getLogger(__name__)


class Deploys:
    """Decides on the code of all locations.

    Args:
        engine: what it belongs to.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._examining = asyncio.Lock()

    async def reload(self, locations: list[CodeLocation] | None = None) -> None:
        """Load the present code. New locations appear, and those that are gone leave when their runs have ended.

        Args:
            locations: what is to be served from now on; what is served already unless given.
        """
        wanted = None if locations is None else {location.name: location for location in locations}
        fleets = self._engine.fleets
        if wanted is not None:
            for name in fleets.keys() - wanted.keys():
                self._remove(name)
        reloads = [fleet.reload((wanted or {}).get(name)) for name, fleet in fleets.items()]
        for name, location in (wanted or {}).items():
            if name not in fleets:
                self._add(location)
        await asyncio.gather(*reloads)
        # A flow may have moved from one location to another, which asked for its name too early.
        await asyncio.gather(*(fleets[name].reload() for name in self._engine.catalog.freed() if name in fleets))

    async def pending(self) -> list[dict[str, Any]]:
        """Return for each location how its code differs from what is served.

        Each is `{"location", "accepted", "changes", "failures"}`, `accepted` saying whether a reload would take it.
        """
        async with self._examining:  # one process a location will do, however many ask
            return [await self._pending(fleet) for fleet in list(self._engine.fleets.values())]

    async def _pending(self, fleet: Fleet) -> dict[str, Any]:
        name = fleet.location.name
        try:
            manifest = await fleet.examine()
        except (LocationError, OSError) as error:
            failure = {"place": fleet.location.target, "message": str(error), "traceback": ""}
            return {"location": name, "accepted": False, "changes": [], "failures": [failure]}
        # What another location has is no change here, and what fails to load is in the failures.
        flows, failures = self._engine.catalog.sort_out(name, manifest)
        lost = self._engine.catalog.lost(name, manifest)
        now = {key: spec for key, spec in self._engine.catalog.states[name].flows.items() if key not in lost}
        shown = [{"place": item.place, "message": item.message, "traceback": item.traceback} for item in failures]
        changes = [change.as_json() for change in compare(now, flows)]
        return {"location": name, "accepted": not lost, "changes": changes, "failures": shown}

    # --- deciding ------------------------------------------------------------------------------------

    def accepts(self, fleet: Fleet, manifest: dict[str, Any]) -> bool:
        """Say whether new code takes the place of the old: not when a failure in it would take flows away."""
        name = fleet.location.name
        lost = self._engine.catalog.lost(name, manifest) if fleet.validator.attached else []
        if lost:
            self._keep(name, [LoadFailure(**failure) for failure in manifest["failures"]], lost)
        return not lost

    def refuse(self, fleet: Fleet, reason: str) -> None:
        """New code cannot be loaded at all; the old is kept, if there is any."""
        name, target = fleet.location.name, fleet.location.target
        if fleet.validator.attached:
            flows = list(self._engine.catalog.states[name].flows)
            self._keep(name, [LoadFailure(target, reason, "")], flows)
        else:
            self._engine.catalog.fail(name, reason)

    def _keep(self, name: str, failures: list[LoadFailure], lost: list[str]) -> None:
        self._engine.catalog.keep(name, failures, lost)
        self._log_failures(name)
        some = ", ".join(sorted(lost)[:3]) + (", …" if len(lost) > 3 else "")
        log.warning(
            "the new code of %s is not taken, because of what could not be loaded (%s); the last good code goes on",
            name,
            some or "no flows",
            extra={"location": name, "lost": lost},
        )

    def take(self, fleet: Fleet, manifest: dict[str, Any]) -> None:
        """New code is good: its flows are those that there are from now on."""
        name, catalog = fleet.location.name, self._engine.catalog
        first, before = not catalog.states[name].reported.is_set(), catalog.known(name)
        specs, complete = catalog.update(name, manifest)
        catalog.remember(specs)
        after = {spec.name: spec for spec in specs}
        gone = [spec for key, spec in before.items() if key not in after]
        if complete:
            catalog.forget(gone, self._engine.clock.now())
        self._log_failures(name)
        # A flow whose file does not load is not gone: it comes back with its file.
        kept = {key: spec for key, spec in before.items() if complete or key in after}
        self._log_changes(name, first, compare(kept, after) if before else [])
        self._register(name, specs, complete)
        self._engine.declared(name, manifest["triggers"], manifest["digest"], complete)

    # --- locations that come and go ------------------------------------------------------------------

    def _add(self, location: CodeLocation) -> None:
        log.info("%s is served from now on", location.name, extra={"location": location.name})
        self._engine.catalog.add(location)
        fleet = self._engine.fleets[location.name] = self._engine.make_fleet(location)
        fleet.prepare()
        fleet.start()

    def _remove(self, name: str) -> None:
        fleet = self._engine.fleets.pop(name)
        self._engine.leaving.append(fleet)
        self._engine.withdraw(name)
        catalog = self._engine.catalog
        before = catalog.known(name)
        catalog.remove(name)
        catalog.forget(before.values(), self._engine.clock.now())
        log.info("%s is served no longer", name, extra={"location": name, REMOVED: sorted(before)})
        self._register(name, [], True)
        self._engine.declared(name, [], None, True)
        fleet.leave()

    def left(self, fleet: Fleet) -> None:
        """The last process of a location that is served no longer has ended."""
        if fleet in self._engine.leaving:
            self._engine.leaving.remove(fleet)

    # --- telling -------------------------------------------------------------------------------------

    def _register(self, name: str, specs: list[FlowSpec], complete: bool) -> None:
        def registered(result: Any) -> None:
            hit("register.after_write")
            if isinstance(result, Exception):
                log.error("the flows of %s could not be registered: %s", name, result, extra={"location": name})

        hit("register.before_write")
        self._engine.store.submit(RegisterFlows(name, specs, complete, registered))

    def _log_failures(self, name: str) -> None:
        for failure in self._engine.catalog.states[name].failures:
            fields = {"location": name, "place": failure.place, "traceback": failure.traceback}
            log.warning("%s: %s", failure.place, failure.message, extra=fields)

    def _log_changes(self, name: str, first: bool, changes: list[FlowChange]) -> None:
        state = self._engine.catalog.states[name]
        fields: dict[str, Any] = {"location": name, "flows": len(state.flows), "failures": len(state.failures)}
        for what in (ADDED, REMOVED, CHANGED):
            fields[what] = [change.flow for change in changes if change.change == what]
        fields["changes"] = [change.as_json() for change in changes]
        words = "; ".join(change.sentence() for change in changes)
        if not first:
            log.info("%s was loaded again: %s", name, words or "nothing changed", extra=fields)
        elif changes:
            log.info("%s is loaded: %d flows; since the last server: %s", name, len(state.flows), words, extra=fields)
        else:
            log.info("%s is loaded: %d flows", name, len(state.flows), extra=fields)
