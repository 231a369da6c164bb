"""One day: callers and kills under a fast clock, then quiet, and the check."""

from __future__ import annotations

import base64
import contextlib
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from pullcord.clock import rfc3339
from pullcord.settings import Settings
from tests.crash.verify import doctor, every, settle
from tests.day.life import Life
from tests.day.operations import OPERATIONS, PAUSED, Operation, available
from tests.day.pace import HOUR, starting_now
from tests.day.receiver import Receiver
from tests.day.verify import LISTED, QUARTER, problems
from tests.day.world import OverError, World
from tests.system.harness import Server
from tests.system.processes import PATIENCE, poll

CODE: Final = Path(__file__).parent / "flows" / "day.py"

CALLERS: Final = 4

QUIET: Final = 120.0
"""Seconds in which everything must have ended when nobody asks or kills any more."""

ONLINE_EVERY: Final = 30
"""After so many strikes the doctor looks at the store beside the busy server."""

REFUSING: Final = "notifications: channel ops: "
"""What the doctor rightly says of a receiver that refuses for a while, as this one does."""

KEY: Final = b"a key of the sender's and the server's"

OFTEN: Final = {"pullcord.engine.alarm": {"LOOK": 0.02}, "pullcord.triggers.schedules": {"LOOK": 0.02}}
"""Where the server looks at the clock now and then, it looks more often: the clock is fast."""


@dataclass
class Outcome:
    """How a day went.

    Attributes:
        asked: how often each operation was done.
        left_out: operations that the server does not have.
        refused: how often each code came.
        kills: how often each thing died.
        restarts: orderly ones.
        deploys: how often the code was changed.
        lives: how often a server was started.
        runs: how many there are.
        told: how many messages the receiver took.
        seconds: how long the day, and all of it, took.
        problems: what is not as it must be; all is well when there are none.
    """

    asked: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    deploys: int = 0
    lives: int = 0
    runs: int = 0
    told: int = 0
    seconds: tuple[float, float] = (0.0, 0.0)
    problems: list[str] = field(default_factory=list)


def run(
    folder: Path, hours: float, seed: int, rate: float = 240.0, tell: Callable[[float], None] = lambda done: None
) -> Outcome:
    """Run a day.

    Args:
        folder: an empty folder for everything.
        hours: simulated ones.
        seed: of what is asked for and what dies; when it dies is left to chance.
        rate: simulated seconds to a real one.
        tell: told how many simulated hours are over.
    """
    start = time.monotonic()
    log, numbers, code = folder / "steps.jsonl", folder / "numbers", folder / "code" / CODE.name
    log.touch()
    numbers.write_text("0")
    code.parent.mkdir()
    shutil.copy(CODE, code)
    chance, pace = random.Random(seed), starting_now(rate)
    environment = pace.environment | {
        "DAY_LOG": str(log), "DAY_NUMBERS": str(numbers), "DAY_SECRET": f"whsec_{base64.b64encode(KEY).decode()}",
    }  # fmt: skip
    receiver = Receiver(random.Random(seed + 1))
    (folder / "pullcord.toml").write_text(settings(receiver.port))
    server = Server(folder / "data", code, environment=environment, constants=OFTEN)
    world = World(server, pace, numbers, KEY, receiver)
    life = Life(server, world, code, folder / "points", chance)
    outcome = Outcome()
    receiver.start()
    try:
        life.begin()
        began = pace.now()
        operations = available(world.operations())
        outcome.left_out = sorted(set(OPERATIONS) - set(operations))
        with Callers(world, operations, seed) as callers:
            end, strikes = pace.began + round(hours * HOUR), 0
            while pace.now() < end or life.kills.total() + life.restarts == 0:
                time.sleep(chance.uniform(0.2, 4.0))
                life.strike()
                strikes += 1
                tell((pace.now() - pace.began) / HOUR)
                if strikes % ONLINE_EVERY == 0:
                    found = [it for it in doctor(server.data_dir) if REFUSING not in it]
                    outcome.problems += [f"beside the server: {it}" for it in found]
            outcome.seconds = (time.monotonic() - start, 0.0)
            callers.finish()
        ended = quiet(world, began)
        outcome.problems += [*life.unwell, *settle(server.api, QUIET), *drained(world)]
        prune(world)
        outcome.problems += problems(world, log, began, ended)
        outcome.runs = sum(1 for _ in every(server.api, "/v1/runs"))
        if server.stop() != 0:
            outcome.problems.append("the server did not stop in order")
        outcome.problems += [f"after the stop: {it}" for it in doctor(server.data_dir)]
        outcome.seconds = (outcome.seconds[0], time.monotonic() - start)
        return outcome
    finally:
        outcome.asked, outcome.refused = world.facts.asked, world.facts.refused
        outcome.told = receiver.got.total()
        outcome.kills, outcome.lives = life.kills, life.lives
        outcome.restarts, outcome.deploys = life.restarts, life.deploys
        server.clean_up()
        receiver.stop()


