"""Processes from outside: finding them, killing them, and waiting for their end by what the kernel says."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import TypeVar

import psutil

PATIENCE = 30.0
"""Seconds after which a test gives up waiting for what should long have happened."""

T = TypeVar("T")


def tree(pid: int) -> list[psutil.Process]:
    """Return the processes below one, parents first."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def parent(process: psutil.Process) -> int | None:
    """Return the process id of the parent; None when the process has ended meanwhile."""
    try:
        return process.ppid()
    except psutil.NoSuchProcess:
        return None


def alive(pid: int) -> bool:
    """Say whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(pids: Iterable[int]) -> None:
    """Send SIGKILL."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def await_end(pids: Iterable[int], timeout: float = PATIENCE) -> None:
    """Wait until processes have ended, whoever's children they are (pidfd_open(2))."""
    deadline = time.monotonic() + timeout
    with ExitStack() as stack:
        for pid in pids:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            stack.callback(os.close, descriptor)
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"process {pid} is still there after {timeout:g} s"


def marked(mark: str) -> list[int]:
    """Return every process that has a text in its environment, whoever its parent is by now."""
    found: list[int] = []
    for process in psutil.process_iter():
        try:
            if mark in process.environ().values() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def poll(what: Callable[[], T], timeout: float = PATIENCE) -> T:
    """Ask again and again until the answer is true. For what nobody can wait on."""
    deadline = time.monotonic() + timeout
    while True:
        answer = what()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"it did not come true in {timeout:g} s: {what}"
        time.sleep(0.02)
