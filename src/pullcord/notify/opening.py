"""From settings to channels. What a channel needs is imported with its first message: a server's start pays nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from traceback import format_tb
from typing import TYPE_CHECKING

from pullcord.notify.channel import Channel, DeliveryError
from pullcord.notify.message import Message
from pullcord.notify.settings import SecretUrlOptions, SmtpOptions, WebhookOptions

if TYPE_CHECKING:
    from pullcord.notify.settings import ChannelSettings

log = logging.getLogger(__name__)


def open_channels(settings: Iterable[ChannelSettings]) -> dict[str, Channel]:
    """Return the channels by name. Nothing is imported, looked up or connected before a message is sent."""
    return {each.name: _Unopened(each) for each in settings}


class _Unopened:
    """A channel that is made when it is first needed."""

    def __init__(self, settings: ChannelSettings) -> None:
        self.name = settings.name
        self.kind = settings.kind
        self._settings = settings
        self._channel: Channel | None = None

    async def send(self, message: Message) -> None:
        """Send a message; see `Channel.send`. What nobody foresaw is a DeliveryError too.

        Raises:
            DeliveryError: it was not taken.
        """
        try:
            if self._channel is None:
                # In a thread, for libraries take a tenth of a second to import, and the server has callers meanwhile.
                made = await asyncio.to_thread(_made, self._settings)
                self._channel = self._channel or made
            await self._channel.send(message)
        except DeliveryError:
            raise
        except Exception as error:
            # Where it happened and not what it says: that may have an address or a password in it.
            where = "".join(format_tb(error.__traceback__))
            log.error("the channel %s failed with %s\n%s", self.name, type(error).__name__, where)
            raise DeliveryError(
                f"the channel failed with {type(error).__name__}, which is a fault in Pullcord; its log says where"
            ) from None


def _made(settings: ChannelSettings) -> Channel:
    name, options, timeout = settings.name, settings.options, settings.timeout
    if isinstance(options, WebhookOptions):
        from pullcord.notify.webhook import WebhookChannel

        return WebhookChannel(name, options, timeout)
    if isinstance(options, SmtpOptions):
        from pullcord.notify.smtp import SmtpChannel

        return SmtpChannel(name, options, timeout)
    assert isinstance(options, SecretUrlOptions)
    if settings.kind == "slack":
        from pullcord.notify.slack import SlackChannel

        return SlackChannel(name, options, timeout)
    from pullcord.notify.apprise import AppriseChannel

    return AppriseChannel(name, options, timeout)
