"""Secrets by name: what a parameter says as `env:NAME` is looked up where the event is polled."""

from __future__ import annotations

import os
from typing import Final

from pullcord.core.event import PollError

PREFIX: Final = "env:"
"""What begins with this is the name of a variable of the environment."""


def resolved(text: str) -> str:
    """Return a text, or the value of the variable that it names as `env:NAME`.

    Raises:
        PollError: the variable is not set, or empty.
    """
    if not text.startswith(PREFIX):
        return text
    name = text.removeprefix(PREFIX)
    value = os.environ.get(name)
    if not value:
        raise PollError(f"the variable {name} is not set; start the server with it", permanent=True)
    return value
