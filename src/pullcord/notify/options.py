"""How a server tells: its channels, the rules for all flows, and how much a channel takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pullcord.core.rulebook import WINDOW, Book, DefaultRule
from pullcord.notify.channel import Channel
from pullcord.notify.channels import Channels
from pullcord.notify.settings import TIMEOUT

PER_HOUR: Final = 30
"""So many messages an hour are sent to a channel; what is more goes into digests."""

GIVE_UP: Final = 24 * 3600.0
"""After so many seconds of trying, a notification is given up; it stays visible, and can be sent again by hand."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much a channel takes.

    Attributes:
        window: seconds after a message within which further happenings of its kind are gathered into one.
        per_hour: how many messages an hour; what is more goes into digests.
        timeout: seconds that it may take for one message, as it sees to itself.
    """

    window: float = WINDOW / 1_000_000
    per_hour: int = PER_HOUR
    timeout: float = TIMEOUT


@dataclass(frozen=True, slots=True)
class Notifying:
    """How a server tells.

    Attributes:
        channels: the channels by name.
        defaults: rules for all flows.
        paces: for channels that differ from the usual `Pace`.
        public_url: the address under which people reach the server, for links, or None.
        give_up: seconds of trying after which a notification is given up.
    """

    channels: Mapping[str, Channel] = field(default_factory=dict)
    defaults: tuple[DefaultRule, ...] = ()
    paces: Mapping[str, Pace] = field(default_factory=dict)
    public_url: str | None = None
    give_up: float = GIVE_UP

    def over(self, channels: Channels) -> Notifying:
        """Return the same with the channels of the settings, and what they say of how much they take."""
        usual = Pace()
        paces = {
            name: Pace(
                usual.window if each.group is None else each.group,
                usual.per_hour if each.per_hour is None else each.per_hour,
                each.timeout,
            )
            for name, each in channels.settings.items()
        }
        return replace(self, channels={**channels.opened, **self.channels}, paces={**paces, **self.paces})

    def book(self) -> Book:
        """Return the rules to begin with."""
        windows = {name: int(pace.window * 1_000_000) for name, pace in self.paces.items()}
        return Book(defaults=self.defaults, windows=windows).ready()

    def per_hour(self, channel: str) -> int:
        """Return how many messages an hour a channel takes."""
        return self.paces.get(channel, Pace()).per_hour

    def timeout(self, channel: str) -> float:
        """Return the seconds that a channel may take for one message."""
        return self.paces.get(channel, Pace()).timeout
