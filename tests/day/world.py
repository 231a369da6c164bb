"""What callers share: the server that may die, what was promised, and asking again when no answer comes."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Condition, Lock
from typing import Any, Final
from uuid import UUID

import httpx2

from tests.day.pace import Pace
from tests.day.receiver import Receiver
from tests.system.harness import Reply, Server
from tests.system.processes import PATIENCE

NO_ANSWER: Final = 500
"""From this HTTP status on the caller knows nothing, and asks again."""

ENDED: Final = ("succeeded", "failed", "cancelled")

LATER: Final = frozenset({"flow_paused", "queue_full", "rate_limited", "overlap_rejected", "location_unavailable"})
"""Refusals that a day may bring; every other one of a sound request is a fault."""


class OverError(Exception):
    """The day is over."""


@dataclass
class Facts:
    """What callers were told and did.

    Attributes:
        receipts: receipts of admitted and replayed requests.
        keyed: requests with a key or an id, and the runs that they became.
        cancelled: runs that somebody asked to cancel, answered or not.
        ended: the first look at a run that had ended.
        delivered: the runs that deliveries became, by number.
        brief: runs that are not kept for long.
        answers: what was taken as the answer of a run's question.
        doubtful: answers of which nobody was told what became of them.
        numbers: how many numbers the event was given.
        asked: how often each operation was done.
        refused: how often each code came.
        wrong: answers that must not be.
    """

    receipts: list[dict[str, Any]] = field(default_factory=list)
    keyed: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    delivered: dict[int, str] = field(default_factory=dict)
    brief: set[str] = field(default_factory=set)
    answers: dict[str, int] = field(default_factory=dict)
    doubtful: dict[str, set[int]] = field(default_factory=dict)
    numbers: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class World:
    """One server through all its lives.

    Args:
        server: who is asked.
        pace: its clock.
        numbers: the file with the number up to which the event fires.
        key: of the webhook.
        receiver: who is told of failures.
    """

    def __init__(self, server: Server, pace: Pace, numbers: Path, key: bytes, receiver: Receiver) -> None:
        self.server = server
        self.receiver = receiver
        self.pace = pace
        self.key = key
        self.facts = Facts()
        self.intents = count(1)
        self._numbers = numbers
        self._lock = Lock()
        self._changed = Condition()
        self._lives = 0
        self.over = False

    # --- lives ---------------------------------------------------------------------------------------

    def restarted(self) -> None:
        """Tell callers that there is a server again."""
        with self._changed:
            self._lives += 1
            self._changed.notify_all()

    def end(self) -> None:
        """Let callers go without an answer."""
        with self._changed:
            self.over = True
            self._changed.notify_all()

    def operations(self) -> set[tuple[str, str]]:
        """Return the calls that the server's own document names, as `("post", "/v1/runs")`."""
        document = self.server.api.get("/openapi.json").body
        return {(method, path) for path, methods in document["paths"].items() for method in methods}

    # --- asking --------------------------------------------------------------------------------------

    def insist(self, method: str, path: str, body: Any = None, **query: str) -> Reply:
        """Ask until there is an answer."""
        while True:
            reply = self.ask(method, path, body, headers=None, **query)
            if reply is not None:
                return reply

    def ask(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, **query: str
    ) -> Reply | None:
        """Ask once; when no answer comes, wait for a server that could give one."""
        lives = self._lives
        if self.over:
            raise OverError
        try:
            reply = self.server.api.call(method, path, body, headers, **query)
        except (httpx2.TransportError, RuntimeError):  # the connection, or the client that was just closed
            with self._changed:
                self._changed.wait_for(lambda: self._lives != lives or self.over, PATIENCE)
            return None
        if reply.status < NO_ANSWER:
            return reply
        self.facts.refused[reply.body.get("code", str(reply.status))] += 1
        time.sleep(0.05)
        return None

    def text(self, path: str) -> str | None:
        """Ask for something that is no JSON; None when there is no answer or nothing there."""
        try:
            return self.server.api.plain(path)
        except (httpx2.TransportError, RuntimeError):
            return None

    # --- what was promised ---------------------------------------------------------------------------

    def took(self, request: dict[str, Any] | None, reply: Reply) -> str | None:
        """Note what a request became; return its run."""
        body, what = reply.body, request or "a request"
        outcome = body.get("outcome")
        if outcome in ("admitted", "replayed") and reply.status in (200, 202):
            self.facts.receipts.append(body)
            if body["flow"] == "brief":
                self.facts.brief.add(body["run_id"])
            if request is not None and ("request_id" in request or "idempotency_key" in request):
                self.facts.keyed.append((request, body["run_id"]))
            return str(body["run_id"])
        code = str(body.get("code"))
        if outcome == "skipped" or code in LATER:
            self.facts.refused[code] += 1
        else:
            self.facts.wrong.append(f"{what} was answered {reply}")
        return None

    def saw(self, run: dict[str, Any]) -> None:
        """Compare a run with what was seen of it before: an ended one stays as it is."""
        if run["flow"] == "brief":
            self.facts.brief.add(run["id"])
        if run["state"] in ENDED:
            shown = {name: run[name] for name in ("state", "ended_at", "started_at", "attempt")}
            first = self.facts.ended.setdefault(run["id"], shown)
            if first != shown:
                self.facts.wrong.append(f"run {run['id']} had ended as {first}, and is {shown}")

    def one_more_number(self) -> None:
        """Give the event something to fire."""
        with self._lock:
            self.facts.numbers += 1
            fresh = self._numbers.with_suffix(".new")
            fresh.write_text(json.dumps(self.facts.numbers))
            fresh.replace(self._numbers)

    def some_run(self, chance: random.Random, newest: int = 100) -> str | None:
        """Return a run among the newest that were promised; any of all for 0."""
        receipts = self.facts.receipts[-newest:]
        return None if not receipts else str(chance.choice(receipts)["run_id"])

    def some_end(self, chance: random.Random) -> str | None:
        """Return a run that was seen to have ended, not well if there is one."""
        ended = list(self.facts.ended.items())[-200:]
        bad = [run for run, shown in ended if shown["state"] != "succeeded"]
        found = bad or [run for run, _ in ended]
        return chance.choice(found) if found else None

    @staticmethod
    def mark(chance: random.Random) -> str:
        """Return an id that nobody else has."""
        return str(UUID(int=chance.getrandbits(128), version=4))
