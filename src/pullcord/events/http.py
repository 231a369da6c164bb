"""One GET over HTTP, with a deadline and a limit of size; what goes wrong is said in terms of polls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse
from typing import IO, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pullcord.clock import SystemClock
from pullcord.core.errors import DefinitionError
from pullcord.core.event import PollError
from pullcord.core.retry_after import retry_after

MOST_BODY: Final = 4_000_000
"""An answer that is read has no more bytes than this."""

_SCHEMES: Final = ("http", "https")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered.

    Attributes:
        status: HTTP status code.
        headers: by name, in any case.
        body: empty unless it was asked for.
    """

    status: int
    headers: Message
    body: bytes

    def check(self, name: str) -> None:
        """Accept 2xx only.

        Args:
            name: what was asked, for messages.

        Raises:
            PollError: another status; permanent for 401 and 403, with the wait that a Retry-After asks for.
        """
        if 200 <= self.status < 300:
            return
        if self.status in (401, 403):
            raise PollError(f"{name} refuses the credentials ({self.status})", permanent=True)
        wait = retry_after(self.headers.get("Retry-After"), SystemClock().now())
        raise PollError(f"{name} answers {self.status}", retry_after=wait)


def checked(url: str) -> str:
    """Return a web address that can be asked.

    Raises:
        DefinitionError: it is none, or has a password in it.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or any(not "!" <= char <= "~" for char in url):
        shown = "this" if "@" in url else repr(url)  # a password may come before the @
        raise DefinitionError(f"{shown} is no web address; write it like 'https://example.org/status'")
    if parts.username is not None:
        raise DefinitionError("a web address with a password in it would be stored and shown; put it into a header")
    return url


def named(url: str) -> str:
    """Return an address without its query, which may hold a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def get(url: str, timeout: float, headers: Mapping[str, str] | None = None, *, body: bool = False) -> Answer:
    """Ask once; redirects are followed.

    Args:
        url: the address.
        timeout: seconds in all for the body, and for each wait before it.
        headers: further ones; they are not passed on to another host.
        body: whether to read the body.

    Raises:
        PollError: there was no answer in time, or it is too large.
    """
    deadline = time.monotonic() + timeout
    request = Request(url, headers={"User-Agent": "pullcord", **(headers or {})})
    try:
        try:
            response = build_opener(_Redirects).open(request, timeout=timeout)
        except HTTPError as error:
            with error:
                return Answer(error.code, error.headers, b"")
        with response:
            return Answer(response.status, response.headers, _read(response, deadline, url) if body else b"")
    except URLError as error:
        raise PollError(f"{named(url)} cannot be reached: {error.reason}") from None
    except TimeoutError:
        raise PollError(f"{named(url)} did not answer within {timeout:g} s") from None
    except (OSError, HTTPException, ValueError) as error:
        raise PollError(f"{named(url)} cannot be read: {type(error).__name__}") from None


def _read(response: HTTPResponse, deadline: float, url: str) -> bytes:
    body = bytearray()
    while piece := response.read1(65_536):
        body += piece
        if len(body) > MOST_BODY:
            raise PollError(f"the answer of {named(url)} has more than {MOST_BODY} bytes", permanent=True)
        if time.monotonic() > deadline:
            raise TimeoutError
    if response.length:  # of what was announced there is something left
        raise HTTPException
    return bytes(body)


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to the web alone; credentials stay with the host that they were given for."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.scheme not in _SCHEMES:
            raise HTTPError(newurl, code, "a redirect out of the web", headers, fp)
        following = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if following is not None and (before.scheme, before.netloc) != (after.scheme, after.netloc):
            following.headers = {"User-agent": "pullcord"}
        return following
