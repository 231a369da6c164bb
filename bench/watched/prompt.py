"""An event that always fires, and a flow that takes the time in its first line."""

import time

import pullcord as pc


@pc.flow(concurrency=None)
async def handle(fired: int) -> int:
    return time.time_ns() - fired


@pc.event(flow=handle, every="100ms")
async def always() -> pc.Fire:
    return pc.Fire({"fired": time.time_ns()})
