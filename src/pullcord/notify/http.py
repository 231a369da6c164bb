"""One POST over HTTP, with a deadline; what comes of it is said without the address, which may be a secret."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from socket import gaierror
from typing import Final

import httpx2

from pullcord.clock import SystemClock
from pullcord.core.retry_after import retry_after
from pullcord.notify.channel import DeliveryError
from pullcord.notify.secrecy import unlogged
from pullcord.notify.tls import certificate_trouble

MOST_ANSWER: Final = 1024
"""Bytes of an answer that are read."""

_LOGGERS: Final = (
    "httpx2", "httpcore2.connection", "httpcore2.http11", "httpcore2.http2", "httpcore2.proxy", "httpcore2.socks",
)  # fmt: skip
_OF_THE_MESSAGE: Final = (400, 409, 410, 413, 415, 422)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered.

    Attributes:
        status: HTTP status code.
        wait: seconds that it asks to be left alone, or None.
        text: the beginning of the body; of a 2xx nothing.
    """

    status: int
    wait: float | None
    text: str = ""

    def check(self, why: str = "") -> None:
        """Accept 2xx only.

        Args:
            why: the receiver's reason, where it can be told.

        Raises:
            DeliveryError: another status. Permanent are those that say that this message will never be taken: 400, 409,
                413, 415 and 422; and 410, which asks for no more. A wrong address or credentials can be put right.
        """
        if 200 <= self.status < 300:
            return
        said = f"the receiver answers {self.status}{f' ({why})' if why else ''}"
        raise DeliveryError(
            said + _ADVICE.get(self.status, ""), permanent=self.status in _OF_THE_MESSAGE, retry_after=self.wait
        )


_MOVED: Final = "; redirects are not followed: put the new address into the settings"
_ADVICE: Final = {
    **dict.fromkeys((301, 302, 303, 307, 308), _MOVED),
    401: "; correct the credentials in the channel's headers or its secret",
    403: "; correct the credentials in the channel's headers or its secret",
    404: "; correct the channel's url",
    410: "; it wants no more messages: remove the channel, or correct its url",
    413: "; it takes no message of this size",
}


async def post(url: str, body: bytes, headers: Mapping[str, str], *, timeout: float, trust: ssl.SSLContext) -> Answer:
    """Send a body once; redirects are not followed.

    Args:
        url: the address.
        body: JSON.
        headers: further headers.
        timeout: seconds in all, from the name's look-up to the answer's end.
        trust: decides about certificates.

    Raises:
        DeliveryError: there is no answer.
    """
    answer: Answer | None = None
    content = {"content-type": "application/json", "user-agent": "pullcord", **headers}
    try:
        with unlogged(*_LOGGERS):
            async with (
                asyncio.timeout(timeout),
                httpx2.AsyncClient(verify=trust, timeout=None, follow_redirects=False) as client,
                client.stream("POST", url, content=body, headers=content) as response,
            ):
                wait = retry_after(response.headers.get("retry-after"), SystemClock().now())
                answer = Answer(response.status_code, wait)
                if response.is_success:  # then nobody asks what else it says
                    return answer
                return replace(answer, text=await _beginning(response))
    except TimeoutError:
        if answer is not None:
            return answer
        raise DeliveryError(f"the receiver did not answer within {timeout:g} s") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, ValueError) as error:
        raise DeliveryError(trouble(error)) from None


async def _beginning(response: httpx2.Response) -> str:
    """Return the first bytes; a body that breaks off takes nothing back of the status."""
    data = b""
    try:
        async for piece in response.aiter_raw():
            data += piece
            if len(data) >= MOST_ANSWER:
                break
    except httpx2.HTTPError:
        pass
    return data[:MOST_ANSWER].decode("utf-8", "replace")


def trouble(error: BaseException) -> str:
    """Return why a connection was not made or was lost, in words without names and addresses."""
    about = certificate_trouble(error)
    if about is not None:
        return about
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ConnectionRefusedError):
            return "the receiver refuses the connection; does it run, and listen at this port?"
        if isinstance(seen, gaierror):
            return "the receiver's name cannot be looked up; correct the address, or look at the machine's DNS"
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, httpx2.RemoteProtocolError):
        return "the receiver's answer is no HTTP, or it closed the connection before it answered"
    if isinstance(error, httpx2.ReadError | httpx2.WriteError):
        return "the receiver closed the connection before it answered"
    if isinstance(error, httpx2.ConnectError):
        return "the receiver cannot be reached; look at the address and the network between"
    return f"the message could not be sent: {type(error).__name__}"
