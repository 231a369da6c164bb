"""The flows of the API tests. What has to wait, waits for a word from the test over a connection."""

from __future__ import annotations

import asyncio
import logging
import socket
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

from pydantic import BaseModel, Field

import pullcord as pc

SPECIAL = {"nan": float("nan"), "inf": float("inf"), "complex": 1j, "signalling": Decimal("sNaN")}


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    street: str
    number: Annotated[int, Field(ge=1, le=9999)]


class Item(BaseModel):
    article: Annotated[str, Field(min_length=1, max_length=20)]
    pieces: Annotated[int, Field(ge=1)] = 1
    colour: Colour = Colour.RED
    ship_to: Address | None = None


@pc.step
def double(value: int) -> int:
    return value * 2


@pc.step
def lap(port: int, number: int) -> int:
    with socket.create_connection(("127.0.0.1", port)) as link:
        while link.recv(1000):
            pass
    return number


async def word(port: int) -> str:
    """Tell the test that the run has begun, and return what it answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()


@pc.flow(concurrency=None, tags=["quick", "sync"])
def add(a: int, b: int = 1) -> int:
    """Add two *numbers*."""
    return a + b


@pc.flow(concurrency=None, tags=["quick"])
async def add_async(a: int, b: int = 1) -> int:
    return a + b


@pc.flow(concurrency=None)
def order(item: Item, labels: Annotated[list[str], Field(max_length=3)] = []) -> dict[str, Any]:  # noqa: B006
    return {"article": item.article, "colour": item.colour.value, "labels": labels}


@pc.flow(concurrency=None)
def echo(value: Any = None) -> Any:
    return value


@pc.flow(concurrency=None)
def steps(first: int) -> int:
    """Two steps, two lines, some progress."""
    logging.getLogger("shop").info("before the steps")
    value = double(first)
    pc.progress(1, 2, "half")
    print("between the steps")
    return double(value)


@pc.flow(concurrency=None)
def fail(text: str = "no luck") -> None:
    double(1)
    raise RuntimeError(text)


@pc.flow(concurrency=None, retries=pc.Retry(limit=1, delay=0.01))
def flaky() -> int:
    print(f"attempt {pc.run().attempt}")
    if pc.run().attempt == 1:
        raise RuntimeError("the first attempt")
    return pc.run().attempt


@pc.flow(concurrency=None)
async def facts() -> dict[str, Any]:
    run = pc.run()
    return {"id": run.id, "test": run.test, "trigger": run.trigger, "invoker": run.invoker, "request": run.request_id}


@pc.flow(concurrency=None)
async def hold(port: int) -> str:
    return await word(port)


@pc.flow(concurrency=1, name="one-by-one")
async def one_by_one(port: int) -> str:
    return await word(port)


@pc.flow(concurrency=None)
def laps(port: int, count: int) -> int:
    """Steps that each wait for a word, with a line and some progress before each."""
    for number in range(count):
        print(f"lap {number}")
        pc.progress(number, count)
        lap(port, number)
    return count


@pc.flow(concurrency=None)
async def parent(a: int) -> int:
    return await add_async(a) + 1


@pc.flow(concurrency=None, tags=["paged"])
async def paged(number: int) -> int:
    """Only the tests of lists run it."""
    return number


@pc.flow(concurrency=None)
async def idle() -> None:
    """Nobody runs it."""


@pc.flow(concurrency=None, triggers=[pc.cron("0 0 29 2 *", name="leap-day")])
def timed() -> None:
    """Run rarely, unless a test has it otherwise."""


@pc.flow(concurrency=None)
def asks() -> bool:
    answer: bool = pc.ask(bool, "Good?", timeout=0.01, on_timeout=pc.Default(True))
    return answer


@pc.flow(concurrency=None)
def counting(said: list[tuple[Any, Any]]) -> None:
    """Progress that may be no number; the special ones are none that JSON knows."""
    for done, total in said:
        pc.progress(SPECIAL.get(str(done), done), SPECIAL.get(str(total), total), "a\0b")
