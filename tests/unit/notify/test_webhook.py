"""The webhook channel on real servers: signed, delivered, refused, hanging, talking nonsense."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import replace
from typing import Any

import pytest

from pullcord.core.errors import InvalidSignatureError
from pullcord.core.signatures import standard
from pullcord.notify.channel import DeliveryError
from pullcord.notify.message import Message
from pullcord.notify.settings import WebhookOptions
from pullcord.notify.webhook import MOST_BODY, WebhookChannel, body_of
from tests.unit.notify.conftest import OTHER, WHSEC, Certificate
from tests.unit.notify.receivers import Reply, hang, raw, status, trickle, web

SECRETS = ("env:HOOK_SECRET",)
SHORT = 0.2
"""Seconds; what hangs, hangs for longer."""


def channel(url: str, timeout: float = 60.0, **more: Any) -> WebhookChannel:
    return WebhookChannel("hook", WebhookOptions(url, **({"secrets": SECRETS} | more)), timeout)


async def refusal(reply: Reply, message: Message, timeout: float = 60.0) -> DeliveryError:
    """Return what a channel says of a receiver that answers so."""
    async with web(reply) as here:
        with pytest.raises(DeliveryError) as raised:
            await channel(f"http://{here.at}/very-secret-path", timeout).send(message)
    assert "very-secret-path" not in str(raised.value)
    assert here.at not in str(raised.value)
    return raised.value


async def test_a_message_is_signed_json(message: Message) -> None:
    async with web(status(200)) as here:
        await channel(f"http://{here.at}/hook?a=1").send(message)
    [request] = here.requests
    assert request.path == "/hook?a=1"
    assert request.headers["content-type"] == "application/json"
    assert standard(request.headers, request.body, [WHSEC], int(time.time())) == message.id
    assert json.loads(request.body) == {
        "type": "run.failed",
        "timestamp": "2026-10-14T17:46:40.123456Z",
        "data": {
            "title": "nightly failed",
            "text": message.text,
            "level": "error",
            "flow": "nightly",
            "link": "https://pullcord.example/runs/1",
            "count": 1,
            "details": {"run": {"id": "1", "state": "failed"}},
        },
    }


async def test_each_secret_signs_so_that_a_receiver_can_change_over(message: Message) -> None:
    async with web(status(204)) as here:
        await channel(f"http://{here.at}/", secrets=("env:HOOK_SECRET", "env:HOOK_SECRET_2")).send(message)
    [request] = here.requests
    for secret in (WHSEC, OTHER):
        assert standard(request.headers, request.body, [secret], int(time.time())) == message.id
    with pytest.raises(InvalidSignatureError):
        standard(request.headers, request.body, ["whsec_bm90IHRoaXMgb25l"], int(time.time()))


async def test_a_repeat_has_the_same_id_and_body(message: Message) -> None:
    async with web(status(500)) as here:
        sender = channel(f"http://{here.at}/")
        for _ in range(2):
            with pytest.raises(DeliveryError):
                await sender.send(message)
    first, second = here.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


async def test_headers_come_from_references(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "Bearer of good news")
    async with web(status(200)) as here:
        await channel(f"http://{here.at}/", headers={"Authorization": "env:TOKEN"}).send(message)
    assert here.requests[0].headers["authorization"] == "Bearer of good news"


@pytest.mark.parametrize("value", ["one\r\nx-other: two", "Grüße", "a\x00b"])
async def test_what_cannot_be_a_header_is_refused_and_not_shown(
    value: str, message: Message, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    path = tmp_path / "token"
    path.write_bytes(value.encode())
    async with web(status(200)) as here:
        with pytest.raises(DeliveryError, match="no value of a header") as raised:
            await channel(f"http://{here.at}/", headers={"X-Token": f"file:{path}"}).send(message)
    assert value not in str(raised.value)
    assert here.requests == []


async def test_the_address_may_be_a_secret(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web(status(200)) as here:
        monkeypatch.setenv("HOOK_URL", f"http://{here.at}/T0KEN")
        await channel("env:HOOK_URL").send(message)
    assert here.requests[0].path == "/T0KEN"
    monkeypatch.setenv("HOOK_URL", "https://ada:T0KEN@example.org/")
    with pytest.raises(DeliveryError, match="what env:HOOK_URL holds has a password in it") as raised:
        await channel("env:HOOK_URL").send(message)
    assert "T0KEN" not in str(raised.value)


async def test_a_missing_secret_is_no_reason_to_give_up(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK_SECRET")
    with pytest.raises(DeliveryError, match="env:HOOK_SECRET is empty or not there") as raised:
        await channel("http://127.0.0.1:9/").send(message)
    assert not raised.value.permanent
    monkeypatch.setenv("HOOK_SECRET", "no such secret!")
    with pytest.raises(DeliveryError, match="whsec_ and a key in base64") as raised:
        await channel("http://127.0.0.1:9/").send(message)
    assert "no such secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("code", "permanent"),
    [(400, True), (409, True), (410, True), (413, True), (415, True), (422, True), (301, False), (307, False),
     (401, False), (403, False), (404, False), (408, False), (425, False), (429, False), (500, False), (503, False)],
)  # fmt: skip
async def test_what_is_not_taken_is_told_by_its_status(code: int, permanent: bool, message: Message) -> None:
    error = await refusal(status(code, "location: http://127.0.0.1:1/elsewhere"), message)
    assert error.permanent is permanent
    assert str(code) in error.message
    assert "elsewhere" not in error.message


@pytest.mark.parametrize(("header", "wait"), [("retry-after: 120", 120.0), ("retry-after: soon", None), ("x: y", None)])
@pytest.mark.parametrize("code", [429, 503])
async def test_a_receiver_may_ask_to_be_left_alone(
    code: int, header: str, wait: float | None, message: Message
) -> None:
    assert (await refusal(status(code, header), message)).retry_after == wait


async def test_a_redirect_is_not_followed(message: Message) -> None:
    async with web(status(200)) as other:
        error = await refusal(status(308, f"location: http://{other.at}/"), message)
    assert "put the new address into the settings" in error.message
    assert other.requests == []


@pytest.mark.parametrize(
    "reply",
    [hang, trickle(b""), trickle(b"HTTP/1.1 200 OK\r\nx-endless: "), trickle(b"HTTP/1.1 200 OK\r\n")],
    ids=["hangs", "trickles", "trickles a header", "trickles headers"],
)
async def test_a_receiver_that_comes_to_no_end_is_left(reply: Reply, message: Message) -> None:
    async with web(reply) as here:
        with pytest.raises(DeliveryError, match=r"did not answer within 0\.2 s|is no HTTP") as raised:
            await channel(f"http://{here.at}/", SHORT).send(message)
        await here.left()
    assert not raised.value.permanent


async def test_a_receiver_that_took_it_may_take_its_time_with_the_rest(message: Message) -> None:
    async with web(trickle(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")) as here:
        await channel(f"http://{here.at}/").send(message)
        await here.closed.wait()


async def test_a_refusal_counts_although_its_reason_never_ends(message: Message) -> None:
    # Its status must have come by then, so this is not short.
    error = await refusal(trickle(b"HTTP/1.1 410 Gone\r\ncontent-length: 1000000\r\n\r\n"), message, 5.0)
    assert error.permanent


@pytest.mark.parametrize(
    "data", [b"", b"SSH-2.0-OpenSSH_9.9\r\n", b"\x00" * 3000, b"HTTP/1.1 200", b"HTTP/1.1 abc OK\r\n\r\n"]
)
async def test_nonsense_and_a_closed_connection_are_no_delivery(data: bytes, message: Message) -> None:
    error = await refusal(raw(data), message)
    assert not error.permanent
    assert "no HTTP" in error.message or "closed the connection" in error.message


async def test_nobody_listens(message: Message, closed_port: int) -> None:
    with pytest.raises(DeliveryError, match="refuses the connection") as raised:
        await channel(f"http://127.0.0.1:{closed_port}/").send(message)
    assert not raised.value.permanent


@pytest.mark.usefixtures("nameless")
async def test_a_name_that_does_not_exist(message: Message) -> None:
    with pytest.raises(DeliveryError, match=r"cannot be looked up|cannot be reached") as raised:
        await channel("http://nowhere.invalid/token").send(message)
    assert not raised.value.permanent


async def test_certificates_are_checked(message: Message, certificate: Certificate, elsewhere: Certificate) -> None:
    async with web(status(200), certificate.server) as here:
        with pytest.raises(DeliveryError, match=r"certificate is not valid \(self-signed certificate\)"):
            await channel(f"https://{here.at}/").send(message)
        assert here.requests == []
        await channel(f"https://{here.at}/", ca_file=certificate.path).send(message)
    assert len(here.requests) == 1
    async with web(status(200), elsewhere.server) as here:
        with pytest.raises(DeliveryError, match=r"certificate is not valid \(IP address mismatch\)"):
            await channel(f"https://{here.at}/", ca_file=elsewhere.path).send(message)
    assert here.requests == []


async def test_tls_where_there_is_none(message: Message) -> None:
    async with web(status(200)) as here:
        with pytest.raises(DeliveryError, match=r"no TLS connection|no HTTP|closed the connection"):
            await channel(f"https://{here.at}/").send(message)


async def test_certificates_that_are_not_there(message: Message, tmp_path: Any) -> None:
    with pytest.raises(DeliveryError, match="correct ca_file"):
        await channel("https://127.0.0.1:9/", ca_file=str(tmp_path / "no.pem")).send(message)


async def test_who_is_cancelled_leaves_nothing_open(message: Message) -> None:
    came = asyncio.Event()

    async def reply(writer: asyncio.StreamWriter) -> None:
        came.set()
        await hang(writer)

    async with web(reply) as here:
        sending = asyncio.create_task(channel(f"http://{here.at}/").send(message))
        await came.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await here.closed.wait()


@pytest.mark.parametrize("long", [{"data": {"x": "ü" * MOST_BODY}}, {"text": "ü" * MOST_BODY}], ids=["data", "text"])
def test_a_body_has_a_limit(long: dict[str, Any], message: Message) -> None:
    body = body_of(replace(message, **long))
    assert len(body) <= MOST_BODY
    assert json.loads(body)["data"]["details"] is None
    assert json.loads(body)["data"]["title"] == message.title


async def test_no_log_has_the_address(
    message: Message, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    async with web(status(200)) as here:
        monkeypatch.setenv("HOOK_URL", f"http://{here.at}/T0KEN")
        await channel("env:HOOK_URL").send(message)
    assert [record for record in caplog.records if not record.name.startswith("asyncio")] == []
    logging.getLogger("httpx2").info("others may log")
    assert "others may log" in caplog.text
