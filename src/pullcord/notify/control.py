"""What people do with notifications: look at them, have them sent again, and change who is told of what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from pullcord.clock import Clock, rfc3339
from pullcord.core.errors import DefinitionError, NotFoundError, UsageError
from pullcord.core.manifest import FlowSpec
from pullcord.core.notify import Rule, rule_of
from pullcord.core.removal import removal_of, without
from pullcord.core.rulebook import Change
from pullcord.notify.compose import composed
from pullcord.notify.message import message_of
from pullcord.notify.options import Notifying
from pullcord.store.commands.outbox import RetryNotification
from pullcord.store.commands.rules import ChangeRules
from pullcord.store.queries.outbox import (
    NotificationFilter,
    get_notification,
    kept_message,
    list_notifications,
    refusing_channels,
    stuck_channels,
)
from pullcord.store.queries.page import Page
from pullcord.store.store import Store

CHANGES = ("rules", "add", "remove", "muted", "until", "reason")
"""What can be changed about a flow's notifications at run time."""


class Sender(Protocol):
    """What sends, as far as people have to do with it."""

    def quiet_until(self, channel: str) -> int:
        """Return until when a channel asked to be left alone, microseconds; in the past where it did not."""

    def try_again(self, channel: str) -> None:
        """Send to a channel what is due, whatever it asked for before."""


class Notifications:
    """The notifications of a server.

    Args:
        store: the store.
        clock: the time.
        how: channels and their limits.
        sender: what sends them.
    """

    def __init__(self, store: Store, clock: Clock, how: Notifying, sender: Sender) -> None:
        self._store = store
        self._clock = clock
        self._how = how
        self._sender = sender

    async def listed(self, which: NotificationFilter, page: Page) -> dict[str, Any]:
        """Return a page of notifications, newest first."""
        found = await self._store.read(list_notifications, which, page)
        return found | {"items": [self._timed(item) for item in found["items"]]}

    def _timed(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return an item with the time at which it is tried next, which its channel may have put off."""
        quiet = self._sender.quiet_until(item["channel"])
        if item["next_try_at"] is None or quiet <= self._clock.now():
            return item
        return item | {"next_try_at": max(item["next_try_at"], rfc3339(quiet))}

    async def get(self, uuid: str) -> dict[str, Any]:
        """Return a notification with the message as it is sent, or would be sent now while it gathers.

        Raises:
            NotFoundError: there is none.
        """
        found = await self._store.read(get_notification, uuid)
        if found is None:
            raise NotFoundError(f"no notification has the id {uuid}; `pullcord notify list` shows the latest")
        stored, item = found
        kept = await self._store.read(kept_message, stored.id)
        message = (
            await self._store.read(composed, stored.id, self._how.public_url) if kept is None else message_of(kept)
        )
        shown = {"level": message.level, "text": message.text, "link": message.link, "data": message.data}
        return self._timed(item) | {"message": shown}

    async def retry(self, uuid: str, invoker: str) -> dict[str, Any]:
        """Have a notification sent now, also one that was given up; return it.

        Raises:
            NotFoundError: there is none.
            AlreadyDeliveredError: it has arrived.
        """
        channel = await self._store.write(lambda done: RetryNotification(uuid, invoker, done))
        self._sender.try_again(channel)
        return await self.get(uuid)

    # --- rules ---------------------------------------------------------------------------------------

    def rules(self, spec: FlowSpec) -> dict[str, Any]:
        """Return who is told of what about a flow, and what people changed about it."""
        book, now = self._store.book, self._clock.now()
        change = book.changes.get(spec.name)
        unknown = self.unknown_channels()
        rules = [{**rule.as_json(), "from": source} for source, rule in book.sourced(spec.name)]
        named = {name for rule in rules for name in rule["channels"]}
        muted = None
        if change is not None and change.mutes(now):
            muted = {"until": rfc3339(change.until)}
        return {
            "flow": spec.name,
            "rules": rules,
            "muted": muted,
            "changed": None if change is None else {"by": change.by, "at": rfc3339(change.at), "reason": change.reason},
            "unknown_channels": sorted(named & set(unknown)),
        }

    async def change(
        self, spec: FlowSpec, changes: Mapping[str, Any], until: int | None, invoker: str
    ) -> dict[str, Any]:
        """Change who is told of what about a flow; what is not named stays as it is.

        Args:
            spec: the flow.
            changes: `rules` that hold besides those of the code and the settings, or rules to `add` and what to
                `remove`, as `removal_of` reads it; `muted`, `reason`; `until` is read already.
            until: when the flow is told of again, microseconds, where it is muted.
            invoker: who changes it.

        Raises:
            UsageError: a rule or a removal cannot be, or names an unknown channel.
        """
        unknown = sorted(set(changes) - set(CHANGES))
        if unknown:
            raise UsageError(f"notifications have no {', '.join(unknown)}; there is {', '.join(CHANGES)}")
        rules = None if changes.get("rules") is None else _rules(changes["rules"])
        added, removed = _rules(changes.get("add") or ()), [removal_of(each) for each in changes.get("remove") or ()]
        # A channel that has left the settings can still be taken out of rules.
        self._check_channels((name for each in removed for name in each.channels), self._store.book.named())
        now = self._clock.now()

        def changed(before: Change) -> Change:
            kept = before.rules if rules is None else rules
            new = [rule for rule in (*kept, *added) if rule not in before.rules]
            self._check_channels(name for rule in new for name in rule.channels)
            found = without(kept, removed)
            found += tuple(rule for rule in added if rule not in found)
            muted = before.muted if changes.get("muted") is None else bool(changes["muted"])
            if until is not None and (not muted or until <= now):
                raise UsageError("until is a time to come, of a flow that is muted")
            end = until if "until" in changes or not muted else before.until
            if "muted" in changes and "until" not in changes:
                end = None
            return Change(found, muted, end, invoker, now, changes.get("reason"))

        await self._store.write(lambda done: ChangeRules(spec.name, changed, invoker, done))
        return self.rules(spec)

    def _check_channels(self, names: Iterable[str], others: Iterable[str] = ()) -> None:
        wrong = sorted({*names} - {*self._how.channels, *others})
        if wrong:
            known = ", ".join(sorted(self._how.channels)) or "none"
            raise UsageError(f"no channel is called {', '.join(wrong)}; the settings have {known}")

    # --- what is wrong -------------------------------------------------------------------------------

    def unknown_channels(self) -> dict[str, str]:
        """Return channels that rules name and the settings do not have, with where each is named."""
        named = self._store.book.named()
        return {name: where for name, where in sorted(named.items()) if name not in self._how.channels}

    async def troubles(self) -> list[tuple[str, str]]:
        """Return what keeps notifications from arriving: the channel, and why."""
        found = [
            (name, f"no channel is called {name}, which {where} names; add it to the settings")
            for name, where in self.unknown_channels().items()
        ]
        for name, count, error in await self._store.read(stuck_channels):
            if all(name != known for known, _ in found):
                messages = "1 message is" if count == 1 else f"{count:,} messages are"
                found.append((name, f"{messages} not taken, and tried again: {error}"))
        for name, error in await self._store.read(refusing_channels):
            if name in self._how.channels and all(name != known for known, _ in found):
                look = f"`pullcord notify list --state failed --channel {name}`"
                found.append((name, f"the last message was given up: {error}; {look} shows what was not delivered"))
        return found


def _rules(data: Iterable[Any]) -> tuple[Rule, ...]:
    try:
        return tuple(map(rule_of, data))
    except DefinitionError as error:
        raise UsageError(error.message) from None
