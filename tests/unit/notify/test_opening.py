"""What every channel promises, whatever is wrong with it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pullcord.notify.channel import DeliveryError
from pullcord.notify.message import Message
from pullcord.notify.opening import open_channels
from pullcord.notify.settings import read_channels
from tests.unit.notify.receivers import Postbox, post_office, status, web

# One of Apprise's services imports it, where Python still has it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def tables(port: int) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}/"
    kinds: dict[str, dict[str, Any]] = {
        "hook": {"kind": "webhook", "url": url, "secret": "env:HOOK_SECRET"},
        "team": {"kind": "slack", "url": "env:SLACK_URL"},
        "phones": {"kind": "apprise", "url": "env:SERVICE"},
        "ops": {
            "kind": "smtp", "host": "127.0.0.1", "port": port, "security": "none", "from": "p@example.org",
            "to": "ada@example.org",
        },
    }  # fmt: skip
    return {name: values | {"timeout": 60} for name, values in kinds.items()}  # Apprise's import alone takes seconds


@pytest.fixture(autouse=True)
def references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_URL", "http://127.0.0.1:0/")
    monkeypatch.setenv("SERVICE", "json://127.0.0.1:0/")


async def test_each_kind_sends_many_at_once(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Postbox()
    async with web(status(200)) as here, post_office(box) as port:
        monkeypatch.setenv("SLACK_URL", f"http://{here.at}/")
        monkeypatch.setenv("SERVICE", f"json://{here.at}/")
        values = tables(here.port)
        values["ops"]["port"] = port
        channels = open_channels(read_channels(values, Path()))
        assert {name: (each.name, each.kind) for name, each in channels.items()} == {
            name: (name, values[name]["kind"]) for name in values
        }
        messages = [replace(message, id=str(number)) for number in range(3)]
        await asyncio.gather(*(each.send(one) for each in channels.values() for one in messages))
    assert len(here.requests) == 9
    assert sorted(mail["message-id"] for mail in box.mails) == [f"<{number}@example.org>" for number in range(3)]


@pytest.mark.parametrize("name", ["hook", "team", "phones", "ops"])
async def test_nobody_listens(name: str, message: Message, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_URL", f"http://127.0.0.1:{closed_port}/")
    monkeypatch.setenv("SERVICE", f"json://127.0.0.1:{closed_port}/")
    channel = open_channels(read_channels(tables(closed_port), Path()))[name]
    with pytest.raises(DeliveryError) as raised:
        await channel.send(message)
    assert not raised.value.permanent


async def test_a_fault_is_an_error_without_its_words(
    message: Message, closed_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    channel = open_channels(read_channels(tables(closed_port), Path()))["hook"]
    with pytest.raises(DeliveryError, match="failed with PydanticSerializationError, which is a fault") as raised:
        await channel.send(replace(message, data={"no text": "T0KEN\ud800"}))
    assert not raised.value.permanent
    assert "body_of" in caplog.text
    assert "T0KEN" not in caplog.text
