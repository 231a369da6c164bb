"""How a flow under test shows what it does: a file that only grows, and meetings with the test over a socket."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import time
from pathlib import Path

import pullcord as pc


def note(log: str, kind: str, what: object = None) -> None:
    """Append a line to the log; one write, so that lines of many processes do not mix."""
    run = pc.run()
    said = {"run": run.id, "flow": run.flow, "kind": kind, "what": what, "pid": os.getpid(), "at": time.monotonic()}
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, json.dumps(said).encode() + b"\n")
    finally:
        os.close(descriptor)


def stand(gate: str) -> None:
    """Wait until the test no longer locks the file."""
    with Path(gate).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)


def meet(port: int, text: str = "") -> str:
    """Tell the test that this place is reached, and wait for its word."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(_introduction(text))
        return connection.makefile().readline().strip()


async def meet_async(port: int, text: str = "") -> str:
    """Do the same on the event loop."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_introduction(text))
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()


def _introduction(text: str) -> bytes:
    run = pc.run()
    return json.dumps({"run": run.id, "attempt": run.attempt, "pid": os.getpid(), "text": text}).encode() + b"\n"
