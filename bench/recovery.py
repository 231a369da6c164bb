"""After `kill -9` of a server with much to do: how long until the next one is at work."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from bench.server import Served, serving
from pullcord import Client

ACTIVE, QUEUED = 200, 10_000


def measure() -> dict[str, float]:
    """Return the seconds to ready, and from there to the first and the last active run that goes on."""
    with tempfile.TemporaryDirectory(prefix="pullcord-bench-") as folder:
        log, data_dir = Path(folder) / "begun", Path(folder) / "data"
        with serving(data_dir) as served:
            with _client(served) as client:
                client.run_many([("held", {"log": str(log)})] * (ACTIVE + QUEUED))
            _begun(log, ACTIVE)
            os.kill(served.process.pid, signal.SIGKILL)
            served.process.wait(30)
        with serving(data_dir) as served:
            ready = time.time_ns()
            times = _begun(log, 2 * ACTIVE)[ACTIVE:]
            os.kill(served.process.pid, signal.SIGKILL)  # the runs would be waited for otherwise
    return {
        "serve ready after kill -9, 200 runs active and 10,000 queued, s": served.ready,
        "ready to first dispatch after that, s": max(0, times[0] - ready) / 1e9,
        "ready to all 200 going on, s": max(0, times[-1] - ready) / 1e9,
    }


def _client(served: Served) -> Client:
    return Client(served.url, (served.folder / "token").read_text(encoding="ascii").strip())


def _begun(log: Path, count: int) -> list[int]:
    """Wait until so many runs have begun; return when each did, nanoseconds."""
    while True:
        lines = log.read_text(encoding="ascii").splitlines() if log.exists() else []
        if len(lines) >= count:
            return sorted(map(int, lines))
        time.sleep(0.01)
