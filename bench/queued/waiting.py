"""Flows with long queues: one with a limit for each key, one without any."""

import pullcord as pc


@pc.step
async def add(n: int) -> int:
    return n + 1


@pc.flow(concurrency=pc.Concurrency(limit=1, key="{tenant}"))
async def by_tenant(tenant: int, n: int) -> int:
    return await add(n)


@pc.flow(concurrency=None)
async def by_nobody(tenant: int, n: int) -> int:
    return await add(n)
