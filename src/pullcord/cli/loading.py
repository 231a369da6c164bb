"""Loading a code location in a process of its own, as a worker would, to see whether it can be."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Final

from pullcord.core.errors import PullcordError

PATIENCE: Final = 60.0
"""Seconds that code may take to load."""

_SCRIPT: Final = """
import json, os, sys
answer = os.dup(1)
os.dup2(2, 1)
from pullcord.worker.location import load
found = load(sys.argv[1], sys.argv[2])
os.write(answer, json.dumps([len(found.flows), found.failures]).encode())
os._exit(0)
"""


def load_apart(place: str) -> tuple[int, list[dict[str, Any]]]:
    """Return how many flows a location has, and what could not be loaded."""
    from pullcord.engine.locations import locate

    try:
        location = locate(place)
    except PullcordError as error:
        return 0, [{"place": place, "message": error.message}]
    command = [location.python, "-c", _SCRIPT, location.kind, location.target]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return 0, [{"place": place, "message": f"it takes longer than {PATIENCE:g} s to load"}]
    except OSError as error:
        return 0, [{"place": place, "message": f"{location.python} cannot be started: {error.strerror}"}]
    try:
        count, failures = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["without a word"])[-1]
        return 0, [{"place": place, "message": f"the process that loads it died (status {done.returncode}): {last}"}]
    return int(count), list(failures)
