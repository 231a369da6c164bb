"""Starts template processes; a command has them start ahead, while the server's own code is still loading.

An interpreter takes a fifth of a second to become a template, and the server's imports take longer than that: on two
cores the one costs nothing beside the other.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pullcord.core.errors import LocationError, PullcordError
from pullcord.engine.environment import START, command, expose_package, variables
from pullcord.engine.locations import CodeLocation, locate_all
from pullcord.store.lock import hold


@dataclass(frozen=True, slots=True)
class Launched:
    """A process that becomes a template.

    Attributes:
        process: the process.
        socket: the server's end of its socket.
    """

    process: subprocess.Popen[bytes]
    socket: socket.socket


_ahead: dict[tuple[str, Path, Path], list[Launched]] = {}


def launch(python: str, cwd: Path, folder: Path) -> Launched:
    """Start a template process, or return one that was started ahead.

    Args:
        python: the interpreter.
        cwd: its working folder.
        folder: the data folder; it must be this process's own.

    Raises:
        LocationError: the interpreter cannot be started.
    """
    ahead = _ahead.get((python, cwd, folder))
    return ahead.pop() if ahead else _launch(python, cwd, folder)


def launch_ahead(flows: Iterable[str], code: Sequence[CodeLocation], folder: Path) -> None:
    """Start the template processes that a server in this process will ask for, unless they are there already.

    Whatever is in the way is left for the server to meet and to tell. The processes end with this one.

    Args:
        flows: code locations as the user writes them.
        code: code locations of the settings.
        folder: the data folder.
    """
    with contextlib.suppress(PullcordError):
        wanted = Counter(location.python for location in locate_all(flows, code))
        cwd, lock = Path.cwd(), hold(folder)
        try:
            for python, count in wanted.items():
                ahead = _ahead.setdefault((python, cwd, folder), [])
                with contextlib.suppress(LocationError):
                    while len(ahead) < count:
                        ahead.append(_launch(python, cwd, folder))
        finally:
            lock.release()


def _launch(python: str, cwd: Path, folder: Path) -> Launched:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        process = subprocess.Popen(
            command(python, expose_package(folder), START, str(theirs.fileno()), str(os.getpid())),
            pass_fds=[theirs.fileno()],
            cwd=cwd,
            env=variables(python),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise LocationError(_why(python, error)) from None
    finally:
        theirs.close()
    ours.setblocking(False)
    return Launched(process, ours)


def _why(python: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"there is no interpreter {python}; make the environment, or correct python = in the settings"
    if Path(python).is_dir():
        return f"the interpreter {python} is a folder; name the program in it, such as {Path(python) / 'bin/python'}"
    return f"the interpreter {python} cannot be started: {error.strerror}"
