"""Flows that take what others need: the interpreter lock, the event loop, memory."""

from __future__ import annotations

import ctypes
import re
import time

from witness import meet, note

import pullcord as pc

MEGABYTE = 1 << 20


@pc.step
def hold_the_lock(seconds: int) -> None:
    """A C call that does not give the interpreter lock up while it waits."""
    ctypes.PyDLL(None).sleep(seconds)


@pc.step
def catastrophe() -> bool:
    """A pattern that takes for ever; `re` holds the interpreter lock all the while."""
    return re.match(r"(a|a)*$", "a" * 60 + "b") is None


@pc.flow(concurrency=None)
def holds_the_lock(seconds: int) -> str:
    hold_the_lock(seconds)
    return "let go"


@pc.flow(concurrency=None)
def backtracks() -> bool:
    return catastrophe()


@pc.flow(concurrency=None)
async def blocks_the_loop(port: int) -> str:
    return meet(port, "blocks")  # that it does not await is the point


@pc.step
def eat(megabytes: int) -> int:
    food = bytearray(megabytes * MEGABYTE)
    food[::4096] = b"x" * len(food[::4096])
    time.sleep(600)
    return len(food)


@pc.flow(concurrency=None)
def eats(megabytes: int) -> int:
    return eat(megabytes)


@pc.flow(concurrency=None)
def hoards(port: int, megabytes: int) -> int:
    """Keep what a worker has room for, but not for long."""
    food = bytearray(megabytes * MEGABYTE)
    food[::4096] = b"x" * len(food[::4096])
    meet(port, "full")
    return len(food)


@pc.flow(concurrency=None)
def neighbour(port: int, log: str) -> str:
    first(log)
    return second(port)


@pc.step
def first(log: str) -> None:
    note(log, "step", 0)


@pc.step
def second(port: int) -> str:
    return meet(port, "neighbour")
