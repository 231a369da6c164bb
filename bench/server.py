"""A server process as users run it: time to ready, memory, idle CPU."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.machine import FLOWS, WORKERS

IDLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Served:
    """A running server: its process, address, folder, and the seconds it took to be ready."""

    process: psutil.Process
    url: str
    folder: Path
    ready: float


@contextlib.contextmanager
def serving(
    data_dir: Path | None = None, flows: Path = FLOWS, workers: int = WORKERS, level: str = "warning"
) -> Iterator[Served]:
    """Run `pullcord serve` on a data folder; on a fresh one unless it is given."""
    with tempfile.TemporaryDirectory(prefix="pullcord-bench-") as fresh:
        folder = data_dir or Path(fresh)
        began = time.perf_counter()
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pullcord",
                "serve",
                str(flows),
                "--port",
                "0",
                "--data-dir",
                str(folder),
                "--workers",
                str(workers),
                "--log-level",
                level,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            ready = time.perf_counter() - began
            url = next(word for word in line.split() if word.startswith("http://"))
            yield Served(psutil.Process(process.pid), url, folder, ready)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def measure() -> dict[str, float]:
    """Return start time, memory and idle CPU."""
    with serving() as first:
        best = first.ready
    times = [best]
    for _ in range(4):
        with serving() as again:
            times.append(again.ready)
    with serving() as served:
        time.sleep(3.0)
        processes = [served.process, *served.process.children(recursive=True)]
        before = sum(sum(process.cpu_times()[:2]) for process in processes)
        time.sleep(IDLE_SECONDS)
        idle = sum(sum(process.cpu_times()[:2]) for process in processes) - before
        memory = sum(proportional(process.pid) for process in processes)
    return {
        "serve ready, s": sorted(times)[len(times) // 2],
        "proportional set size, server and workers, MB": memory / 1000,
        "idle CPU, %": idle / IDLE_SECONDS * 100,
    }


def proportional(pid: int) -> int:
    """Return a process's proportional set size in kB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise RuntimeError(f"no memory figures for process {pid} ({os.strerror(2)})")
