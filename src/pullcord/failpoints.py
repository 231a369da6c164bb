"""Named places where a crash test lets a process die.

Unless `PULLCORD_FAILPOINTS` arms them they cost one look at an empty dictionary. The variable is a list
`name@marker[,name@marker…]`: the process kills itself with SIGKILL at that point if it is the one that manages to make
the marker file, so that each point fires once however many processes pass it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Final

NAMES: Final = (
    "gate.before_write",
    "writer.before_commit",
    "writer.after_commit",
    "dispatch.after_send",
    "journal.before_ack",
    "worker.in_step",
    "worker.before_record",
    "worker.before_finish",
)
"""Every fail point there is."""


def _parse(text: str) -> dict[str, str]:
    armed: dict[str, str] = {}
    for item in filter(None, text.split(",")):
        name, _, marker = item.partition("@")
        if name not in NAMES or not marker:
            raise ValueError(f"PULLCORD_FAILPOINTS: {item!r} is no NAME@MARKER of {', '.join(NAMES)}")
        armed[name] = marker
    return armed


ARMED: Final = _parse(os.environ.get("PULLCORD_FAILPOINTS", ""))
"""The armed points and their marker files."""


def hit(name: str) -> None:
    """Die here if this point is armed and has not fired yet."""
    marker = ARMED.get(name)
    if marker is not None:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            os.kill(os.getpid(), signal.SIGKILL)
