"""What happens to the server in a day: kills of everything, orderly restarts, new code."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Final

from tests.crash.chaos import Chaos
from tests.day.world import World
from tests.system.harness import Server

RESTARTS: Final = 0.12
"""So many of the strikes are an orderly restart."""

DEPLOYS: Final = 0.25
"""Before so many of the strikes the code is changed; a strike may load it anew, and every new worker does."""


class Life(Chaos):
    """Kills, restarts and deploys.

    Args:
        server: the server.
        world: is told of each new life.
        code: the file of flows that is served.
        folder: where markers of fail points are.
        chance: decides what happens.

    Attributes:
        restarts: orderly ones.
        deploys: how often the code was changed.
        unwell: what an orderly stop said that it must not.
    """

    def __init__(self, server: Server, world: World, code: Path, folder: Path, chance: random.Random) -> None:
        super().__init__(server, folder, chance)
        self.restarts = 0
        self.deploys = 0
        self.unwell: list[str] = []
        self._code = code
        self.watch(world)

    def strike(self) -> None:
        """Do something to the server."""
        if self._chance.random() < DEPLOYS:
            self._deploy()
        if self._chance.random() < RESTARTS:
            self._restart()
        else:
            super().strike()

    def _restart(self) -> None:
        """Stop in order, and start again."""
        status = self._server.stop()
        if status != 0:
            self.unwell.append(f"a server that was asked to stop ended with {status}")
        self.restarts += 1
        self._next_life()

    def _deploy(self) -> None:
        """Change the code as an editor does that writes a new file."""
        self.deploys += 1
        text = re.sub(r"^GENERATION = \d+$", f"GENERATION = {self.deploys}", self._code.read_text(), flags=re.MULTILINE)
        fresh = self._code.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._code)
