"""One campaign: a load, so many kills, quiet, and the check."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.chaos import Chaos
from tests.crash.load import Load
from tests.crash.verify import doctor, problems, settle
from tests.system.harness import Server

FLOWS = Path(__file__).parent / "flows" / "mixed.py"

ONLINE_EVERY = 100
"""After so many kills the doctor looks at the store beside the busy server."""

QUIET = 180.0
"""Seconds in which everything must have ended when nobody asks or kills any more."""


@dataclass
class Outcome:
    """How a campaign went.

    Attributes:
        kills: how often each thing died.
        lives: how often the server was started.
        reloads: how often it was told to load the code anew.
        survivors: processes of a dead server that were still there when the next one was ready.
        receipts: how many receipts were given.
        refused: how often each code came.
        seconds: how long the kills, and how long all of it took.
        problems: what is not as it must be; all is well when there are none.
    """

    kills: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    reloads: int = 0
    survivors: int = 0
    receipts: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    seconds: tuple[float, float] = (0.0, 0.0)
    problems: list[str] = field(default_factory=list)


def run(folder: Path, kills: int, seed: int, tell: Callable[[int], None] = lambda done: None) -> Outcome:
    """Run a campaign.

    Args:
        folder: an empty folder for everything.
        kills: how many.
        seed: of what is asked for and what dies; when it dies is left to chance.
        tell: told how many kills were made.
    """
    began = time.monotonic()
    log = folder / "steps.jsonl"
    log.touch()
    (folder / "steps.jsonl.marks").mkdir()
    chance = random.Random(seed)
    server = Server(folder / "data", FLOWS)
    chaos = Chaos(server, folder / "points", chance)
    outcome = Outcome()
    try:
        chaos.begin()
        load = Load(server, log, seed)
        chaos.watch(load)
        try:
            looked = 0
            while chaos.kills.total() < kills:
                time.sleep(chance.uniform(0.0, 0.15))
                before = len(load.given.receipts)
                chaos.strike()
                if not load.answered(before + chance.randint(1, 8)):
                    outcome.problems.append(f"nobody was answered any more after {chaos.kills.total()} kills")
                    return outcome
                tell(chaos.kills.total())
                if chaos.kills.total() // ONLINE_EVERY > looked:
                    looked = chaos.kills.total() // ONLINE_EVERY
                    outcome.problems += [f"beside the server: {it}" for it in doctor(server.data_dir)]
            struck = time.monotonic() - began
            load.stop()
        finally:
            load.abandon()
        outcome.problems += settle(server.api, QUIET)
        outcome.problems += problems(server, load.given, log)
        outcome.receipts, outcome.refused = len(load.given.receipts), load.given.refused
        if server.stop() != 0:
            outcome.problems.append("the server did not stop in order")
        outcome.problems += [f"after the stop: {it}" for it in doctor(server.data_dir)]
        outcome.seconds = (struck, time.monotonic() - began)
        return outcome
    finally:
        outcome.kills, outcome.lives, outcome.reloads = chaos.kills, chaos.lives, chaos.reloads
        outcome.survivors = chaos.survivors
        server.clean_up()
