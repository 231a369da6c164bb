"""Flows for `bench.cancelling`: what is cancelled, and what is in its way."""

from __future__ import annotations

import asyncio
import time

import pullcord as pc


@pc.step
async def waiting() -> None:
    await asyncio.sleep(600)


@pc.step
def blocking(seconds: float) -> None:
    time.sleep(seconds)


@pc.flow(concurrency=None)
async def waits() -> None:
    """Be inside an async step."""
    await waiting()


@pc.flow(concurrency=None)
def blocks() -> None:
    """Be inside a sync step, for far longer than anybody waits."""
    blocking(600.0)


@pc.flow(concurrency=None, isolated=True)
def blocks_alone() -> None:
    """Do the same in a process of its own."""
    blocking(600.0)


@pc.flow(concurrency=None)
def moves() -> None:
    """Reach a step boundary every tenth of a second."""
    while True:
        blocking(0.1)


@pc.flow(concurrency=None)
def stays() -> None:
    """Reach no boundary within any grace."""
    blocking(60.0)
