"""Flows that are asked for more often than they may run; each waits for a word from the test over a connection."""

import asyncio

import pullcord as pc


async def word(port: int) -> str:
    """Tell the test that the run has begun, and return what it answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()


@pc.flow(concurrency=pc.Concurrency(1, "{region}"))
async def each_region(port: int, region: str) -> str:
    return await word(port)


@pc.flow(concurrency=pc.Concurrency(on_conflict="skip"), notify=[pc.on_skipped("nobody")])
async def skipping(port: int) -> str:
    return await word(port)


@pc.flow(concurrency=pc.Concurrency(on_conflict="reject"))
async def rejecting(port: int) -> str:
    return await word(port)


@pc.flow(concurrency=pc.Concurrency(on_conflict="cancel_running"))
async def newest(port: int) -> str:
    return await word(port)


@pc.flow(concurrency=pc.Concurrency(on_conflict="cancel_running"))
async def newest_done(port: int, number: int) -> str:
    if (said := await word(port)) == "fail":
        raise ValueError(said)
    return said


@pc.flow(concurrency=pc.Concurrency(None, group=pc.Group("shared", 1)))
async def together(port: int) -> str:
    return await word(port)


@pc.flow(concurrency=2, retries=pc.Retry(limit=1, delay="100ms", jitter=False))
async def nested(port: int, depth: int = 1) -> str:
    if depth:
        return await nested(port, depth - 1)
    raise ValueError(await word(port))
