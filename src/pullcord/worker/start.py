"""How a template process begins: it looks at its environment before it imports anything that needs it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Final

OLDEST_PYDANTIC: Final = (2, 7)
"""The oldest pydantic that a worker can use: before, its serializers could not refuse a value."""


def main(descriptor: int, parent: int) -> None:
    """Become the template process of a location, or say why this environment cannot.

    Args:
        descriptor: the template's end of the socket to the server.
        parent: process id of the server.
    """
    problem = unfit()
    if problem is not None:
        with contextlib.suppress(BrokenPipeError):  # the server is gone, and nobody wants to know
            os.write(descriptor, json.dumps({"unfit": problem}).encode())
        raise SystemExit(1)
    from pullcord.worker import template

    template.main(descriptor, parent)


def unfit() -> str | None:
    """Return why workers cannot run in this environment, or None."""
    needed = ".".join(map(str, OLDEST_PYDANTIC))
    advice = f"a worker needs pydantic {needed} or newer: {sys.executable} -m pip install 'pydantic>={needed}'"
    try:
        from pydantic import VERSION, BaseModel  # noqa: F401  the second one loads the compiled part
    except Exception as error:
        return f"pydantic cannot be imported there ({type(error).__name__}: {error}); {advice}"
    if tuple(int(part) for part in VERSION.split(".")[:2]) < OLDEST_PYDANTIC:
        return f"it has pydantic {VERSION}; {advice}"
    return None
