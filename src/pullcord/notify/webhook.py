"""Messages to programs: JSON over HTTP, signed the Standard Webhooks way.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final

from pydantic_core import to_json

from pullcord.clock import Clock, SystemClock, rfc3339
from pullcord.core.errors import SecretError
from pullcord.core.reference import REFERENCE
from pullcord.core.signatures import sign
from pullcord.notify.channel import DeliveryError
from pullcord.notify.http import post
from pullcord.notify.message import Message
from pullcord.notify.secrecy import revealed
from pullcord.notify.settings import WebhookOptions
from pullcord.notify.table import address_trouble
from pullcord.notify.tls import trusted

MOST_BODY: Final = 256 * 1024
"""No body is longer, in bytes; of a longer one `details` is left out."""


class WebhookChannel:
    """Sends to one address. See `Channel`.

    Args:
        name: the channel's name.
        options: where, and with which secrets.
        timeout: seconds for one message.
        clock: the time of signatures.
    """

    kind = "webhook"

    def __init__(self, name: str, options: WebhookOptions, timeout: float, clock: Clock | None = None) -> None:
        self.name = name
        self._options = options
        self._timeout = timeout
        self._clock = clock or SystemClock()
        self._trust: ssl.SSLContext | None = None

    async def send(self, message: Message) -> None:
        """Send a message; 2xx is delivered.

        Raises:
            DeliveryError: it was not taken; permanent where `Answer.check` says so.
        """
        url = self._options.url
        if REFERENCE.fullmatch(url):
            url = revealed(url)
            trouble = address_trouble(url)
            if trouble is not None:
                raise DeliveryError(f"what {self._options.url} holds {trouble}")
        body = body_of(message)
        headers = {name: header_value(reference) for name, reference in self._options.headers.items()}
        headers |= self._signed(message.id, body)
        if self._trust is None:
            self._trust = await asyncio.to_thread(trusted, self._options.ca_file)
        answer = await post(url, body, headers, timeout=self._timeout, trust=self._trust)
        answer.check()

    def _signed(self, identity: str, body: bytes) -> dict[str, str]:
        secrets = [revealed(reference) for reference in self._options.secrets]
        try:
            return sign(identity, body, secrets, self._clock.now() // 1_000_000)
        except SecretError as error:
            raise DeliveryError(f"{error.message} (it is in {' or '.join(self._options.secrets)})") from None


def header_value(reference: str) -> str:
    """Return the value of a header.

    Raises:
        DeliveryError: it is not there, or cannot be one.
    """
    value = revealed(reference).strip()
    if not value.isascii() or not value.isprintable():
        raise DeliveryError(f"the secret {reference} is no value of a header: one line of ASCII characters; correct it")
    return value


def body_of(message: Message) -> bytes:
    """Return a message as JSON: `type`, `timestamp` and `data`; of equal messages it is the same bytes."""
    data: dict[str, Any] = {
        "title": message.title,
        "text": message.text,
        "level": message.level,
        "flow": message.flow,
        "link": message.link,
        "count": message.count,
        "details": message.data,
    }
    body = {"type": message.event, "timestamp": rfc3339(message.at), "data": data}
    written = to_json(body)
    if len(written) <= MOST_BODY:
        return written
    data |= {"text": message.text[:8192], "title": message.title[:1024], "details": None}
    return to_json(body)
