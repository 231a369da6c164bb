"""The channels of a server or a command: which there are, and whether they work."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from pullcord.clock import Clock
from pullcord.core.errors import NotFoundError
from pullcord.notify.channel import Channel, DeliveryError
from pullcord.notify.message import Message
from pullcord.notify.opening import open_channels

if TYPE_CHECKING:
    from pullcord.notify.settings import ChannelSettings

TEST: Final = "test"
"""The event of a message that only tries a channel."""


class Channels:
    """The named channels.

    Args:
        settings: what each is.
        clock: the time.

    Attributes:
        settings: by name.
        opened: what sends, by name; see `open_channels`.
    """

    def __init__(self, settings: Iterable[ChannelSettings], clock: Clock) -> None:
        self.settings: dict[str, ChannelSettings] = {each.name: each for each in settings}
        self.opened: dict[str, Channel] = open_channels(self.settings.values())
        self._clock = clock

    def listed(self) -> list[dict[str, Any]]:
        """Return what may be shown of each, by name."""
        return [self.settings[name].as_json() for name in sorted(self.settings)]

    async def test(self, name: str) -> dict[str, Any]:
        """Send one message now, and once, and say what became of it.

        Returns:
            `channel`, `kind`, `delivered`; `seconds` that it took; where it was not delivered `error`, `permanent`
            (whether trying again changes anything) and `retry_after`, else null and false.

        Raises:
            NotFoundError: there is no such channel.
        """
        channel = self.opened.get(name)
        if channel is None:
            known = ", ".join(sorted(self.opened)) or "none so far"
            raise NotFoundError(
                f"no channel is called {name[:100]!r}; there are: {known}. Channels are in pullcord.toml under "
                "[channels.NAME], which the server reads when it starts"
            )
        began = time.monotonic()
        failure: DeliveryError | None = None
        try:
            await channel.send(self._message(name))
        except DeliveryError as error:
            failure = error
        return {
            "channel": name,
            "kind": channel.kind,
            "delivered": failure is None,
            "seconds": round(time.monotonic() - began, 3),
            "error": None if failure is None else failure.message,
            "permanent": failure is not None and failure.permanent,
            "retry_after": None if failure is None else failure.retry_after,
        }

    def _message(self, name: str) -> Message:
        from uuid_utils import uuid7

        return Message(
            id=str(uuid7()),
            event=TEST,
            at=self._clock.now(),
            level="info",
            title=f"Pullcord: a test of the channel {name}",
            text="Somebody wanted to know whether messages arrive here. They do; there is nothing to be done.",
        )
