"""A flow that says to the server what cannot be read, in every way there is."""

import logging
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

import pullcord as pc

DEEP: Any = []
for _ in range(220):
    DEEP = [DEEP]
LONG = 10**5000


@pc.flow(concurrency=None)
def child(x: Any) -> None: ...


@pc.step
def returns(x: Any) -> Any:
    return x


@pc.step
def raises() -> None:
    raise ValueError(DEEP[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0])


def record(name: Any) -> None:
    """Log under a name that is none."""
    logging.getLogger().handle(logging.makeLogRecord({"name": name, "levelno": 30, "levelname": "WARNING", "msg": "x"}))


WAYS: dict[str, Callable[[], Any]] = {
    "deep details": lambda: pc.ask(bool, "?", details={"a": DEEP}),
    "long number": lambda: pc.ask(bool, "?", details={"a": LONG}),
    "recipient": lambda: pc.ask(bool, "?", to=["a\ud800"]),
    "described": lambda: pc.ask(Annotated[int, Field(description="a\ud800")], "?"),
    "deep schema": lambda: pc.ask(Annotated[int, Field(json_schema_extra={"x": DEEP})], "?"),
    "deep child": lambda: child(DEEP),
    "long child": lambda: child(LONG),
    "deep result": lambda: returns(DEEP),
    "deep error": raises,
    "numbered logger": lambda: record(5),
    "logger": lambda: record("a\ud800"),
    "progress": lambda: pc.progress(1, 2, "a\ud800"),
}


@pc.flow(concurrency=None)
def says(way: str) -> str:
    """Say it."""
    try:
        WAYS[way]()
    except Exception as error:
        return type(error).__name__
    return "said"
