"""The routes of channels: which there are, and whether they work."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from pullcord.api.dependencies import json_response
from pullcord.app import App


def add_channels(rest: FastAPI, app: App) -> None:
    """Add the routes of channels."""

    @rest.get("/v1/channels", tags=["channels"], summary="List the channels of messages by name")
    async def channels() -> Any:
        return json_response({"items": app.channels.listed(), "next": None})

    @rest.post("/v1/channels/{channel}/test", tags=["channels"], summary="Send one message to see whether it arrives")
    async def test(channel: str) -> Any:
        return json_response(await app.channels.test(channel))
