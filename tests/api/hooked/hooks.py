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


@pc.flow(triggers=[pc.webhook("half", secret=[SECRET, "env:PULLCORD_TEST_HOOK_THAT_NOBODY_SETS"])], concurrency=None)
async def half_hook(n: int) -> int:
    return n


BOTH = pc.webhook("both", secret=SECRET)


@pc.flow(triggers=[BOTH], concurrency=None)
async def first_of_both(n: int) -> int:
    return n


@pc.flow(triggers=[BOTH], concurrency=None)
async def second_of_both(n: int | str) -> str:
    return str(n)


@pc.flow(triggers=[pc.webhook("remembered", secret=SECRET)], concurrency=None)
async def remembered_hook(n: int) -> int:
    return n


def nothing(body: dict[str, Any]) -> pc.Skip:
    return pc.Skip(f"nothing to do for {body['n']}\0")


@pc.flow(triggers=[pc.webhook("skipping", secret=SECRET, inputs=nothing)], concurrency=None)
async def skipping_hook() -> None: ...


@pc.flow(triggers=[pc.webhook("paused", secret=SECRET)], concurrency=None)
async def paused_hook(n: int) -> int:
    return n
