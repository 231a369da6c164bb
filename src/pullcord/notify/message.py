"""What is told: one message, the same for every channel and at every try."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["info", "success", "warning", "error"]


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
        data: the same for programs, a JSON object; for a run its item without steps and results.
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
    data: dict[str, Any] = field(default_factory=dict)
    count: int = 1
