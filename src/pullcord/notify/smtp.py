"""Messages by mail, through a mail server that the settings name."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, cast

import aiosmtplib
from aiosmtplib import SMTPException, SMTPResponseException

from pullcord.notify.channel import DeliveryError
from pullcord.notify.mail import encoded, mail_of, needs_utf8
from pullcord.notify.message import Message
from pullcord.notify.secrecy import revealed
from pullcord.notify.settings import SmtpOptions
from pullcord.notify.tls import certificate_trouble, trusted

REMEMBERED: Final = 1000
"""Mails that were taken for some of their recipients only, and whose others are tried again."""

_LONGEST_REASON: Final = 200

_Replies = dict[str, tuple[int, str]]
"""What a mail server said of addresses that it refused: code and words."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """What is left of a mail that was taken for some of its addresses only.

    Attributes:
        to: who gets the next try.
        lost: who was refused for good at an earlier one, and what the server said.
    """

    to: tuple[str, ...]
    lost: _Replies = field(default_factory=dict)


class SmtpChannel:
    """Sends to a list of addresses. See `Channel`.

    A server may take a mail for some of them and refuse others. That is an error, so that it is seen; where trying
    again makes sense, the mail goes only to those who have not got it. It has failed for good when all the others have
    it. This is kept in memory: after a restart they may get it a second time, with the same Message-ID.

    Args:
        name: the channel's name.
        options: the mail server and the addresses.
        timeout: seconds for one message.
    """

    kind = "smtp"

    def __init__(self, name: str, options: SmtpOptions, timeout: float) -> None:
        self.name = name
        self._options = options
        self._timeout = timeout
        self._trust: ssl.SSLContext | None = None
        self._left: OrderedDict[str, _Rest] = OrderedDict()

    async def send(self, message: Message) -> None:
        """Send a message; it is delivered when the server has taken it for all addresses.

        Raises:
            DeliveryError: it has not; permanent where the server says so with a 5xx.
        """
        sender = encoded(self._options.sender)
        to = tuple(encoded(each) for each in self._options.to)
        mail = mail_of(message, sender, to, self._options.prefix)
        rest = self._left.get(message.id, _Rest(to))
        options = ["SMTPUTF8", "BODY=8BITMIME"] if needs_utf8(sender, *to) else []
        async with self._server() as server:
            try:
                some, _ = await server.sendmail(sender, rest.to, mail.as_bytes(), mail_options=options)
                refused = {address: (reply.code, reply.message) for address, reply in some.items()}
            except aiosmtplib.SMTPRecipientsRefused as error:
                refused = {each.recipient: (each.code, each.message) for each in error.recipients}
        self._left.pop(message.id, None)
        if rest.lost or refused:
            raise self._in_part(message.id, rest.lost, refused, len(to))

    def _in_part(self, identity: str, lost: _Replies, refused: _Replies, of: int) -> DeliveryError:
        again = tuple(address for address, (code, _) in refused.items() if code < 500)
        every = lost | refused
        # Where nobody is left but those who were refused for good, another try is somebody's wish, and is theirs.
        gone = {address: reply for address, reply in every.items() if address not in again} if again else {}
        self._left[identity] = _Rest(again or tuple(every), gone)
        while len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        taken = of - len(every)
        what = f"took it for {taken} of {of} addresses, and refused" if taken else "refuses"
        return DeliveryError(f"the mail server {what} {_replies(every.items())}", permanent=not again)

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[aiosmtplib.SMTP]:
        """Give a connection that is logged in, and say what goes wrong with it in terms of deliveries."""
        options = self._options
        password = None if options.password is None else revealed(options.password)
        if self._trust is None:
            self._trust = await asyncio.to_thread(trusted, options.ca_file)
        server = aiosmtplib.SMTP(
            hostname=options.host, port=options.port, timeout=None, tls_context=self._trust,
            use_tls=options.security == "tls", start_tls=options.security == "starttls",
            local_hostname=_own_name(),
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._timeout):
                await server.connect()
                if options.username is not None and password is not None:
                    await _log_in(server, options, password)
                yield server
        except TimeoutError:
            raise DeliveryError(f"the mail server did not answer within {self._timeout:g} s") from None
        except (SMTPException, OSError, ValueError) as error:
            raise _refusal(error, options) from None
        finally:
            _leave(server)


async def _log_in(server: aiosmtplib.SMTP, options: SmtpOptions, password: str) -> None:
    try:
        await server.login(options.username or "", password)
    except SMTPResponseException as error:
        # What the server says is not repeated: it has just heard the password.
        if error.code < 400:
            raise DeliveryError("the mail server's answer to the login is no SMTP") from None
        raise DeliveryError(
            f"the mail server refuses the login of {options.username} ({error.code}); correct username and "
            f"{options.password}"
        ) from None
    except SMTPException as error:
        if isinstance(error, ConnectionError):
            raise
        raise DeliveryError(
            "the mail server takes no login, or none of a kind that is known here; leave username and password out, "
            "or use another port"
        ) from None


def _leave(server: aiosmtplib.SMTP) -> None:
    """Close at once: the mail is taken or it is not, and nobody waits for a goodbye."""
    transport = cast("asyncio.WriteTransport | None", server.transport)
    if transport is not None and not transport.is_closing():
        transport.abort()
    server.close()


def _own_name() -> str:
    """Return what this machine calls itself; the library would look up its name in the DNS, which may take long."""
    try:
        return socket.gethostname().encode("idna").decode() or "localhost"
    except UnicodeError:
        return "localhost"


def _refusal(error: Exception, options: SmtpOptions) -> DeliveryError:
    if isinstance(error, aiosmtplib.SMTPNotSupported):
        return DeliveryError(
            "the mail server takes no addresses with other than ASCII characters before the @ (SMTPUTF8); use others",
            permanent=True,
        )
    if isinstance(error, SMTPResponseException):
        if error.code < 400:
            return DeliveryError("the mail server's answer is no SMTP; correct host and port")
        said = f"the mail server answers {error.code}: {_reason(error.message)}"
        return DeliveryError(said, permanent=error.code >= 500)
    if isinstance(error, SMTPException) and "STARTTLS" in str(error.message).upper():
        return DeliveryError(
            f"the mail server offers no STARTTLS at port {options.port}, and nothing is sent in the clear; use "
            'security = "tls" with its port, usually 465'
        )
    return DeliveryError(certificate_trouble(error) or _unreachable(error, options))


def _unreachable(error: Exception, options: SmtpOptions) -> str:
    where = f"{options.host}:{options.port}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return f"the name {options.host} cannot be looked up; correct host, or look at the machine's DNS"
        if isinstance(cause, ConnectionRefusedError):
            return f"nothing listens at {where}; does the mail server run, and are host and port right?"
        if isinstance(cause, aiosmtplib.SMTPServerDisconnected):
            return f"the mail server at {where} closed the connection"
        cause = cause.__cause__ or cause.__context__
    return f"the mail server at {where} cannot be reached; correct host, port and security"


def _replies(refused: Iterable[tuple[str, tuple[int, str]]]) -> str:
    return "; ".join(f"{address} ({code}: {_reason(text)})" for address, (code, text) in refused)


def _reason(text: object) -> str:
    """Return what a server says, on one line and not too long."""
    line = " ".join(str(text).split())
    return "".join(char for char in line if char.isprintable())[:_LONGEST_REASON]
