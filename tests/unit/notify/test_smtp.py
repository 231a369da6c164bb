"""Mail, through a real mail server: what arrives, over which connection, and what becomes of refusals."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import pytest

from pullcord.notify.channel import DeliveryError
from pullcord.notify.mail import mail_of
from pullcord.notify.message import Message
from pullcord.notify.settings import SmtpOptions
from pullcord.notify.smtp import SmtpChannel
from tests.unit.notify.conftest import Certificate
from tests.unit.notify.receivers import Postbox, Reply, hang, post_office, raw, status, trickle, web

OPEN: dict[str, Any] = {
    "host": "127.0.0.1", "security": "none", "username": None, "password": None, "sender": "pullcord@example.org",
    "to": ("ada@example.org", "bob@example.org"), "prefix": "[pullcord]",
}  # fmt: skip
LOGIN: dict[str, Any] = {"username": "ada", "password": "env:MAIL_PASSWORD"}


def channel(port: int, timeout: float = 60.0, **more: Any) -> SmtpChannel:
    return SmtpChannel("ops-mail", SmtpOptions(**(OPEN | {"port": port} | more)), timeout)


@pytest.fixture
def box() -> Postbox:
    return Postbox()


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "the password")


def texts(mail: EmailMessage) -> tuple[str, str]:
    """Return the plain text and the HTML."""
    plain, rich = mail.get_body(("plain",)), mail.get_body(("html",))
    assert isinstance(plain, EmailMessage)
    assert isinstance(rich, EmailMessage)
    return plain.get_content(), rich.get_content()


async def test_a_mail_arrives(box: Postbox, message: Message) -> None:
    async with post_office(box) as port:
        await channel(port).send(message)
    [mail] = box.mails
    assert box.envelopes == [("pullcord@example.org", ["ada@example.org", "bob@example.org"])]
    assert mail["subject"] == "[pullcord] nightly failed"
    assert mail["from"] == "pullcord@example.org"
    assert mail["to"] == "ada@example.org, bob@example.org"
    assert mail["date"].datetime.isoformat() == "2026-10-14T17:46:40+00:00"
    assert mail["message-id"] == f"<{message.id}@example.org>"
    assert mail["auto-submitted"] == "auto-generated"
    plain, rich = texts(mail)
    for text in (plain, rich):
        for part in ("nightly failed", "ValueError: no rows\n", "https://pullcord.example/runs/1"):
            assert part in text.replace("\r\n", "\n")
    assert mail.get_content_type() == "multipart/alternative"


async def test_mails_of_a_flow_are_one_thread(box: Postbox, message: Message) -> None:
    async with post_office(box) as port:
        for identity, flow in (("1", "nightly"), ("2", "nightly"), ("3", "other"), ("4", None)):
            await channel(port).send(replace(message, id=identity, flow=flow))
    threads = [str(mail["references"]) for mail in box.mails]
    assert threads[0] == threads[1] == str(box.mails[0]["in-reply-to"])
    assert len({*threads}) == 3
    assert box.mails[3]["references"] is None


async def test_a_message_adds_no_headers_and_no_markup(box: Postbox, message: Message) -> None:
    nasty = replace(
        message,
        title="lost\r\nBcc: eve@example.org\r\n\r\n<script>alert(1)</script>",
        text=".\r\n.\r\nMAIL FROM:<eve@example.org>\r\n<img src=x> &amp; \ud800",
        flow="a\r\nBcc: eve@example.org",
        link='javascript:alert("1")',
    )
    async with post_office(box) as port:
        await channel(port).send(nasty)
    [mail] = box.mails
    assert box.envelopes[0][1] == ["ada@example.org", "bob@example.org"]
    assert mail["bcc"] is None
    assert mail["subject"] == "[pullcord] lost Bcc: eve@example.org <script>alert(1)</script>"
    plain, rich = texts(mail)
    assert ".\n.\nMAIL FROM" in plain.replace("\r\n", "\n")
    assert "<script" not in rich
    assert "<img" not in rich
    assert "href" not in rich


async def test_other_alphabets(box: Postbox, message: Message) -> None:
    async with post_office(box) as port:
        title = "Überlauf " + "日" * 100
        await channel(port, to=("ada@bücher.example",)).send(replace(message, title=title, text="Größe: 1 €"))
        await channel(port, to=("jörg@bücher.example",)).send(replace(message, id="2"))
    first, second = box.mails
    assert first["subject"] == f"[pullcord] {title}"
    assert texts(first)[0].splitlines()[2] == "Größe: 1 €"
    assert box.envelopes[0][1] == ["ada@xn--bcher-kva.example"]
    assert box.envelopes[1][1] == ["jörg@xn--bcher-kva.example"]
    assert second["to"] == "jörg@xn--bcher-kva.example"


async def test_a_server_that_knows_no_other_alphabets(box: Postbox, message: Message) -> None:
    async with post_office(box, utf8=False) as port:
        with pytest.raises(DeliveryError, match="SMTPUTF8") as raised:
            await channel(port, to=("jörg@example.org",)).send(message)
        assert raised.value.permanent
        await channel(port, to=("ada@bücher.example",)).send(message)
    assert len(box.mails) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_login_over_tls(security: str, box: Postbox, message: Message, certificate: Certificate) -> None:
    how = {"security": security, "ca_file": certificate.path} | LOGIN
    async with post_office(box, certificate.server, from_the_start=security == "tls", login=True) as port:
        await channel(port, **how).send(message)
    assert box.logins == [("ada", True)]
    assert len(box.mails) == 1


async def test_a_wrong_password_is_not_permanent_and_not_shown(
    box: Postbox, message: Message, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "hunter2")
    how = {"security": "starttls", "ca_file": certificate.path} | LOGIN
    async with post_office(box, certificate.server, login=True) as port:
        with pytest.raises(DeliveryError, match=r"refuses the login of ada \(535\).*env:MAIL_PASSWORD") as raised:
            await channel(port, **how).send(message)
    assert "hunter2" not in str(raised.value)
    assert not raised.value.permanent
    assert box.mails == []


async def test_a_server_without_logins(box: Postbox, message: Message) -> None:
    async with post_office(box) as port:
        with pytest.raises(DeliveryError, match="takes no login"):
            await channel(port, **LOGIN).send(message)


async def test_nothing_is_sent_in_the_clear_where_tls_is_asked_for(box: Postbox, message: Message) -> None:
    async with post_office(box) as port:
        with pytest.raises(DeliveryError, match="offers no STARTTLS"):
            await channel(port, security="starttls").send(message)
    assert box.mails == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_certificates_are_checked(
    security: str, box: Postbox, message: Message, certificate: Certificate, elsewhere: Certificate
) -> None:
    for server, believed in ((certificate, None), (elsewhere, elsewhere.path)):
        async with post_office(box, server.server, from_the_start=security == "tls") as port:
            with pytest.raises(DeliveryError, match="certificate is not valid") as raised:
                await channel(port, security=security, ca_file=believed).send(message)
        assert not raised.value.permanent
    assert box.mails == []


@pytest.mark.parametrize(("reply", "permanent"), [("451 later", False), ("550 never", True), ("554 spam", True)])
@pytest.mark.parametrize("command", ["MAIL", "DATA"])
async def test_a_refusal_is_told_with_its_reason(
    command: str, reply: str, permanent: bool, box: Postbox, message: Message
) -> None:
    box.replies[command] = reply
    async with post_office(box) as port:
        with pytest.raises(DeliveryError, match=reply.replace(" ", ": ")) as raised:
            await channel(port).send(message)
    assert raised.value.permanent is permanent


@pytest.mark.parametrize(("reply", "permanent"), [("450 busy", False), ("550 nobody", True)])
async def test_nobody_is_taken(reply: str, permanent: bool, box: Postbox, message: Message) -> None:
    box.refused = {"ada@example.org": "550 nobody", "bob@example.org": reply}
    async with post_office(box) as port:
        with pytest.raises(DeliveryError, match=r"refuses ada@example\.org \(550: nobody\); bob") as raised:
            await channel(port).send(message)
    assert raised.value.permanent is permanent
    assert box.mails == []


async def test_who_was_refused_for_now_is_tried_again_alone(box: Postbox, message: Message) -> None:
    box.refused = {"bob@example.org": "450 greylisted"}
    async with post_office(box) as port:
        sender = channel(port)
        with pytest.raises(
            DeliveryError, match=r"took it for 1 of 2 .* bob@example\.org \(450: greylisted\)"
        ) as raised:
            await sender.send(message)
        assert not raised.value.permanent
        box.refused = {}
        await sender.send(message)
        await sender.send(replace(message, id="another"))
    assert [to for _, to in box.envelopes] == [
        ["ada@example.org"], ["bob@example.org"], ["ada@example.org", "bob@example.org"],
    ]  # fmt: skip
    assert box.mails[0]["message-id"] == box.mails[1]["message-id"]


async def test_who_was_refused_for_good_is_told_and_not_tried_again(box: Postbox, message: Message) -> None:
    box.refused = {"bob@example.org": "550 nobody"}
    async with post_office(box) as port:
        with pytest.raises(DeliveryError, match="took it for 1 of 2") as raised:
            await channel(port).send(message)
    assert raised.value.permanent
    assert len(box.mails) == 1


async def test_who_was_refused_for_good_is_told_after_all_others_have_got_it(box: Postbox, message: Message) -> None:
    to = ("ada@example.org", "bob@example.org", "eve@example.org")
    box.refused = {"ada@example.org": "550 nobody", "bob@example.org": "451 later"}
    async with post_office(box) as port:
        sender = channel(port, to=to)
        for _ in range(2):
            with pytest.raises(
                DeliveryError, match=r"took it for 1 of 3 .* ada@example\.org \(550: nobody\); bob@example\.org \(451"
            ) as raised:
                await sender.send(message)
            assert not raised.value.permanent
        box.refused = {}
        with pytest.raises(DeliveryError, match=r"took it for 2 of 3 .* ada@example\.org \(550: nobody\)$") as raised:
            await sender.send(message)
        assert raised.value.permanent
        await sender.send(message)
    assert [to for _, to in box.envelopes] == [["eve@example.org"], ["bob@example.org"], ["ada@example.org"]]


async def test_who_is_refused_for_good_in_the_end_is_told_with_who_was_before(box: Postbox, message: Message) -> None:
    box.refused = {"ada@example.org": "550 nobody", "bob@example.org": "451 later"}
    async with post_office(box) as port:
        sender = channel(port)
        with pytest.raises(DeliveryError, match="refuses ada") as raised:
            await sender.send(message)
        assert not raised.value.permanent
        box.refused = {"bob@example.org": "552 full"}
        with pytest.raises(DeliveryError, match=r"refuses ada\S+ \(550: nobody\); bob\S+ \(552: full\)$") as raised:
            await sender.send(message)
        assert raised.value.permanent
    assert box.mails == []


SILENT = [
    (hang, 0.3, "did not answer"),
    (trickle(b"220-"), 0.3, "did not answer|no SMTP"),
    (raw(b""), 60.0, "closed the connection"),
    (raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"), 60.0, "no SMTP"),
    (raw(b"554 go away\r\n"), 60.0, "554"),
    (status(200), 60.0, "no SMTP"),
]


@pytest.mark.parametrize(("reply", "timeout", "words"), SILENT)
async def test_what_is_no_mail_server(reply: Reply, timeout: float, words: str, message: Message) -> None:
    async with web(reply, speaks_first=True) as here:
        with pytest.raises(DeliveryError, match=words):
            await channel(here.port, timeout).send(message)


async def test_nobody_listens(message: Message, closed_port: int) -> None:
    with pytest.raises(DeliveryError, match=f"nothing listens at 127.0.0.1:{closed_port}") as raised:
        await channel(closed_port).send(message)
    assert not raised.value.permanent


@pytest.mark.usefixtures("nameless")
async def test_a_name_that_does_not_exist(message: Message) -> None:
    with pytest.raises(DeliveryError, match=r"nowhere\.invalid"):
        await channel(25, host="nowhere.invalid").send(message)


async def test_who_is_cancelled_leaves_nothing_open(message: Message) -> None:
    async with web(hang, speaks_first=True) as here:
        sending = asyncio.create_task(channel(here.port).send(message))
        await here.came.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await here.closed.wait()


def test_the_same_message_is_the_same_mail(message: Message) -> None:
    first, second = (mail_of(message, "a@example.org", ("b@example.org",), "[p]") for _ in range(2))
    assert {name: first[name] for name in first if name != "Content-Type"} == {
        name: second[name] for name in second if name != "Content-Type"
    }
