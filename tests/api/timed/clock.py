"""Flows with triggers: each asks at times that no test lives to see, or only when a test makes it."""

from __future__ import annotations

import pullcord as pc


@pc.flow(
    concurrency=None,
    triggers=[
        pc.cron("0 2 * * *", tz="Europe/Berlin", name="nightly", parameters={"day": "today"}),
        pc.interval("1000h", name="seldom", enabled=False),
        pc.at("2060-01-01T12:00:00Z", name="once"),
    ],
)
def timed(day: str = "none") -> str:
    """Run by the clock."""
    return day


@pc.flow(concurrency=None)
def watched(file: str = "none") -> str:
    """Run by an event."""
    if file == "file-0":
        raise ValueError("an empty file")
    return file


@pc.event(flow=watched, every="1h", allow_concurrent=True)
def drop(cursor: pc.Cursor) -> pc.Fire | pc.Skip:
    """Fire once for each number that the cursor is set to."""
    if cursor.value is None:
        return pc.Skip("nothing is there")
    if cursor.value == "broken":
        raise pc.PollError("the share is away")
    number, cursor.value = cursor.value, None
    return pc.Fire({"file": f"file-{number}"})


@pc.flow(concurrency=None, triggers=[pc.completion("watched", on="failed")])
def cleared() -> None:
    """Run when another flow has failed."""
