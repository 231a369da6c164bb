"""The template process of a location: imported once, forked for each worker.

A fork costs some ten milliseconds and shares the memory of the interpreter and of pydantic; a fresh interpreter
costs a quarter of a second and thirty megabytes. The template imports no user code and has a single thread, so
that forking is safe; each worker imports the location itself.

Each worker leads a process group, so that the programs which its steps start end with it. The template ends the groups:
when it reaps a worker, and when the server closes the socket or dies.

The server talks to it over a socket that keeps message boundaries: `{"spawn": n}` with the worker's socket as an
attached descriptor is answered by `{"spawned": n, "pid": pid}`, and a worker's end by `{"exited": pid, "status": s}`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from pullcord.failpoints import hit
from pullcord.worker.main import Worker

_PR_SET_PDEATHSIG = 1
_VICTIM = "800"
"""How much rather the kernel ends a worker than the server when memory runs out (proc(5), oom_score_adj)."""


def die_with_parent(parent: int, number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent dies; leave at once if that has happened already."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(0)


def main(descriptor: int, parent: int) -> None:
    """Serve fork requests until the server closes the socket.

    Args:
        descriptor: the template's end of the socket.
        parent: process id of the server.
    """
    me = os.getpid()
    workers: set[int] = set()

    def end(*_: object) -> NoReturn:
        if os.getpid() == me:
            for pid in workers:
                end_group(pid)
        os._exit(0)

    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, end)
    die_with_parent(parent, signal.SIGTERM)
    with contextlib.suppress(OSError):
        _serve(socket.socket(fileno=descriptor), woken, wake, workers)
    end()


def end_group(leader: int) -> None:
    """Kill a worker and all programs that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _serve(control: socket.socket, woken: socket.socket, wake: socket.socket, workers: set[int]) -> None:
    gc.collect()
    gc.freeze()
    me = os.getpid()
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _report_exits(control, workers)
        if control in ready:
            data, descriptors, _, _ = socket.recv_fds(control, 65536, 1)
            if not data:
                return
            number = json.loads(data)["spawn"]
            hit("template.before_fork")
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for ours in (control, woken, wake):
                    ours.close()
                _become_worker(descriptors[0], me)
            hit("template.after_fork")
            with contextlib.suppress(OSError):  # the worker does the same: whoever is first
                os.setpgid(pid, pid)
            workers.add(pid)
            os.close(descriptors[0])
            control.send(json.dumps({"spawned": number, "pid": pid}).encode())


def _report_exits(control: socket.socket, workers: set[int]) -> None:
    for pid in list(workers):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            continue
        end_group(pid)  # before it is reaped, for then its number may become another's
        _, status = os.waitpid(pid, 0)
        workers.discard(pid)
        control.send(json.dumps({"exited": pid, "status": os.waitstatus_to_exitcode(status)}).encode())


def _become_worker(descriptor: int, template: int) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgid(0, 0)
    die_with_parent(template, signal.SIGKILL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_VICTIM, encoding="ascii")
    sys.argv = ["pullcord-worker"]
    try:
        Worker(socket.socket(fileno=descriptor)).run()
    finally:
        os._exit(1)
