"""Flows that take only so much."""

from __future__ import annotations

import asyncio

import pullcord as pc


@pc.flow
async def busy(seconds: float = 0.0) -> None:
    await asyncio.sleep(seconds)


@pc.flow(concurrency=None, suspend_after=3)
async def fails() -> None:
    raise ValueError("no luck")


@pc.flow(concurrency=None, rate=pc.Rate(limit=3, per="1h"))
async def rare() -> None:
    return None


@pc.flow(concurrency=None, triggers=[pc.interval("200ms", name="often")])
async def ticking() -> None:
    return None
