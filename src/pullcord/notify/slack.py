"""Messages to a Slack channel, by an incoming webhook, whose address is the secret.

- "Sending messages using incoming webhooks", "Formatting text for app surfaces" and "Blocks" in Slack's documentation
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic_core import to_json

from pullcord.clock import rfc3339
from pullcord.notify.channel import DeliveryError
from pullcord.notify.http import post
from pullcord.notify.message import Message
from pullcord.notify.secrecy import revealed
from pullcord.notify.settings import SecretUrlOptions, is_loopback
from pullcord.notify.table import address_trouble
from pullcord.notify.tls import trusted

LONGEST_SECTION: Final = 3000
"""Characters of a section's text; Slack takes no more."""

MOST_SECTIONS: Final = 4
"""Sections of a message's text, of the 50 blocks that Slack takes; the rest is behind the link."""

LONGEST_TITLE: Final = 300
"""Characters of the title."""

_COLOURS: Final = {"info": "#3b82f6", "success": "#16a34a", "warning": "#d97706", "error": "#dc2626"}
_REASON: Final = re.compile(r"[a-z][a-z_]{0,59}")
_LONGEST_FIELD: Final = 200


class SlackChannel:
    """Sends to one incoming webhook. See `Channel`.

    Args:
        name: the channel's name.
        options: where the address is.
        timeout: seconds for one message.
    """

    kind = "slack"

    def __init__(self, name: str, options: SecretUrlOptions, timeout: float) -> None:
        self.name = name
        self._reference = options.url
        self._timeout = timeout
        self._trust: ssl.SSLContext | None = None

    async def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            DeliveryError: Slack did not take it; permanent where `Answer.check` says so.
        """
        url = revealed(self._reference).strip()
        trouble = address_trouble(url)
        if trouble is None and not url.startswith("https:") and not is_loopback(urlsplit(url).hostname or ""):
            trouble = "is no https:// address, and a secret must not travel in the clear"
        if trouble is not None:
            raise DeliveryError(f"what {self._reference} holds {trouble}; copy the webhook URL from Slack")
        if self._trust is None:
            self._trust = await asyncio.to_thread(trusted, None)
        answer = await post(url, to_json(payload(message)), {}, timeout=self._timeout, trust=self._trust)
        # Slack's reasons are single words, such as `no_service`; nothing else that comes back is repeated.
        reason = answer.text.strip()
        answer.check(reason if _REASON.fullmatch(reason) else "")


def payload(message: Message) -> dict[str, Any]:
    """Return a message as Slack takes it: the title, and beside a bar in the level's colour text, fields and link."""
    title = escaped(_line(message.title), LONGEST_TITLE)
    blocks = [_section(part) for part in sections(message.text)]
    blocks.append({"type": "section", "fields": [_mrkdwn(f"*{name}*\n{value}") for name, value in _fields(message)]})
    if message.link is not None:
        blocks.append(_section(f"<{escaped(message.link, 2000)}|Open>"))
    return {
        "text": title,  # what notifications show, and programs that draw no blocks
        "blocks": [_section(f"*{title}*")],
        "attachments": [{"color": _COLOURS[message.level], "fallback": title, "blocks": blocks}],
    }


def sections(text: str) -> list[str]:
    """Return a text in escaped pieces that are short enough, broken at ends of lines where there are any."""
    pieces: list[str] = []
    rest = text.strip()
    while rest and len(pieces) < MOST_SECTIONS:
        fits = _fitting(rest, LONGEST_SECTION)
        if fits < len(rest):
            line = rest.rfind("\n", 0, fits)
            fits = line if line > fits // 2 else fits
        pieces.append(_escaped(rest[:fits]))
        rest = rest[fits:].lstrip("\n")
    if rest:
        pieces[-1] = escaped(text_before(pieces[-1]), LONGEST_SECTION - 1, more=True)
    return pieces


def escaped(text: str, most: int, *, more: bool = False) -> str:
    """Return a text with `&`, `<` and `>` escaped, so that nothing in it is a link or calls anybody.

    Args:
        text: plain text.
        most: characters of the result.
        more: whether there is more than this, which the result says.
    """
    fits = _fitting(text, most)
    if fits == len(text) and not more:
        return _escaped(text)
    return _escaped(text[: _fitting(text, most - 1)]) + "…"


def text_before(text: str) -> str:
    """Return a text as it was before it was escaped."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _fitting(text: str, most: int) -> int:
    """Return how many characters of a text fit once they are escaped."""
    size = 0
    for index, char in enumerate(text):
        size += len(_escaped(char))
        if size > most:
            return index
    return len(text)


def _fields(message: Message) -> list[tuple[str, str]]:
    found = [("Event", message.event), ("At", rfc3339(message.at) or "")]
    if message.flow is not None:
        found.insert(0, ("Flow", message.flow))
    if message.count > 1:
        found.append(("Times", str(message.count)))
    return [(name, escaped(_line(value), _LONGEST_FIELD)) for name, value in found]


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _line(text: str) -> str:
    return " ".join(text.split())
