"""What people do with triggers: look at them, change them, try them, put them back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from pydantic_core import from_json

from pullcord.clock import Clock, microseconds, rfc3339
from pullcord.core.canonical import canonical_json
from pullcord.core.durations import seconds
from pullcord.core.errors import ForbiddenError, NotFoundError, UsageError
from pullcord.core.trigger import AT, CRON, EVENT, INTERVAL, SCHEDULES
from pullcord.gate.gate import Gate
from pullcord.gate.policy import Action, Policy
from pullcord.gate.request import Invoker, Receipt, TriggerRequest
from pullcord.store.queries.page import Page
from pullcord.store.queries.requests import get_request
from pullcord.store.queries.triggers import trigger_history
from pullcord.store.store import Store
from pullcord.triggers.events import Events
from pullcord.triggers.record import Override, TriggerRecord
from pullcord.triggers.registry import Registry
from pullcord.triggers.schedules import Schedules

ESSENTIAL: Final = {CRON: "expression", INTERVAL: "every", AT: "when", EVENT: "every"}
"""The setting that says when a trigger of each kind asks."""

CHANGEABLE: Final = ("enabled", "until", "schedule", "settings", "parameters", "cursor", "reason")
"""What can be changed about a trigger at run time."""

PREVIEWED: Final = 10
"""So many ticks a preview shows unless told otherwise."""


class TriggerControl:
    """Looks at triggers and changes them, for callers with permissions.

    Args:
        registry: all triggers.
        schedules: keeps the times of schedules.
        events: polls events.
        gate: where a replay is asked for.
        policy: knows who may.
        store: has the histories.
        clock: the time.
    """

    def __init__(
        self,
        registry: Registry,
        schedules: Schedules,
        events: Events,
        gate: Gate,
        policy: Policy,
        store: Store,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._schedules = schedules
        self._events = events
        self._gate = gate
        self._policy = policy
        self._store = store
        self._clock = clock

    def listed(
        self,
        flow: str | None = None,
        kind: str | None = None,
        enabled: bool | None = None,
        *,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[Mapping[str, Any]]:
        """Return triggers by name, those that have left the code too.

        Args:
            flow: only those that ask for this flow.
            kind: only those of this kind.
            enabled: only those that are, or are not, enabled.
            after: only those whose name comes after this one.
            limit: so many at most.
        """
        now = self._clock.now()
        found = (
            record
            for record in self._registry.all(flow, after)
            if (kind is None or kind == record.kind)
            and (enabled is None or enabled == (record.enabled(now) and record.removed_at is None))
        )
        return [self._registry.show(record) for record in islice(found, limit)]

    def get(self, key: str) -> Mapping[str, Any]:
        """Return a trigger by its id or name.

        Raises:
            NotFoundError: there is none.
        """
        return self._registry.show(self._registry.find(key))

    async def history(self, key: str, page: Page, offset: int = 0) -> dict[str, Any]:
        """Return a page of a trigger's history, newest first, without its first lines if there is an offset.

        Raises:
            NotFoundError: there is no such trigger.
        """
        return await self._store.read(trigger_history, self._registry.find(key).id, page, offset)

    async def change(self, key: str, changes: Mapping[str, Any], invoker: Invoker) -> Mapping[str, Any]:
        """Change a trigger and return it as it is then.

        Args:
            key: its id or name.
            changes: what is to be different from the code: `enabled`, `until` (end of a pause), `schedule` (the
                expression, interval or time of a schedule, or an event's cadence), `settings` (further ones of its
                kind), `parameters`, each null for the code's value again; `cursor`, where it goes on from; `reason`.
            invoker: who changes it.

        Raises:
            NotFoundError: there is no such trigger.
            UsageError: it cannot be so.
            ForbiddenError: the invoker may not.
        """
        record = self._registry.find(key)
        self._permit(invoker, "change", record)
        unknown = changes.keys() - set(CHANGEABLE)
        if unknown:
            raise UsageError(f"{sorted(unknown)[0]!r} cannot be changed; {', '.join(CHANGEABLE)} can")
        if record.removed_at is not None:
            raise UsageError(f"{record.name} has left the code at {rfc3339(record.removed_at)}, so it does nothing")
        now = self._clock.now()
        override = record.override or Override()
        words: list[str] = []
        if "enabled" in changes or "until" in changes:
            override = self._enabled(override, changes, words)
        settings = _settings(record, changes, override)
        if settings != override.settings:
            words.append("settings changed" if settings else "settings as in the code")
            override = replace(override, settings=settings)
        if "parameters" in changes:
            words.append("parameters changed" if changes["parameters"] is not None else "parameters as in the code")
            override = replace(override, parameters=_object(changes["parameters"], "parameters"))
        cursor = None
        if "cursor" in changes:
            cursor, override = self._cursor(record, changes["cursor"], override, words)
        if not words:
            raise UsageError(f"nothing to change; {', '.join(CHANGEABLE[:-1])} can be")
        reason = changes.get("reason")
        if reason is not None and not isinstance(reason, str):
            raise UsageError("reason is a text")
        override = replace(override, by=invoker.id, at=now, reason=reason)
        kept = override if override.changes() or override.again_until is not None else None
        what = ", ".join(words) + (f" ({reason})" if reason and kept is None else "")
        await self._registry.change(record, kept, cursor, what, invoker.id)
        return self._registry.show(record)

    async def preview(self, key: str, invoker: Invoker, cursor: Any = None, n: int = PREVIEWED) -> dict[str, Any]:
        """Return what a trigger would do next, and have it do nothing.

        Args:
            key: its id or name.
            invoker: who asks.
            cursor: of an event, where to look from; its own unless given.
            n: of a schedule, how many ticks.

        Raises:
            NotFoundError: there is no such trigger.
            UsageError: triggers of its kind cannot be previewed.
            ForbiddenError: the invoker may not.
        """
        record = self._registry.find(key)
        self._permit(invoker, "preview", record)
        if record.kind in SCHEDULES:
            ticks = self._schedules.preview(record, n, datetime.now(UTC))
            return {
                "trigger": record.name,
                "kind": record.kind,
                "ticks": [
                    {
                        "at": rfc3339(tick.at),
                        "local": tick.local,
                        "due": rfc3339(tick.due),
                        "fires": tick.fires and record.enabled(tick.at),
                        "notes": [*tick.notes, *([] if record.enabled(tick.at) else [record.why_off()])],
                    }
                    for tick in ticks
                ],
            }
        if record.kind != EVENT:
            raise UsageError(f"{record.name} is a {record.kind}, which waits for others: there is nothing to preview")
        seen = await self._events.preview(record, record.state.cursor if cursor is None else canonical_json(cursor))
        fires = seen.detail if seen.outcome == "fire" else []
        return {
            "trigger": record.name,
            "kind": record.kind,
            "outcome": seen.outcome,
            "fires": [{"context": from_json(context), "key": key} for context, key in fires],
            "reason": seen.detail if seen.outcome == "skip" else None,
            "error": seen.detail if seen.outcome == "failed" else None,
            "cursor": None if seen.cursor is None else from_json(seen.cursor),
            "took_ms": round(seen.length / 1000, 3),
        }

    async def replay(self, key: str, request_id: str, invoker: Invoker) -> Receipt:
        """Ask again for what a trigger asked for once; the run says who had it repeated.

        Raises:
            NotFoundError: there is no such trigger, or it made no such request.
        """
        record = self._registry.find(key)
        item = await self._store.read(get_request, request_id, record.invoker.id)
        if item is None or item["trigger"]["name"] != record.name or item["flow"] is None:
            raise NotFoundError(
                f"{record.name} made no request {request_id[:100]}; `pullcord triggers history {record.name}` and "
                "`GET /v1/requests` show what it asked for"
            )
        return await self._gate.submit(
            TriggerRequest(
                flow=item["flow"],
                inputs=item["inputs"] or {},
                invoker=invoker,
                source="replay",
                trigger=record.ref,
                note=f"replay of request {request_id}",
            )
        )

    def _permit(self, invoker: Invoker, action: Action, record: TriggerRecord) -> None:
        flow = record.spec.flows[0] if record.spec.flows else None
        if not self._policy.may(invoker, action, flow):
            raise ForbiddenError(f"{invoker.id} may not {action} the trigger {record.name}")

    def _enabled(self, override: Override, changes: Mapping[str, Any], words: list[str]) -> Override:
        enabled, until = changes.get("enabled", False), changes.get("until")
        if enabled is not None and not isinstance(enabled, bool):
            raise UsageError("enabled is true or false, or null for the code's value")
        moment = None if until is None else _moment(until, "until")
        if moment is not None and enabled is not False:
            raise UsageError("until is the end of a pause, so it goes with enabled: false")
        if moment is not None and moment <= self._clock.now():
            raise UsageError("until has passed already")
        if enabled is None:
            words.append("enabled as in the code")
        else:
            words.append(("enabled" if enabled else "disabled") + (f" until {rfc3339(moment)}" if moment else ""))
        return replace(override, enabled=enabled, until=moment)

    def _cursor(
        self, record: TriggerRecord, value: Any, override: Override, words: list[str]
    ) -> tuple[list[str | None], Override]:
        """Return where a trigger goes on from. A schedule that is put back runs everything again from there."""
        now = self._clock.now()
        if record.kind == EVENT:
            words.append("cursor set")
            return [None if value is None else canonical_json(value)], override
        if record.kind not in SCHEDULES:
            raise UsageError(f"a {record.kind} has no cursor")
        moment = now if value == "now" else _moment(value, "cursor")
        if moment > now:
            raise UsageError("the cursor of a schedule is a time that has passed, or now; to leave some out, pause it")
        words.append("the backlog is skipped" if moment == now else f"again from {rfc3339(moment)}")
        return [str(moment)], replace(override, again_until=now if moment < now else None)


def _settings(record: TriggerRecord, changes: Mapping[str, Any], override: Override) -> dict[str, Any] | None:
    """Return the settings that are to differ from the code."""
    settings = override.settings
    if "settings" in changes:
        settings = _object(changes["settings"], "settings")
    if "schedule" in changes:
        essential = ESSENTIAL.get(record.kind)
        if essential is None:
            raise UsageError(f"{record.name} is a {record.kind}: it has no schedule")
        given = changes["schedule"]
        if given is None:
            settings = {key: value for key, value in (settings or {}).items() if key != essential}
        else:
            settings = (settings or {}) | (given if isinstance(given, dict) else {essential: given})
    if record.kind == EVENT and settings:
        # As in the code, where these are durations too.
        lengths = {
            name: seconds(settings[name]) for name in ("every", "timeout") if isinstance(settings.get(name), str)
        }
        settings = settings | lengths
    return settings or None


def _object(value: Any, what: str) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise UsageError(f"{what} is an object, or null for what the code says")
    return value


def _moment(value: Any, what: str) -> int:
    """Return a time that somebody wrote, microseconds."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise UsageError(f"{what} is a time like 2026-12-24T18:00:00Z, not {value!r}") from None
    if moment.tzinfo is None:
        raise UsageError(f"{what} needs a zone, like 2026-12-24T18:00:00Z or 2026-12-24T18:00:00+01:00")
    try:
        # Near the ends of the calendar a moment may lie outside of it in UTC.
        return microseconds(moment.astimezone(UTC))
    except OverflowError:
        raise UsageError(f"{what} is out of range") from None
