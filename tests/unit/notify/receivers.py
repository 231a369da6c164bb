"""Real receivers on this machine: web servers that misbehave as told, and a mail server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as MAIL
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

Reply = Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Request:
    """What came in."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Web:
    """A web server.

    Attributes:
        port: where it listens.
        requests: what came in.
        reply: what it does then.
        came: that a sender has connected.
        closed: that a sender has closed its connection.
        links: what serves the connections that are open.
    """

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    reply: Reply | None = None
    came: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    links: set[asyncio.Task[Any]] = field(default_factory=set)
    speaks_first: bool = False

    @property
    def at(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def left(self) -> None:
        """Wait until no sender that has come is there any more, also where one left before it said anything."""
        await asyncio.gather(*self.links)


def status(code: int, *headers: str, body: bytes = b"") -> Reply:
    """Answer like a good server."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {code} Said", f"content-length: {len(body)}", *headers]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    return reply


def raw(data: bytes) -> Reply:
    """Answer with anything and close."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return reply


async def hang(writer: asyncio.StreamWriter) -> None:
    """Say nothing."""
    await asyncio.Event().wait()


def trickle(first: bytes) -> Reply:
    """Begin to answer, and never come to an end."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    return reply


@asynccontextmanager
async def web(reply: Reply, tls: ssl.SSLContext | None = None, *, speaks_first: bool = False) -> AsyncIterator[Web]:
    """Listen for as long as the block lasts.

    Args:
        reply: what to do with each request.
        tls: the server's certificate; without one it speaks no TLS.
        speaks_first: reply before anything came, as mail servers do.
    """
    here = Web(reply=reply, speaks_first=speaks_first)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        here.links.add(task)
        gone = asyncio.create_task(_serve(here, reader, writer))
        try:
            await gone
        except (asyncio.CancelledError, ConnectionError):
            gone.cancel()
        finally:
            here.links.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    here.port = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()
        for task in list(here.links):
            task.cancel()
        await asyncio.gather(*here.links, return_exceptions=True)


async def _serve(here: Web, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    here.came.set()
    if not here.speaks_first and not await _hear(here, reader):
        return
    assert here.reply is not None
    answering = asyncio.ensure_future(here.reply(writer))
    closing = asyncio.ensure_future(reader.read())  # ends when the sender leaves
    await asyncio.wait([answering, closing], return_when=asyncio.FIRST_COMPLETED)
    if closing.done():
        here.closed.set()
    answering.cancel()
    closing.cancel()
    await asyncio.gather(answering, closing, return_exceptions=True)


async def _hear(here: Web, reader: asyncio.StreamReader) -> bool:
    """Read a request; say whether it was one."""
    try:
        if await reader.readexactly(5) != b"POST ":
            return False
        head = (b"POST " + await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except asyncio.IncompleteReadError:  # the sender has left
        return False
    here.requests.append(Request(head[0].split(" ")[1], headers, body))
    return True


class Postbox:
    """What a mail server does with mails: it keeps them, and refuses what it is told to.

    Attributes:
        mails: what came in.
        envelopes: sender and recipients of each.
        refused: replies to recipients, by address.
        replies: replies to other commands (`MAIL`, `DATA`), by name.
        logins: who logged in.
    """

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.envelopes: list[tuple[str, list[str]]] = []
        self.refused: dict[str, str] = {}
        self.replies: dict[str, str] = {}
        self.logins: list[tuple[str, bool]] = []

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if "MAIL" in self.replies:
            return self.replies["MAIL"]
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if "DATA" in self.replies:
            return self.replies["DATA"]
        content = envelope.content
        assert isinstance(content, bytes)
        mail = message_from_bytes(content, policy=MAIL)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.envelopes.append((envelope.mail_from or "", list(envelope.rcpt_tos)))
        return "250 OK"

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, kind: str, given: Any) -> AuthResult:
        """Let ada in, over TLS only."""
        assert isinstance(given, LoginPassword)
        over_tls = server.transport is not None and server.transport.get_extra_info("sslcontext") is not None
        self.logins.append((given.login.decode(), over_tls))
        return AuthResult(success=given == LoginPassword(b"ada", b"the password"), handled=False)


@asynccontextmanager
async def post_office(
    box: Postbox, tls: ssl.SSLContext | None = None, *, from_the_start: bool = False, login: bool = False,
    utf8: bool = True,
) -> AsyncIterator[int]:  # fmt: skip
    """Listen for mails; give the port.

    Args:
        box: where they go.
        tls: the server's certificate; without one it offers no TLS.
        from_the_start: TLS before anything is said, not after STARTTLS.
        login: whether senders have to log in.
        utf8: whether it takes non-ASCII addresses.
    """
    loop = asyncio.get_running_loop()

    def protocol() -> SMTP:
        return SMTP(
            box,
            hostname="mail.example",
            ident="test",
            enable_SMTPUTF8=utf8,
            tls_context=None if from_the_start else tls,
            require_starttls=tls is not None and not from_the_start,
            authenticator=box.authenticate if login else None,
            auth_required=login and not from_the_start,  # it does not see that TLS was there from the start
            auth_exclude_mechanism=[] if login else ["LOGIN", "PLAIN"],
            auth_require_tls=login and not from_the_start,
            loop=loop,
        )

    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls if from_the_start else None)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
