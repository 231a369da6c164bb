"""Loading a code location in a process of its own, as a worker would, to see whether it can be."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pullcord.core.errors import PullcordError

if TYPE_CHECKING:
    from pullcord.engine.locations import CodeLocation

PATIENCE: Final = 60.0
"""Seconds that code may take to load."""

_SCRIPT: Final = """
import json, os
answer = os.dup(1)
os.dup2(2, 1)
from pullcord.worker.start import unfit
problem = unfit()
if problem is None:
    from pullcord.worker.location import load
    found = load(sys.argv[3], sys.argv[4])
    said = {"flows": len(found.flows), "failures": found.failures}
else:
    said = {"unfit": problem}
os.write(answer, json.dumps(said).encode())
os._exit(0)
"""


def load_apart(place: str | CodeLocation) -> tuple[int, list[dict[str, Any]]]:
    """Return how many flows a location has, and what could not be loaded.

    Args:
        place: as typed by the user, or a location of the settings.
    """
    from pullcord.engine.environment import command, expose_package, variables
    from pullcord.engine.locations import locate

    try:
        location = locate(place) if isinstance(place, str) else place
    except PullcordError as error:
        return 0, [{"place": str(place), "message": error.message}]
    shown, python = place if isinstance(place, str) else location.target, location.python
    try:
        with tempfile.TemporaryDirectory(prefix="pullcord-") as folder:
            line = command(python, expose_package(Path(folder)), _SCRIPT, "1", location.kind, location.target)
            done = subprocess.run(
                line,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
                stdin=subprocess.DEVNULL,
                env=variables(python),
            )
    except subprocess.TimeoutExpired:
        return 0, [{"place": shown, "message": f"it takes longer than {PATIENCE:g} s to load"}]
    except OSError as error:
        return 0, [{"place": shown, "message": f"the interpreter {python} cannot be started: {error.strerror}"}]
    try:
        said = json.loads(done.stdout)
        if "unfit" in said:
            message = f"the interpreter {python} cannot be used: {said['unfit']}"
            return 0, [{"place": shown, "message": message}]
        count, failures = said["flows"], said["failures"]
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["without a word"])[-1]
        return 0, [{"place": shown, "message": f"the process that loads it died (status {done.returncode}): {last}"}]
    return int(count), list(failures)
