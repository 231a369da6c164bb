"""Channels in the settings: read, checked with the names of channel and field, and shown without secrets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pullcord.core.errors import NotFoundError, UsageError
from pullcord.notify.channels import Channels
from pullcord.notify.settings import ChannelSettings, SmtpOptions, WebhookOptions, read_channels
from pullcord.settings import load_settings

HOOK: dict[str, Any] = {"kind": "webhook", "url": "https://example.org/in/T0KEN?key=T0KEN", "secret": "env:HOOK"}
MAIL: dict[str, Any] = {"kind": "smtp", "host": "mail.example.org", "from": "p@example.org", "to": "ada@example.org"}
LOGIN: dict[str, Any] = {"username": "p", "password": "file:/run/secrets/mail"}
SLACK: dict[str, Any] = {"kind": "slack", "url": "env:SLACK_URL"}


def one(values: dict[str, Any]) -> ChannelSettings:
    [settings] = read_channels({"ops": values}, Path("/etc/pullcord"))
    return settings


@pytest.mark.parametrize("table", ["[channels.ops-mail]", "[tool.pullcord.channels.ops-mail]"])
def test_channels_are_read_from_the_settings_file(table: str, tmp_path: Path) -> None:
    file = "pyproject.toml" if "tool" in table else "pullcord.toml"
    (tmp_path / file).write_text(
        f'{table}\nkind = "smtp"\nhost = "mail.example.org"\nfrom = "p@example.org"\nto = ["a@example.org"]\n'
        'timeout = "2s"\ngroup = "5m"\nper_hour = 60\n'
    )
    options = SmtpOptions(
        "mail.example.org", 587, "starttls", None, None, "p@example.org", ("a@example.org",), "[pullcord]"
    )
    assert load_settings({}, {}, tmp_path).channels == (ChannelSettings("ops-mail", "smtp", options, 2.0, 300.0, 60),)
    assert load_settings({}, {"PULLCORD_CHANNELS": "x"}, tmp_path / "..").channels == ()


def test_what_is_left_out() -> None:
    settings = one(HOOK)
    assert settings.options == WebhookOptions(HOOK["url"], ("env:HOOK",))
    assert (settings.timeout, settings.group, settings.per_hour) == (10.0, None, None)
    assert one(MAIL | {"security": "tls"}).options.shown()["port"] == 465
    assert one(MAIL | {"ca_file": "ca.pem"}).options.shown()["ca_file"] == "/etc/pullcord/ca.pem"
    assert one(HOOK | {"secret": ["env:NEW", "env:OLD"]}).options.shown()["secret"] == ["env:NEW", "env:OLD"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "kind must be one of webhook, smtp, slack, apprise"),
        ({"kind": "pager"}, "kind must be one of"),
        ({"kind": ["smtp"]}, "kind must be one of"),
        (HOOK | {"colour": 1, "size": 2}, "colour, size is unknown; known: .*url"),
        ({"kind": "webhook", "secret": "env:HOOK"}, "url is missing"),
        (HOOK | {"url": "example.org"}, "url is no web address"),
        (HOOK | {"url": "ftp://example.org"}, "url is no web address"),
        (HOOK | {"url": "https://exa mple.org"}, "url is no web address"),
        (HOOK | {"url": "https://ada:T0KEN@example.org"}, "url has a password in it"),
        (HOOK | {"url": 7}, "url must be one line of text"),
        ({"kind": "webhook", "url": "https://example.org"}, "secret is missing"),
        (HOOK | {"secret": "whsec_T0KEN"}, "secret says where the secret is"),
        (HOOK | {"secret": []}, "secret is missing"),
        (HOOK | {"secret": ["env:A", "env:B", "env:C"]}, "secret names more than 2"),
        (HOOK | {"headers": {"Authorization": "Bearer T0KEN"}}, r"headers\.Authorization says where"),
        (HOOK | {"headers": {"Authori zation": "env:A"}}, "is no header that can be set"),
        (HOOK | {"headers": {"Webhook-Id": "env:A"}}, "is no header that can be set"),
        (HOOK | {"headers": {"Host": "env:A"}}, "is no header that can be set"),
        (HOOK | {"headers": "env:A"}, "headers must be a table"),
        (HOOK | {"timeout": "soon"}, "timeout makes no sense"),
        (HOOK | {"timeout": 0}, r"timeout must be from 0\.1 to 300 seconds"),
        (HOOK | {"group": "8d"}, "group must be from 0 to 604800 seconds"),
        (HOOK | {"per_hour": 0}, "per_hour must be a whole number from 1"),
        (HOOK | {"per_hour": True}, "per_hour must be a whole number"),
        (MAIL | {"host": "mail.example.org:25"}, "host must be the name or address"),
        (MAIL | {"port": 0}, "port must be a whole number"),
        (MAIL | {"security": "ssl"}, "security must be one of starttls, tls, none"),
        (MAIL | {"username": "p"}, "username and password belong together"),
        (MAIL | {"password": "env:P"}, "username and password belong together"),
        (MAIL | {"username": "p", "password": "T0KEN"}, "password says where the secret is"),
        (MAIL | LOGIN | {"security": "none"}, "in the clear"),
        (MAIL | {"to": []}, "to is missing"),
        (MAIL | {"to": ["ada@example.org", 7]}, "to must be a text"),
        (MAIL | {"to": "Ada <ada@example.org>"}, "to must be a mail address"),
        (MAIL | {"to": "ada@example.org\r\nDATA"}, "to must be a text"),
        (MAIL | {"from": "ada"}, "from must be a mail address"),
        (MAIL | {"from": "a@b@c"}, "from must be a mail address"),
        (MAIL | {"subject_prefix": "a\nb"}, "subject_prefix must be one line of text"),
        (SLACK | {"url": "https://hooks.slack.com/services/T0KEN"}, "url says where the secret is"),
        (SLACK | {"secret": "env:A"}, "secret is unknown"),
        ({"kind": "apprise", "url": "json://T0KEN"}, "url says where the secret is"),
    ],
)
def test_what_makes_no_sense_is_named_and_not_shown(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"the channel 'ops': .*{words}") as raised:
        one(values)
    assert "T0KEN" not in str(raised.value)


@pytest.mark.parametrize("value", ["x", [], {"ops": "x"}, {"ops": [{}]}])
def test_channels_are_tables(value: Any) -> None:
    with pytest.raises(UsageError, match=r"\[channels\.NAME\]"):
        read_channels(value, Path())


@pytest.mark.parametrize("name", ["", "a b", "-a", "ä", "x" * 101, "a\n"])
def test_names_of_channels(name: str) -> None:
    with pytest.raises(UsageError, match="is no name of a channel"):
        read_channels({name: SLACK}, Path())


def test_a_login_without_tls_stays_on_this_machine() -> None:
    for host in ("localhost", "127.0.0.1", "::1"):
        assert one(MAIL | LOGIN | {"security": "none", "host": host}).options.shown()["host"] == host


def test_what_is_shown_has_no_secret() -> None:
    hook = one(HOOK | {"headers": {"Authorization": "env:AUTH"}}).as_json()
    assert hook == {
        "name": "ops", "kind": "webhook", "timeout": 10.0, "group": None, "per_hour": None,
        "options": {
            "url": "https://example.org/…", "secret": ["env:HOOK"], "headers": {"Authorization": "env:AUTH"},
            "ca_file": None,
        },
    }  # fmt: skip
    assert one(MAIL | LOGIN).as_json()["options"]["password"] == "file:/run/secrets/mail"
    assert one(SLACK).as_json()["options"] == {"url": "env:SLACK_URL"}
    assert "T0KEN" not in str(one(HOOK).as_json())


async def test_an_unknown_channel_is_told_with_the_known_ones() -> None:
    from pullcord.clock import SystemClock

    channels = Channels(read_channels({"b": SLACK, "a": HOOK}, Path()), SystemClock())
    assert [item["name"] for item in channels.listed()] == ["a", "b"]
    with pytest.raises(NotFoundError, match="no channel is called 'c'; there are: a, b"):
        await channels.test("c")
    with pytest.raises(NotFoundError, match="none so far"):
        await Channels((), SystemClock()).test("c")


def test_opening_imports_nothing_that_sends() -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from pullcord.notify.opening import open_channels\n"
        "from pullcord.notify.settings import read_channels\n"
        "tables = {kind: {'kind': kind, 'url': 'env:A'} for kind in ('slack', 'apprise')}\n"
        "tables['h'] = {'kind': 'webhook', 'url': 'env:A', 'secret': 'env:B'}\n"
        "tables['m'] = {'kind': 'smtp', 'host': 'h', 'from': 'a@b', 'to': 'c@d'}\n"
        "assert len(open_channels(read_channels(tables, Path()))) == 4\n"
        "heavy = {'httpx2', 'aiosmtplib', 'apprise', 'email', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
