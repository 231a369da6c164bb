"""Flows that take only so much."""

from __future__ import annotations

import pullcord as pc


@pc.flow
def plain() -> str:
    """An ordinary flow."""
    return "done"


@pc.flow(max_queued=1, queue_ttl="1h")
async def narrow() -> None:
    """One runs, one waits."""
    await pc.sleep(3600)


@pc.flow(concurrency=None, rate=pc.Rate(limit=1, per="1h"), triggers=[pc.interval("1d", name="daily")])
def rare() -> None:
    """Once an hour."""


@pc.flow(concurrency=None, rate=pc.Rate(limit=1, per="1h", by="invoker", on_limit="delay"))
def late() -> None:
    """Once an hour, and later."""


@pc.flow(suspend_after=1)
def shaky() -> None:
    """It fails."""
    raise ValueError("no luck")


@pc.flow
def caller() -> str:
    """It calls a flow."""
    return plain()
