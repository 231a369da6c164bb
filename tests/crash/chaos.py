"""Kills: the server, a worker or the template, at a fail point or at any moment; and the server's next life."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from pullcord.failpoints import NAMES
from tests.system.harness import Server
from tests.system.processes import PATIENCE, await_end, kill, marked, poll

FIRES = 1.0
"""Seconds in which an armed point must fire; what does not is killed at any moment instead."""

OUTLIVED = ("worker.", "template.")
"""What begins so kills a process that the server outlives."""

AT_ANY_MOMENT = {"server": 12, "worker": 40, "template": 3, "everything": 3}
"""What is killed without a fail point, and how often beside each fail point's 2, or 5 where only a worker dies."""

RELOADS = 0.1
"""Before so many of the kills the server is told to load the code anew."""

HOT = ("gate.", "writer.", "dispatch.", "journal.", "worker.")
"""Points that are passed so often that every other pass can be let go by."""


class Load(Protocol):
    """Who wants to know of new lives."""

    def restarted(self) -> None:
        """Take note that there is a server again."""


class Chaos:
    """Kills processes of a server, and starts it again.

    Args:
        server: the server; it is started.
        folder: where markers are.
        chance: decides what dies.

    Attributes:
        kills: how often each thing died.
        lives: how often the server was started.
        reloads: how often it was told to load the code anew.
        survivors: processes of a dead server that were still there when the next one was ready.
    """

    def __init__(self, server: Server, folder: Path, chance: random.Random) -> None:
        self.kills: Counter[str] = Counter()
        self.lives = 0
        self.reloads = 0
        self.survivors = 0
        self._server = server
        self._folder = folder
        self._chance = chance
        self._load: Load | None = None
        self._weights = {name: 5 if name.startswith("worker.") else 2 for name in NAMES} | AT_ANY_MOMENT
        folder.mkdir()
        armed = []
        for name in NAMES:
            (folder / name).touch()
            armed.append(f"{name}@{folder / name}{':0.5' if name.startswith(HOT) else ''}")
        server.environment["PULLCORD_FAILPOINTS"] = ",".join(armed)

    def begin(self) -> None:
        """Start the server for the first time."""
        self._start()

    def watch(self, load: Load) -> None:
        """Tell this load of each new life."""
        self._load = load

    def strike(self) -> None:
        """Kill something; now and then the code is loaded anew just before."""
        if self._chance.random() < RELOADS and self._server.process.poll() is None:
            self._server.process.send_signal(signal.SIGHUP)
            self.reloads += 1
        (name,) = self._chance.choices(list(self._weights), list(self._weights.values()))
        if name in AT_ANY_MOMENT:
            self._kill(name)
        elif name.startswith(OUTLIVED):
            self._fire_below(name)
        else:
            self._fire(name)

    # --- at a point ----------------------------------------------------------------------------------

    def _fire(self, name: str) -> None:
        """Let the server die at a point."""
        marker = self._folder / name
        area = name.partition(".")[0]
        marker.unlink()
        if area == "start":
            self._kill_server("server")
            self._spawn()
        elif area in ("register", "takeover"):
            kill(self._server.workers_alive() if area == "register" else self._some_workers())
            self.kills["worker"] += 1
        elif area == "store":
            self._server.process.terminate()
        try:
            self._server.process.wait(PATIENCE if area in ("store", "start") else FIRES)
        except subprocess.TimeoutExpired:
            marker.touch()
            self._kill("server")
            return
        self.kills[name if marker.exists() else "server"] += 1
        marker.touch()
        self._next_life()

    def _fire_below(self, name: str) -> None:
        """Let a worker or the template die at a point."""
        marker = self._folder / name
        marker.unlink()
        if name.startswith("template."):
            kill(self._some_workers())
            self.kills["worker"] += 1
        deadline = time.monotonic() + FIRES
        while not marker.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        if marker.exists():
            self.kills[name] += 1
        else:
            marker.touch()
            self._kill("worker")

    # --- at any moment -------------------------------------------------------------------------------

    def _kill(self, victim: str) -> None:
        if victim == "worker":
            kill(self._some_workers())
            self.kills[victim] += 1
        elif victim == "template":
            poll(lambda: self._server.workers_alive())
            kill([self._server.template])
            self.kills[victim] += 1
        else:
            self._kill_server(victim)
            self._next_life()

    def _kill_server(self, victim: str) -> None:
        below = self._server.workers_alive() if victim == "everything" else []
        kill([self._server.pid, *below])
        self._server.process.wait(PATIENCE)
        self.kills[victim] += 1

    def _some_workers(self) -> list[int]:
        found = self._server.workers_alive()
        return self._chance.sample(found, min(len(found), self._chance.choice([1, 1, 1, 2])))

    # --- lives ---------------------------------------------------------------------------------------

    def _next_life(self) -> None:
        """Start again, half of the time before the dead server's processes are all gone."""
        before = self._server.mark
        if self._chance.random() < 0.5:
            await_end(marked(before))
        self._start()
        left = marked(before)
        self.survivors += len(left)
        await_end(left)
        if self._load is not None:
            self._load.restarted()

    def _spawn(self) -> None:
        self._server.mark = f"pullcord-crash-{uuid4()}"
        self._server.spawn()
        self.lives += 1

    def _start(self) -> None:
        self._server.mark = f"pullcord-crash-{uuid4()}"
        self._server.start()
        self._server.hang_up_on_the_dead()
        self.lives += 1
