"""Durable waiting: the moment to wake up is a step record, so that a crash does not start the wait anew."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pydantic_core import from_json

from pullcord.core.states import StepState
from pullcord.wire import messages as kinds
from pullcord.worker.moment import now

if TYPE_CHECKING:
    from pullcord.worker.execution import Execution

NAME = "sleep"
"""The name that waits are recorded under."""

WORTH_TELLING = 1.0
"""Seconds from which on a sleeping run is shown as `waiting` and gives its place in the worker to others."""


def sleep(execution: Execution, length: float) -> None:
    """Wait on this thread until the recorded moment."""
    identity = execution.identify(NAME, repr(length).encode())
    until = _recorded(execution, identity)
    if until is None:
        execution.boundary()
        until = _record(execution, identity, length)
        execution.boundary()
    rest = rest_of(until, length)
    told = _tell(execution, rest)
    with execution.waiting(identity, until):
        execution.wait_for_stop(rest)
    if told:
        execution.worker.channel.send([kinds.WAITING, execution.run, execution.token, None, None])
    execution.boundary()


async def sleep_async(execution: Execution, length: float) -> None:
    """Wait on the event loop until the recorded moment."""
    identity = execution.identify(NAME, repr(length).encode())
    until = _recorded(execution, identity)
    if until is None:
        await execution.boundary_async()
        until = _record(execution, identity, length)
        await execution.boundary_async()
    rest = rest_of(until, length)
    told = _tell(execution, rest)
    try:
        with execution.waiting(identity, until):
            await asyncio.sleep(rest)
    finally:  # also where the flow gives it up
        if told:
            execution.send([kinds.WAITING, execution.run, execution.token, None, None])
    await execution.boundary_async()


def _recorded(execution: Execution, identity: str) -> int | None:
    record = execution.record_of(identity)
    if record is None:
        execution.check_code("a sleep")
        return None
    until: int = from_json(record[5])
    return until


def _record(execution: Execution, identity: str, length: float) -> int:
    began = now()
    until = began + round(length * 1_000_000)
    execution.record(identity, next(execution.sequence), NAME, 1, StepState.SUCCEEDED, began, str(until))
    return until


def rest_of(until: int, length: float) -> float:
    """Return how many seconds are left of a wait; where the clock went back since, not more than the whole."""
    return min(length, max(0.0, (until - now()) / 1_000_000))


def _tell(execution: Execution, rest: float) -> bool:
    if rest < WORTH_TELLING:
        return False
    execution.worker.channel.send([kinds.WAITING, execution.run, execution.token, "time", f"sleeps for {rest:.0f} s"])
    return True
