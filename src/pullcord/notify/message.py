"""What is told: one message, composed once, the same at every try."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from pydantic_core import from_json, to_json

Level = Literal["info", "success", "warning", "error"]

MOST_DATA: Final = 256 * 1024
"""Of a message that is kept, longer data is left out, bytes of JSON."""


@dataclass(frozen=True, slots=True)
class Message:
    """One notification as a channel sends it.

    Attributes:
        id: UUIDv7, the same at every try, so that a receiver can recognise a message that comes twice.
        event: what has happened, for programs, such as `run.failed`.
        at: when it happened, microseconds since 1970 UTC.
        level: how bad it is.
        title: one line for people.
        text: the rest for people: plain text of a few lines, what happened and what to do next.
        flow: the flow it is about, where it is about one.
        link: address of a page about it, or None where the server does not know its own address.
        data: the same for programs, a JSON object; for a run its item without steps and results. None where it would be
            too long.
        count: how many happenings of one kind are told together.
    """

    id: str
    event: str
    at: int
    level: Level
    title: str
    text: str
    flow: str | None = None
    link: str | None = None
    data: dict[str, Any] | None = field(default_factory=dict)
    count: int = 1


def written(message: Message) -> str:
    """Return a message as it is kept, JSON, so that it can be sent again as it is."""
    text = to_json(asdict(message))
    if len(text) > MOST_DATA:
        text = to_json(asdict(replace(message, data=None)))
    return text.decode()


def message_of(text: str) -> Message:
    """Return a message that was kept."""
    return Message(**from_json(text))
