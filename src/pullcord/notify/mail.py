"""A message as a mail: plain text and simple HTML, threaded by flow. Whatever is in a message, no header can be added.

RFC 5322 (the format), RFC 3834 (Auto-Submitted), RFC 2047 (non-ASCII headers, written by the standard library).
"""

from __future__ import annotations

import html
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import sha256
from typing import Final

from pullcord.notify.channel import DeliveryError
from pullcord.notify.message import Message

LONGEST_SUBJECT: Final = 200
"""Characters of a subject."""

LONGEST_TEXT: Final = 100_000
"""Characters of a text; the rest is behind the link."""

_COLOURS: Final = {"info": "#3b82f6", "success": "#16a34a", "warning": "#d97706", "error": "#dc2626"}


def mail_of(message: Message, sender: str, to: tuple[str, ...], prefix: str) -> EmailMessage:
    """Return the mail for a message.

    Args:
        message: what is told.
        sender: the address that it is from, as `encoded` returns it.
        to: the addresses that it goes to, likewise.
        prefix: what the subject begins with.
    """
    mail = EmailMessage(policy=SMTP.clone(utf8=needs_utf8(sender, *to)))
    domain = sender.rpartition("@")[2]
    mail["Subject"] = _line(f"{prefix} {message.title}")[:LONGEST_SUBJECT]
    mail["From"] = _address(sender)
    mail["To"] = [_address(each) for each in to]
    mail["Date"] = format_datetime(datetime.fromtimestamp(message.at // 1_000_000, UTC))
    # The same at every try, so that a mail that comes twice can be recognised.
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    if message.flow is not None:
        # No mail has this id; mail programs put those that name it into one thread.
        thread = f"<flow-{sha256(message.flow.encode()).hexdigest()[:32]}@{domain}>"
        mail["References"] = thread
        mail["In-Reply-To"] = thread
    mail.set_content(_plain(message), cte="quoted-printable")
    mail.add_alternative(_html(message), subtype="html", cte="quoted-printable")
    return mail


def encoded(address: str) -> str:
    """Return a mail address with its domain in ASCII, so that only a non-ASCII mailbox needs SMTPUTF8.

    Raises:
        DeliveryError: the domain cannot be written so.
    """
    mailbox, _, domain = address.rpartition("@")
    try:
        return f"{mailbox}@{domain.encode('idna').decode()}"
    except UnicodeError:
        raise DeliveryError(f"the domain of {address} is none; correct the address", permanent=True) from None


def needs_utf8(*addresses: str) -> bool:
    """Say whether a mail server has to know SMTPUTF8 (RFC 6531) for these addresses, as `encoded` returns them."""
    return not all(map(str.isascii, addresses))


def _address(text: str) -> Address:
    mailbox, _, domain = text.rpartition("@")
    return Address(username=mailbox, domain=domain)


def _line(text: str) -> str:
    """Return a text on one line, without what does not print: a line end would begin another header."""
    return "".join(char for char in " ".join(text.split()) if char.isprintable())


def _body(message: Message) -> str:
    text = message.text.strip().encode("utf-8", "replace").decode()
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "\n…"


def _facts(message: Message) -> list[tuple[str, str]]:
    found = [("event", message.event)]
    if message.flow is not None:
        found.insert(0, ("flow", message.flow))
    if message.count > 1:
        found.append(("times", str(message.count)))
    return found


def _plain(message: Message) -> str:
    facts = "\n".join(f"{name}: {_line(value)}" for name, value in _facts(message))
    parts = [_line(message.title), _body(message), facts, *([message.link] if message.link else [])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _html(message: Message) -> str:
    facts = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(_line(value))}</td></tr>" for name, value in _facts(message)
    )
    link = ""
    if message.link is not None and message.link.startswith(("https://", "http://")):
        link = f'<p><a href="{html.escape(message.link)}">Open</a></p>\n'
    return (
        '<!doctype html>\n<html><body style="font-family: sans-serif">\n'
        f'<div style="border-left: 4px solid {_COLOURS[message.level]}; padding-left: 12px">\n'
        f"<h3>{html.escape(_line(message.title))}</h3>\n"
        f'<pre style="font-family: inherit; white-space: pre-wrap">{html.escape(_body(message))}</pre>\n'
        f'<table cellpadding="2">{facts}</table>\n{link}</div>\n</body></html>\n'
    )
