"""Flows that ask people, and flows that sleep for so long that they leave their worker."""

from __future__ import annotations

import asyncio
from typing import Literal

from witness import meet, meet_async, note

import pullcord as pc
from pullcord.worker import parking

# No test waits for a minute: here a sleep is worth leaving for as soon as a second is left of it.
parking.WORTH_PARKING = 1_000_000


@pc.step
def noted(log: str, index: int) -> int:
    note(log, "step", index)
    return index


@pc.step
def met(port: int, text: str) -> str:
    return meet(port, text)


@pc.flow(concurrency=1)
def release(log: str) -> list[str]:
    """Ask between two steps; `left` is noted whenever the run's code comes to an end in a worker."""
    noted(log, 0)
    try:
        verdict = pc.ask(Literal["approve", "reject"], "Release **now**?", to=["ops", "qa"])
    finally:
        note(log, "left")
    noted(log, 1)
    return [verdict]


@pc.flow(concurrency=1)
async def release_async(log: str) -> list[str]:
    """Do the same on the event loop."""
    noted(log, 0)
    try:
        verdict = await pc.ask(Literal["approve", "reject"], "Release **now**?", to=["ops", "qa"])
    finally:
        note(log, "left")
    noted(log, 1)
    return [verdict]


@pc.flow(concurrency=None, isolated=True)
def alone(log: str) -> bool:
    """Ask from a process of its own."""
    try:
        answer: bool = pc.ask(bool, "Alone?")
    finally:
        note(log, "left")
    return answer


@pc.flow(concurrency=None)
def holds(port: int, log: str) -> bool:
    """Hold something, and take a while to let go of it."""
    note(log, "begins")
    try:
        answer: bool = pc.ask(bool, "Enough?")
    finally:
        meet(port, "lets go")
        note(log, "left")
    return answer


@pc.flow(concurrency=None)
def too_late(length: float, default: bool, log: str) -> str:
    """Wait no longer than this for an answer."""
    try:
        answer = pc.ask(bool, "Soon?", timeout=length, on_timeout=pc.Default(False) if default else "fail")
    except pc.AskTimeoutError as error:
        noted(log, 0)
        return f"caught: {error}"
    noted(log, 0)
    return f"answer: {answer}"


@pc.flow(concurrency=None)
async def branches(port: int) -> list[object]:
    """Ask in one branch while another one is inside a step."""

    async def works() -> str:
        return await asyncio.to_thread(met, port, "beside")

    return list(await asyncio.gather(pc.ask(bool, "First?"), pc.ask(bool, "Second?"), works()))


@pc.flow(concurrency=None)
async def asks_two(log: str) -> list[bool]:
    """Ask two people at once."""
    try:
        return list(await asyncio.gather(pc.ask(bool, "First?"), pc.ask(bool, "Second?")))
    finally:
        note(log, "left")


@pc.flow(concurrency=None)
async def asks_in_a_task(log: str) -> list[bool]:
    """Ask in a task, and wait for it."""
    task = asyncio.create_task(pc.ask(bool, "First?"))
    try:
        return [await task]
    finally:
        note(log, "left")


@pc.flow(concurrency=None)
async def holds_in_a_task(port: int, log: str) -> list[bool]:
    """Hold something in a task that nobody awaits yet, which takes a while to let go of it."""

    async def holds() -> bool:
        note(log, "begins")
        try:
            return bool(await pc.ask(bool, "Enough?"))
        finally:
            await meet_async(port, "lets go")
            note(log, "left")

    first, second = asyncio.create_task(pc.ask(bool, "First?")), asyncio.create_task(holds())
    return [await first, await second]


@pc.flow(concurrency=None)
async def works_meanwhile(port: int, log: str) -> bool:
    """Ask in a task, and do something else until there is an answer."""
    note(log, "begins")
    task = asyncio.create_task(pc.ask(bool, "Meanwhile?"))
    await meet_async(port, "works")
    note(log, "worked")
    return await task


@pc.flow(concurrency=None)
def sleeps(length: float, log: str) -> str:
    """Sleep on a thread."""
    noted(log, 0)
    try:
        pc.sleep(length)
    finally:
        note(log, "left")
    return "slept"


@pc.flow(concurrency=None)
async def sleeps_async(length: float, log: str) -> str:
    """Sleep on the event loop."""
    noted(log, 0)
    try:
        await pc.sleep(length)
    finally:
        note(log, "left")
    return "slept"


@pc.flow(concurrency=None)
def crowd(number: int) -> int:
    """Be one of many who ask."""
    answer: int = pc.ask(int, f"Number {number}?")
    return answer
