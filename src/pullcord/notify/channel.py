"""The port of channels: where messages leave the server."""

from __future__ import annotations

from typing import Protocol

from pullcord.core.errors import PullcordError
from pullcord.notify.message import Message


class DeliveryError(PullcordError):
    """A message was not taken.

    Attributes:
        permanent: trying again changes nothing, for example because the address does not exist.
        retry_after: seconds that the receiver asks to wait, or None.
    """

    code = "delivery_failed"

    def __init__(self, message: str, *, permanent: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message, permanent=permanent, retry_after=retry_after)
        self.permanent = permanent
        self.retry_after = retry_after


class Channel(Protocol):
    """One way out, made from a named channel of the settings.

    Attributes:
        name: the name in the settings.
        kind: `webhook`, `smtp`, `slack` or `apprise`.
    """

    name: str
    kind: str

    async def send(self, message: Message) -> None:
        """Send a message; it counts as delivered when this returns.

        Has a deadline of its own, and leaves nothing open when it is cancelled.

        Raises:
            DeliveryError: it was not taken.
        """
