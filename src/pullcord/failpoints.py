"""Named places where a crash test lets a process die.

`PULLCORD_FAILPOINTS` arms them: a list `name@marker[:when]`, separated by commas. The process kills itself with SIGKILL
at that point if it is the one that manages to make the marker file, so that a point fires once however many processes
pass it, and is armed again by removing the file. `when` is the pass from which on a process may die there (`:20`), or
the probability of dying at a pass (`:0.05`); without it the first pass is deadly.

Unless the variable is set, `hit` is a function that does nothing: 25 ns a pass, some ten passes a run.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

POINTS: Final = {
    "gate.before_write": "a request is decided on and valid, and nothing of it is written",
    "gate.after_write": "a request is on disk, and its caller has no receipt",
    "fire.before_write": "a trigger has seen something to run, and nothing of it is written",
    "fire.after_write": "what a trigger has seen is on disk with how far it has come, and the trigger does not know it",
    "gate.before_child": "a run has called a flow, and the child run is not asked for",
    "gate.after_child": "a child run is on disk, and its parent does not know it",
    "retry.before_queue": "an attempt or a time has come, and the run is not queued",
    "retry.after_queue": "runs whose time has come are queued on disk, and nobody is told",
    "retry.before_ask": "failed runs are to be asked for again, and those of this portion are not",
    "cancel.before_write": "somebody asks to cancel, and nothing is written",
    "cancel.after_write": "a run is cancelled on disk, and its worker does not know it",
    "cancel.before_kill": "a worker is to be killed for a run that is cancelled by force",
    "pause.before_write": "somebody asks to pause a flow or to let it go on, and nothing is written",
    "pause.after_write": "a flow is paused or resumed on disk, and whoever asked does not know it",
    "deadline.before_write": "runs may have waited too long to start, or a pause is over, and nothing is written",
    "deadline.after_write": "runs have expired or a pause has ended on disk, and nobody is told",
    "ask.before_write": "a run asks a person, and nothing of the question is written",
    "ask.after_write": "a question is on disk, and its run does not know it",
    "worker.before_park": "a run can leave its worker, and the server does not know it",
    "worker.after_park": "a worker has given a run up that waits",
    "park.before_write": "a worker has given a run up that waits, and nothing of it is written",
    "park.after_write": "a waiting run is in no worker, and nothing is done about its time",
    "answer.before_write": "somebody answers a question, and nothing is written",
    "answer.after_write": "an answer is on disk, and neither its run nor who gave it knows it",
    "wake.before_write": "the time of a wait has come, and nothing is written",
    "wake.after_write": "waits are over on disk, and nobody is told",
    "writer.before_begin": "a batch is gathered, and its transaction has not begun",
    "writer.after_begin": "a transaction has begun, and nothing is written in it",
    "writer.before_commit": "a transaction is complete, and not committed",
    "writer.after_commit": "a transaction is on disk, and nobody is told",
    "dispatch.before_send": "runs are claimed on disk, and no worker has them",
    "dispatch.after_send": "runs are on their way to a worker",
    "worker.before_start": "a worker has received a run, and not begun it",
    "worker.in_step": "a step has begun",
    "worker.before_record": "a step has ended, and its worker has not reported it",
    "worker.after_ack": "a step's record is acknowledged, and the run has not gone on",
    "worker.before_stop": "a worker has learned that a run is cancelled, and not stopped it",
    "worker.after_stop": "a worker has stopped a cancelled run where it can, and has not said so",
    "worker.before_finish": "a run has ended, and its worker has not reported it",
    "worker.after_finish": "a worker has reported the end of a run",
    "artifact.in_write": "a part of an artifact is written, and it has no name yet",
    "artifact.before_rename": "an artifact is on disk whole, and has no name yet",
    "artifact.before_report": "an artifact is in the folder, and its worker has not reported it",
    "prune.before_write": "it is known what has been kept long enough, and nothing of it is deleted",
    "prune.after_write": "the rows of pruned runs are gone on disk, and their files are there",
    "journal.before_write": "step records and ends have arrived, and none is written",
    "journal.before_ack": "step records are on disk, and not acknowledged",
    "journal.after_finish": "ends of runs are on disk, and nobody is told",
    "takeover.before_write": "a worker is dead, and its runs are not taken from it",
    "takeover.after_write": "the runs of a dead worker are taken from it on disk, and not placed anew",
    "start.before_takeover": "a server has opened the store, and what an earlier one left is as it was",
    "start.after_takeover": "a server has taken over the runs of an earlier one, and executes none",
    "register.before_write": "a location has reported its flows, and they are not written",
    "register.after_write": "the flows of a location are on disk",
    "template.before_fork": "a template is asked for a worker",
    "template.after_fork": "a template has forked a worker, and not said so",
    "notify.before_seal": "what is to be told is on disk, and no message is made of it",
    "notify.before_send": "a message is on disk as it will be sent, and is not sent",
    "notify.after_send": "a channel has taken a message, and nothing on disk says so",
    "store.before_checkpoint": "a server that stops has written everything, and its log is not merged into the file",
    "store.after_checkpoint": "a server that stops has closed its database, and still holds the folder",
}
"""Every fail point there is, and what is so when a process dies there."""

NAMES: Final = tuple(POINTS)
"""The names alone."""

_WHEN = re.compile(r":(\d+|0?\.\d+)$")


@dataclass(slots=True)
class _Armed:
    marker: str
    first: int = 1
    chance: float = 1.0
    passes: count[int] = field(default_factory=lambda: count(1))


def _parse(text: str) -> dict[str, _Armed]:
    armed: dict[str, _Armed] = {}
    for item in filter(None, text.split(",")):
        name, _, marker = item.partition("@")
        if name not in NAMES or not marker:
            raise ValueError(f"PULLCORD_FAILPOINTS: {item!r} is no NAME@MARKER[:WHEN] of {', '.join(NAMES)}")
        when = _WHEN.search(marker)
        if when is None:
            armed[name] = _Armed(marker)
        elif "." in when[1]:
            armed[name] = _Armed(marker[: when.start()], chance=float(when[1]))
        else:
            armed[name] = _Armed(marker[: when.start()], first=int(when[1]))
    return armed


ARMED: Final = _parse(os.environ.get("PULLCORD_FAILPOINTS", ""))
"""The armed points."""


def _die(name: str) -> None:
    armed = ARMED.get(name)
    if armed is None or next(armed.passes) < armed.first or random.random() >= armed.chance:
        return
    with contextlib.suppress(FileExistsError):
        os.close(os.open(armed.marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.kill(os.getpid(), signal.SIGKILL)


def _pass(name: str) -> None:
    return


hit: Final[Callable[[str], None]] = _die if ARMED else _pass
"""Die here if this point is armed and has not fired yet. Takes the name of the point."""
