"""Services through Apprise, with its own JSON service on a real server."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from collections.abc import Iterator

import pytest

from pullcord.notify.apprise import MOST_BUSY, AppriseChannel
from pullcord.notify.channel import DeliveryError
from pullcord.notify.message import Message
from pullcord.notify.settings import SecretUrlOptions
from tests.unit.notify.receivers import hang, status, web

# One of Apprise's services imports it, where Python still has it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever happens, no log has the address."""
    caplog.set_level(logging.DEBUG)
    yield
    assert "T0KEN" not in caplog.text


def channel(timeout: float = 60.0) -> AppriseChannel:
    return AppriseChannel("phones", SecretUrlOptions("env:SERVICE"), timeout)


async def test_a_message_arrives(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web(status(200)) as here:
        monkeypatch.setenv("SERVICE", f"json://ada:T0KEN@{here.at}/path")
        await channel().send(message)
    [request] = here.requests
    sent = json.loads(request.body)
    assert sent["title"] == "nightly failed"
    assert sent["message"] == f"{message.text}\n\n{message.link}"
    assert sent["type"] == "failure"


@pytest.mark.parametrize(("code", "words"), [(500, r"did not take it \(500\)"), (307, "did not take it")])
async def test_a_service_refuses(code: int, words: str, message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web(status(200)) as other, web(status(code, f"location: http://{other.at}/T0KEN")) as here:
        monkeypatch.setenv("SERVICE", f"json://ada:T0KEN@{here.at}/T0KEN")
        with pytest.raises(DeliveryError, match=words) as raised:
            await channel().send(message)
    assert "T0KEN" not in str(raised.value)
    assert other.requests == []


async def test_nobody_listens(message: Message, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE", f"json://127.0.0.1:{closed_port}/T0KEN")
    with pytest.raises(DeliveryError, match="did not take it") as raised:
        await channel().send(message)
    assert not raised.value.permanent


@pytest.mark.parametrize("url", ["T0KEN", "nosuch://T0KEN", "json://127.0.0.1/T0KEN,json://127.0.0.2/T0KEN"])
async def test_an_address_that_is_none_or_several(url: str, message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE", url)
    with pytest.raises(DeliveryError, match="what env:SERVICE holds is not one address") as raised:
        await channel().send(message)
    assert "T0KEN" not in str(raised.value)


async def test_a_service_that_hangs_is_left_and_holds_few_threads(
    message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = asyncio.Event()

    async def reply(writer: asyncio.StreamWriter) -> None:
        await answer.wait()
        await status(200)(writer)

    async with web(reply) as here:
        monkeypatch.setenv("SERVICE", f"json://{here.at}/T0KEN?rto=60")
        hanging = channel(0.2)
        for _ in range(MOST_BUSY):
            with pytest.raises(DeliveryError, match=r"did not take it within 0\.2 s"):
                await hanging.send(message)
        with pytest.raises(DeliveryError, match="still on their way"):
            await hanging.send(message)
        answer.set()
        patient = channel()
        await patient.send(message)


async def test_without_the_extra(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    monkeypatch.setenv("SERVICE", "json://127.0.0.1/T0KEN")
    with pytest.raises(DeliveryError, match=r'pip install "pullcord\[notify\]"'):
        await channel().send(message)


def test_a_loop_that_has_ended_is_not_missed(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    async def begin() -> None:
        async with web(hang) as here:
            monkeypatch.setenv("SERVICE", f"json://{here.at}/T0KEN?rto=60")
            sending = asyncio.create_task(channel().send(message))
            await here.came.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending

    asyncio.run(begin())
    for thread in threading.enumerate():
        if thread.name == "notify phones":
            thread.join()
