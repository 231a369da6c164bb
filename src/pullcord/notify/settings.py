"""Named channels as the settings file describes them: read, checked, and shown without secrets.

A secret is named here as `env:NAME` or `file:/path`; what that stands for is looked up when a message is sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pullcord.core.errors import UsageError
from pullcord.core.reference import REFERENCE
from pullcord.notify.table import Table, origin

TIMEOUT: Final = 10.0
"""Seconds that sending a message may take unless a channel says otherwise."""

LONGEST_TIMEOUT: Final = 300.0
"""Seconds that it may take at most."""

SECURITY: Final = ("starttls", "tls", "none")
"""How a mail server's connection is made safe."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_RESERVED: Final = {"host", "content-length", "content-type", "transfer-encoding", "connection", "user-agent"}
_HOST: Final = re.compile(r"[^\s/@:\[\]]{1,253}|\[?[0-9A-Fa-f:.]{2,45}\]?")
_ADDRESS: Final = re.compile(r"[^\s@<>()\[\],;:\\\"]{1,64}@[^\s@<>()\[\],;:\\\"]{1,253}")
_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """A channel of kind `webhook`.

    Attributes:
        url: where messages are sent; a web address, or where it is found when it is a secret itself.
        secrets: where the signing secrets are (`whsec_…`); each of them signs.
        headers: further headers, by name, and where their values are.
        ca_file: certificates that are believed instead of the system's.
    """

    url: str
    secrets: tuple[str, ...]
    headers: Mapping[str, str] = field(default_factory=dict)
    ca_file: str | None = None

    def shown(self) -> dict[str, Any]:
        """Return what may be shown."""
        return {
            "url": self.url if REFERENCE.fullmatch(self.url) else origin(self.url) + "/…",
            "secret": list(self.secrets),
            "headers": dict(self.headers),
            "ca_file": self.ca_file,
        }


@dataclass(frozen=True, slots=True)
class SmtpOptions:
    """A channel of kind `smtp`.

    Attributes:
        host: the mail server.
        port: 587 for `starttls`, 465 for `tls`, 25 for `none` unless given.
        security: `starttls`, `tls` or `none`. There is no way from the first to the last: a server that offers no TLS
            gets no mail.
        username: who logs in; nobody unless given.
        password: where the password is.
        sender: the address that mails are from, as `from` in the file.
        to: the addresses that they go to.
        prefix: what subjects begin with, as `subject_prefix` in the file.
        ca_file: certificates that are believed instead of the system's.
    """

    host: str
    port: int
    security: str
    username: str | None
    password: str | None
    sender: str
    to: tuple[str, ...]
    prefix: str
    ca_file: str | None = None

    def shown(self) -> dict[str, Any]:
        """Return what may be shown."""
        return {
            "host": self.host,
            "port": self.port,
            "security": self.security,
            "username": self.username,
            "password": self.password,
            "from": self.sender,
            "to": list(self.to),
            "subject_prefix": self.prefix,
            "ca_file": self.ca_file,
        }


@dataclass(frozen=True, slots=True)
class SecretUrlOptions:
    """A channel of kind `slack` or `apprise`, whose address is the secret.

    Attributes:
        url: where the address is.
    """

    url: str

    def shown(self) -> dict[str, Any]:
        """Return what may be shown."""
        return {"url": self.url}


Options = WebhookOptions | SmtpOptions | SecretUrlOptions


@dataclass(frozen=True, slots=True)
class ChannelSettings:
    """One named channel.

    Attributes:
        name: what flows and commands call it.
        kind: `webhook`, `smtp`, `slack` or `apprise`.
        options: what its kind needs.
        timeout: seconds that sending one message may take.
        group: seconds in which equal news are gathered into one message; None, the usual 5 minutes, where the file says
            nothing.
        per_hour: so many messages an hour at most; None, the usual 30, where the file says nothing.
    """

    name: str
    kind: str
    options: Options
    timeout: float = TIMEOUT
    group: float | None = None
    per_hour: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what may be shown, without secrets."""
        return {
            "name": self.name,
            "kind": self.kind,
            "timeout": self.timeout,
            "group": self.group,
            "per_hour": self.per_hour,
            "options": self.options.shown(),
        }


def read_channels(value: Any, home: Path) -> tuple[ChannelSettings, ...]:
    """Make channels of what the settings file says under `channels`.

    Args:
        value: the tables by name.
        home: the file's folder, where paths begin.

    Raises:
        UsageError: something in it makes no sense; it names the channel and the field.
    """
    if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
        raise UsageError("channels must be tables, each under a line [channels.NAME] ([tool.pullcord.channels.NAME])")
    return tuple(_read_channel(name, item, home) for name, item in value.items())


def _read_channel(name: str, values: Mapping[str, Any], home: Path) -> ChannelSettings:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name of a channel: 1 to 100 letters, digits, dots, dashes and underscores, beginning with "
            "a letter or digit"
        )
    table = Table(name, values, home)
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise table.wrong("kind", f"must be one of {', '.join(_KINDS)}")
    table.has("kind")
    settings = ChannelSettings(
        name=name,
        kind=kind,
        options=_KINDS[kind](table),
        timeout=table.duration("timeout", 0.1, LONGEST_TIMEOUT, TIMEOUT) or TIMEOUT,
        group=table.duration("group", 0, 7 * 86_400, None),
        per_hour=table.whole("per_hour", 1, 100_000, None),
    )
    table.finish()
    return settings


def _webhook(table: Table) -> WebhookOptions:
    headers = table.referenced("headers")
    for name in headers:
        if not _HEADER.fullmatch(name) or name.lower() in _RESERVED or name.lower().startswith("webhook-"):
            raise table.wrong(f"headers.{name}", "is no header that can be set here")
    return WebhookOptions(
        url=table.url("url"),
        secrets=table.references("secret", most=2),
        headers=headers,
        ca_file=table.path("ca_file"),
    )


def _smtp(table: Table) -> SmtpOptions:
    host = table.text("host")
    if not _HOST.fullmatch(host):
        raise table.wrong("host", "must be the name or address of a mail server, without a port")
    security = table.one_of("security", SECURITY, "starttls")
    username = table.text("username", "") or None
    password = table.reference("password") if table.has("password") else None
    if (username is None) != (password is None):
        raise table.wrong("username", "and password belong together: give both or neither")
    if password is not None and security == "none" and not is_loopback(host):
        raise table.wrong("security", '= "none" would send the password to the network in the clear')
    sender, to = table.text("from"), table.texts("to")
    for where, address in (("from", sender), *(("to", address) for address in to)):
        if not _ADDRESS.fullmatch(address):
            raise table.wrong(where, "must be a mail address such as ops@example.org, and nothing else")
    return SmtpOptions(
        host=host.strip("[]"),
        port=table.whole("port", 1, 65535, None) or _PORTS[security],
        security=security,
        username=username,
        password=password,
        sender=sender,
        to=tuple(dict.fromkeys(to)),
        prefix=table.text("subject_prefix", "[pullcord]"),
        ca_file=table.path("ca_file"),
    )


def _secret_url(table: Table) -> SecretUrlOptions:
    return SecretUrlOptions(table.reference("url"))


_KINDS: Final[Mapping[str, Callable[[Table], Options]]] = {
    "webhook": _webhook,
    "smtp": _smtp,
    "slack": _secret_url,
    "apprise": _secret_url,
}


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine itself."""
    from ipaddress import ip_address

    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
