"""Slack's incoming webhooks: what is sent fits Slack's limits, and nothing in a message becomes markup."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pullcord.notify.channel import DeliveryError
from pullcord.notify.message import Level, Message
from pullcord.notify.settings import SecretUrlOptions
from pullcord.notify.slack import LONGEST_SECTION, LONGEST_TITLE, MOST_SECTIONS, SlackChannel, payload, sections
from tests.unit.notify.receivers import hang, status, web


def channel(timeout: float = 60.0) -> SlackChannel:
    return SlackChannel("slack", SecretUrlOptions("env:SLACK_URL"), timeout)


def blocks(sent: dict[str, Any]) -> list[dict[str, Any]]:
    return [*sent["blocks"], *sent["attachments"][0]["blocks"]]


def shown(sent: dict[str, Any]) -> str:
    """Return all text of a message."""
    parts = [sent["text"]]
    for block in blocks(sent):
        parts += [item["text"] for item in [*([block["text"]] if "text" in block else []), *block.get("fields", [])]]
    return "\n".join(parts)


async def test_a_message_has_title_text_fields_and_link(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    async with web(status(200, body=b"ok")) as here:
        monkeypatch.setenv("SLACK_URL", f"http://{here.at}/services/T0/B0/XXX")
        await channel().send(replace(message, count=3))
    [request] = here.requests
    assert request.path == "/services/T0/B0/XXX"
    assert request.headers["content-type"] == "application/json"
    sent = json.loads(request.body)
    assert sent["text"] == "nightly failed"
    assert sent["attachments"][0]["color"] == "#dc2626"
    said = shown(sent)
    for part in (
        "*nightly failed*", message.text, "*Flow*\nnightly", "*Event*\nrun.failed", "*Times*\n3",
        "<https://pullcord.example/runs/1|Open>",
    ):  # fmt: skip
        assert part in said


@pytest.mark.parametrize("level", ["info", "success", "warning", "error"])
def test_each_level_has_a_colour(level: Level, message: Message) -> None:
    colours = {payload(replace(message, level=each))["attachments"][0]["color"] for each in ("info", "error", level)}
    assert len(colours) == len({"info", "error", level})


@settings(max_examples=25)
@given(st.text(alphabet="&<>|@!*_x \n", max_size=9000), st.text(max_size=400))
def test_nothing_in_a_message_is_markup_and_all_of_it_fits(text: str, title: str) -> None:
    sent = payload(Message("1", title or "x", 0, "info", title, text, flow=text or None))
    said = shown(sent).replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
    assert not {"&", "<", ">"} & set(said)
    assert len(sent["text"]) <= LONGEST_TITLE
    assert len(blocks(sent)) <= 50
    for block in blocks(sent):
        assert len(block.get("text", {}).get("text", "")) <= 3000
        assert all(len(field["text"]) <= 2000 for field in block.get("fields", []))


def test_a_text_is_broken_at_line_ends_and_its_rest_left_out() -> None:
    line = "x" * 99 + "\n"
    assert sections(line * 40) == [(line * 30).rstrip("\n"), (line * 10).rstrip("\n")]
    assert sections("") == []
    pieces = sections("&" * LONGEST_SECTION * MOST_SECTIONS)
    assert len(pieces) == MOST_SECTIONS
    assert all(piece.endswith("&amp;") for piece in pieces[:-1])
    assert pieces[-1].endswith("&amp;…")


@pytest.mark.parametrize(
    ("code", "body", "permanent", "words"),
    [
        (404, b"no_service", False, r"404 \(no_service\)"),
        (400, b"invalid_payload", True, r"400 \(invalid_payload\)"),
        (403, b"<html>The address /services/T0/B0/XXX is gone</html>", False, "403;"),
        (429, b"", False, "429$"),
        (500, b"", False, "500$"),
    ],
)
async def test_what_slack_refuses(
    code: int, body: bytes, permanent: bool, words: str, message: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with web(status(code, "retry-after: 30", body=body)) as here:
        monkeypatch.setenv("SLACK_URL", f"http://{here.at}/services/T0/B0/XXX")
        with pytest.raises(DeliveryError, match=words) as raised:
            await channel().send(message)
    assert raised.value.permanent is permanent
    assert raised.value.retry_after == 30
    assert "XXX" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "env:SLACK_URL is empty"),
        ("hooks.slack.com/XXX", "what env:SLACK_URL holds is no web address"),
        ("http://hooks.slack.com/XXX", "must not travel in the clear"),
        ("https://ada:XXX@hooks.slack.com/", "has a password in it"),
    ],
)
async def test_an_address_that_is_none(url: str, words: str, message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_URL", url)
    with pytest.raises(DeliveryError, match=words) as raised:
        await channel().send(message)
    assert "XXX" not in str(raised.value)


async def test_slack_hangs_or_is_not_there(
    message: Message, closed_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with web(hang) as here:
        monkeypatch.setenv("SLACK_URL", f"http://{here.at}/XXX")
        with pytest.raises(DeliveryError, match=r"did not answer within 0\.2 s"):
            await channel(0.2).send(message)
    monkeypatch.setenv("SLACK_URL", f"https://127.0.0.1:{closed_port}/XXX")
    with pytest.raises(DeliveryError, match="refuses the connection") as raised:
        await channel().send(message)
    assert "XXX" not in str(raised.value) + caplog.text
