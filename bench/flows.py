"""The flows that are measured: as little user code as possible, so that the rest is Pullcord."""

import asyncio
import time

import pullcord as pc


@pc.step
async def step_async(n: int) -> int:
    return n + 1


@pc.step
def step_sync(n: int) -> int:
    return n + 1


@pc.flow(concurrency=None)
async def one_async(n: int) -> int:
    return await step_async(n)


@pc.flow(concurrency=None)
def one_sync(n: int) -> int:
    return step_sync(n)


@pc.flow(concurrency=None)
async def ten_async(n: int) -> int:
    for _ in range(10):
        n = await step_async(n)
    return n


@pc.flow(concurrency=None)
def ten_sync(n: int) -> int:
    for _ in range(10):
        n = step_sync(n)
    return n


@pc.flow(concurrency=200)
async def held(log: str) -> None:
    """Note when it begins, and stay."""
    with open(log, "a", encoding="ascii") as file:
        file.write(f"{time.time_ns()}\n")
    await asyncio.sleep(3600)


@pc.flow(concurrency=None)
async def first_line() -> int:
    return time.time_ns()
