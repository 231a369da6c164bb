"""Flows that are asked for by triggers; a test changes this file's copy as a programmer would."""

from __future__ import annotations

from witness import meet

import pullcord as pc


@pc.flow(concurrency=None, triggers=[pc.cron("0 * * * *", name="hourly", parameters={"region": "FR"})])
def report(region: str = "DE") -> str:
    """Make the report."""
    return region


@pc.flow(concurrency=None)
def waits(port: int) -> str:
    """Wait for a word of the test."""
    return meet(port, "here")


@pc.event(flow=waits, every="50ms", enabled=False)
def same(port: int = 0) -> pc.Fire:
    """Fire the same at every poll."""
    return pc.Fire({"port": port})


@pc.event(flow=report, every="50ms", enabled=False)
def broken() -> None:
    """Never see anything."""
    raise pc.PollError("the share is away", retry_after="1h")
