"""A Prefect server of our own for the length of one measurement: loopback, temporary home, nothing sent anywhere."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 60.0
STOP_SECONDS = 20.0

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def environment(home: Path, port: int) -> dict[str, str]:
    """Set up the measuring process, the server and the runner alike."""
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    }


def free_port() -> int:
    """Ask the system for a loopback port nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: str, ready: Callable[[], bool], seconds: float) -> None:
    """Poll until something holds, and say what did not in time."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.05)


@contextmanager
def module_running(*command: str, log: Path, ready_path: str) -> Iterator[None]:
    """Run a module of this environment beside us, from when the API answers a path until the block ends."""
    with log.open("a", encoding="utf-8") as output:
        child = subprocess.Popen([sys.executable, "-m", *command], stdout=output, stderr=output)

    def ready() -> bool:
        if child.poll() is not None:
            tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"{command[0]} ended with status {child.returncode}:\n{tail}")
        return answers(ready_path)

    try:
        wait_for(f"start of {command[0]}", ready, START_SECONDS)
        yield
    finally:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def server(folder: Path) -> Iterator[None]:
    """Point this process at a fresh server; Prefect must be imported inside, it reads its settings then."""
    port = free_port()
    os.environ.update(environment(folder, port))
    command = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui")
    with module_running(*command, log=folder / "server.log", ready_path="/health"):
        yield


def answers(path: str) -> bool:
    """Tell whether the API answers a GET with success."""
    try:
        with _direct.open(os.environ["PREFECT_API_URL"] + path, timeout=5):
            return True
    except OSError:  # refused, timed out, or an HTTP error
        return False


def completed(kind: str, flow: str | None = None) -> int:
    """Count the `flow_runs` or `task_runs` recorded as completed."""
    query: dict[str, object] = {kind: {"state": {"type": {"any_": ["COMPLETED"]}}}}
    if flow:
        query["flows"] = {"name": {"any_": [flow]}}
    request = urllib.request.Request(
        f"{os.environ['PREFECT_API_URL']}/{kind}/count",
        data=json.dumps(query).encode(),
        headers={"Content-Type": "application/json"},
    )
    with _direct.open(request, timeout=30) as response:
        return int(json.load(response))
