"""Flows that take their process down, block it, or never end."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator
from witness import meet, meet_async, note

import pullcord as pc
from pullcord.core.context import in_run

Way = Literal["segfault", "exit", "kill", "abort", "babble"]


def die(way: Way) -> None:
    """End this process at once."""
    if way == "segfault":
        ctypes.string_at(0)
    elif way == "exit":
        os._exit(3)
    elif way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif way == "babble":
        in_run().worker.channel.send(["finished", "what is no message"])  # type: ignore[attr-defined]
        signal.pause()
    os.abort()


@pc.step
def fatal(way: Way, after: float) -> None:
    time.sleep(after)
    die(way)


@pc.flow(concurrency=None)
def crashes(way: Way, after: float = 0.0) -> None:
    fatal(way, after)


@pc.flow(concurrency=None)
async def crashes_async(way: Way) -> None:
    fatal(way, 0.0)


@pc.step
def fatal_once(folder: Path, index: int) -> int:
    marker = folder / f"died-{index}"
    if not marker.exists():
        marker.touch()
        os._exit(1)
    return index


@pc.flow
def crashes_once_in_each_step(folder: Path, steps: int) -> int:
    """Each crash comes after a new record, so that it goes on for ever so many crashes."""
    return sum(fatal_once(folder, index) for index in range(steps))


@pc.step
def meeting_step(port: int, text: str) -> str:
    return meet(port, text)


@pc.flow(concurrency=None)
def neighbour(port: int, text: str, log: str) -> str:
    """Two steps; in the second one the test is met."""
    first(log)
    return meeting_step(port, text)


@pc.step
def first(log: str) -> None:
    note(log, "step", 0)


@pc.flow(concurrency=None)
async def neighbour_async(port: int, text: str, log: str) -> str:
    first(log)
    return await meet_async(port, text)


def close_the_channel() -> None:
    """Close the worker's socket behind its back; the process lives on."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            duplicate = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:
            continue
        maker = os.getpid()
        with duplicate:
            if duplicate.family == socket.AF_UNIX and duplicate.type == socket.SOCK_STREAM:
                maker, _, _ = struct.unpack("3i", duplicate.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if maker != os.getpid():
            os.dup2(os.open(os.devnull, os.O_RDWR), int(entry.name))


@pc.flow
def closes_its_channel(port: int, marker: Path) -> str:
    if marker.exists():
        return meet(port)
    marker.touch()
    meet(port)
    close_the_channel()
    time.sleep(600)
    return "never"


@pc.step
def call_program(port: int) -> None:
    program = subprocess.Popen(["sleep", "600"])
    meet(port, str(program.pid))
    program.wait()


@pc.flow(concurrency=None)
def calls_a_program(port: int) -> None:
    call_program(port)


def deadly(value: str) -> str:
    if value == "die":
        os._exit(1)
    return value


@pc.flow(concurrency=None)
def deadly_validator(value: Annotated[str, AfterValidator(deadly)] = "") -> str:
    return value