def settings(port: int) -> str:
    """Return the settings file: what this server can be told."""
    known = {item.name for item in fields(Settings)}
    if "channels" not in known:
        return ""
    return f"""
[channels.ops]
kind = "webhook"
url = "http://127.0.0.1:{port}/"
secret = "env:DAY_SECRET"
timeout = "2s"
"""


class Callers:
    """Threads that do one thing after the other.

    Args:
        world: what they share.
        operations: what they do.
        seed: of what they do.
    """

    def __init__(self, world: World, operations: dict[str, Operation], seed: int) -> None:
        self._world = world
        self._operations = operations
        self._enough = False
        self._pool = ThreadPoolExecutor(CALLERS)
        self._futures: list[Future[None]] = [
            self._pool.submit(self._work, random.Random(seed * 1000 + number)) for number in range(CALLERS)
        ]

    def finish(self) -> None:
        """Let every caller finish what it began."""
        self._enough = True
        for future in self._futures:
            future.result(PATIENCE * 2)

    def __enter__(self) -> Callers:
        return self

    def __exit__(self, *_: object) -> None:
        self._enough = True
        self._world.end()
        self._pool.shutdown(cancel_futures=True)
        self._world.over = False

    def _work(self, chance: random.Random) -> None:
        names = list(self._operations)
        weights = [self._operations[name].weight for name in names]
        try:
            while not self._enough:
                (name,) = chance.choices(names, weights)
                self._operations[name].act(self._world, chance)
                self._world.facts.asked[name] += 1
                time.sleep(chance.uniform(0.0, 0.12))
        except OverError:
            return


def quiet(world: World, began: int) -> int:
    """Let nothing new begin; return the simulated time at which the schedules were disabled, or a little earlier."""
    # The event is to see all its numbers first.
    poll(lambda: len(list(every(world.server.api, "/v1/runs", flow="counted"))) >= world.facts.numbers)
    world.receiver.reliable = True
    ended = world.pace.now()
    last = ended - ended % QUARTER
    if last > began:
        # A server that was just started may be catching up. That a tick is missing is for the check to say.
        with contextlib.suppress(AssertionError):
            poll(lambda: rfc3339(last) in {row["scheduled_for"] for row in steady(world)})
    if OPERATIONS["pause a flow"].needs in world.operations():
        for name in PAUSED:
            assert world.insist("post", f"/v1/flows/{name}/resume").status == 200
    for name in ("steady", "toggled", "paced"):
        reply = world.insist("patch", f"/v1/triggers/{name}", {"enabled": False, "reason": "the day is over"})
        assert reply.status == 200, reply
    return ended


def prune(world: World) -> None:
    """Let the server prune now, so that it does not do so by itself while lists and figures are compared."""
    needs = OPERATIONS["prune"].needs
    if needs in world.operations():
        assert world.insist(*needs).status == 202
        poll(lambda: not world.server.api.get("/v1/retention").body["pruning"])


def steady(world: World) -> Iterator[dict[str, Any]]:
    """Yield what the schedule whose ticks are counted has asked for."""
    return every(world.server.api, "/v1/requests", trigger="steady")


def drained(world: World) -> list[str]:
    """Wait until every end has started what it starts, and those have ended."""
    api = world.server.api

    def done() -> bool:
        chains = sum(not run["test"] for run in every(api, "/v1/runs", flow="chain"))
        followers = sum(run["trigger"]["kind"] == "completion" for run in every(api, "/v1/runs", flow="follower"))
        return followers >= chains

    try:
        poll(done, PATIENCE)
    except AssertionError:
        return ["not every end has started what it should"]
    left = settle(api, QUIET)
    if LISTED in world.operations():
        try:
            poll(lambda: not api.get("/v1/notifications", state="pending").body["items"], QUIET)
        except AssertionError:
            left.append("not everything was told")
    return left
