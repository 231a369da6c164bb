"""Flows behind webhooks."""

from __future__ import annotations

from typing import Any

import pullcord as pc

SECRET = "env:PULLCORD_TEST_HOOK"


@pc.flow(triggers=[pc.webhook("plain", secret=SECRET)], concurrency=None)
async def plain_hook(n: int) -> int:
    return n


@pc.flow(triggers=[pc.webhook("rotating", secret=[SECRET, "env:PULLCORD_TEST_HOOK_NEXT"])], concurrency=None)
async def rotating_hook(n: int = 0) -> int:
    return n


def from_github(body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any] | pc.Skip:
    if headers.get("x-github-event") == "ping":
        return pc.Skip("a ping of GitHub's")
    return {"branch": body["ref"].removeprefix("refs/heads/")}


@pc.flow(triggers=[pc.webhook("pushes", secret=SECRET, scheme="github", inputs=from_github)], concurrency=None)
async def on_push(branch: str) -> str:
    return branch


def from_stripe(body: dict[str, Any]) -> pc.Fire:
    return pc.Fire({"amount": body["data"]["amount"]}, key=body["id"])


@pc.flow(triggers=[pc.webhook("payments", secret=SECRET, scheme="stripe", inputs=from_stripe)], concurrency=None)
async def on_payment(amount: int) -> int:
    return amount


@pc.flow(triggers=[pc.webhook("small", secret=SECRET, max_body=100, parameters={"fixed": 7})], concurrency=None)
async def small_hook(fixed: int, n: int = 0) -> int:
    return fixed + n


@pc.flow(triggers=[pc.webhook("unset", secret="env:PULLCORD_TEST_HOOK_THAT_NOBODY_SETS")])
async def unset_hook() -> None: ...


@pc.flow(triggers=[pc.webhook("silent", secret=SECRET, enabled=False)])
async def silent_hook() -> None: ...
