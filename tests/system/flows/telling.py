"""Flows that tell people what became of them."""

import time
from pathlib import Path

import pullcord as pc


@pc.flow(concurrency=None, notify=[pc.on_failure("ops"), pc.on_success("slow"), pc.on_recovery("ops")])
async def tells(n: int = 0, fail: bool = True) -> int:
    """Fail, or not."""
    if fail:
        raise ValueError(f"no such number: {n}")
    return n


@pc.flow(notify=[pc.on_long_run("ops", after="1s")])
def takes(seconds: float, told: str) -> None:
    """Take long, and in any case until somebody was told."""
    time.sleep(seconds)
    while not Path(told).exists():
        time.sleep(0.02)


@pc.flow(retries=pc.Retry(limit=1, delay=0), notify=[pc.on_retry("ops"), pc.on_failure("ops")])
def tries() -> None:
    """Fail twice."""
    raise OSError("the disk")


@pc.flow(notify=[pc.on_failure("nowhere")])
def lost() -> None:
    """Fail, and tell it to a channel that there is not."""
    raise OSError("the disk")
