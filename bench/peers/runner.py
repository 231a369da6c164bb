"""Build a peer's environment and run its measurement there. Standard library only."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bench.peers.shape import Report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENTS = ROOT / ".bench"
TAIL = 3000


class PeerError(Exception):
    """A peer could not be installed or measured; the message says why."""


@dataclass(frozen=True)
class Peer:
    """One system to measure, how much of it, and for how long at most."""

    name: str
    runs: int
    concurrency: int
    seconds: int = 240

    @property
    def requirements(self) -> Path:
        """What its environment holds."""
        return HERE / f"requirements-{self.name}.txt"


PEERS = {peer.name: peer for peer in (Peer("dbos", 600, 8), Peer("prefect", 16, 2))}


def python_of(peer: Peer) -> Path:
    """Build the peer's environment unless it is there and holds what its requirements ask for now."""
    folder = ENVIRONMENTS / f"{peer.name}-venv"
    stamp, python = folder / "installed.txt", folder / "bin" / "python"
    wanted = peer.requirements.read_text(encoding="utf-8") + f"# Python {sys.version.split()[0]}\n"
    if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    print(f"building .bench/{folder.name} ...", file=sys.stderr, flush=True)
    ENVIRONMENTS.mkdir(exist_ok=True)
    (ENVIRONMENTS / ".gitignore").write_text("*\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(folder)], dict(os.environ), 120)
    run([str(python), "-m", "pip", "install", "--quiet", "-r", str(peer.requirements)], dict(os.environ), 900)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def measure(peer: Peer) -> Report:
    """Run the peer's script in its environment, away from this repository's folder and settings."""
    python = python_of(peer)
    print(f"measuring {peer.name} ...", file=sys.stderr, flush=True)
    own = ("DBOS", "PREFECT_", "PYTHON")
    settings = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    settings |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "NO_PROXY": "127.0.0.1,localhost"}
    sizes = ["--runs", str(peer.runs), "--concurrency", str(peer.concurrency)]
    output = run([str(python), "-m", f"bench.peers.{peer.name}_peer", *sizes], settings, peer.seconds)
    try:
        return cast(Report, json.loads(output))
    except ValueError:
        raise PeerError(f"printed something other than one JSON object:\n{output[-TAIL:]}") from None


def run(command: list[str], settings: dict[str, str], seconds: int) -> str:
    """Run a command in an empty folder and return its standard output; end all it started when it fails or overruns."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as err,
    ):
        child = subprocess.Popen(
            command,
            cwd=folder,
            env={**settings, "TMPDIR": folder},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        problem = ""
        try:
            if status := child.wait(seconds):
                problem = f"exit status {status}"
        except subprocess.TimeoutExpired:
            problem = f"not done within {seconds} s"
        finally:
            end_group(child)
        out.seek(0)
        err.seek(0)
        output = out.read()
        if problem:
            raise PeerError(f"{problem}\n{err.read()[-TAIL:].strip() or output[-TAIL:].strip()}")
        return output


def end_group(child: subprocess.Popen[bytes]) -> None:
    """End the process and whatever it left behind in its own process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
