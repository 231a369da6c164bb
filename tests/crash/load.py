"""Callers who want everything that can be wanted, and ask again when no answer comes, as callers should."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Condition
from typing import Any
from uuid import UUID

import httpx2

from tests.system.harness import Reply, Server
from tests.system.processes import PATIENCE

FLOWS = {
    "chain": 6, "chain-async": 6, "narrow": 4, "single": 2, "alone": 1, "family": 3, "insists": 2, "again": 2,
    "sleeper": 2, "fails": 1,
}  # fmt: skip
"""The flows of `flows/mixed.py`, and how often each is asked for."""

NO_ANSWER = 500
"""From this HTTP status on the caller knows nothing, and asks again."""


class OverError(Exception):
    """No server will answer any more."""


@dataclass
class Given:
    """What callers were given.

    Attributes:
        receipts: receipts of admitted and replayed requests.
        cancelled: runs that somebody asked to cancel, answered or not.
        refused: how often each code came.
        wrong: answers that must not be.
    """

    receipts: list[dict[str, Any]] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Load:
    """Callers on threads of their own.

    Args:
        server: who is asked; it may die and be started again.
        log: where the flows note what they do.
        seed: of what is asked for.
        callers: how many.
    """

    def __init__(self, server: Server, log: Path, seed: int, callers: int = 4) -> None:
        self.given = Given()
        self._server = server
        self._log = log
        self._changed = Condition()
        self._lives = 0
        self._enough = False
        self._intents = count(1)
        self._keyed: list[tuple[dict[str, Any], str]] = []
        self._pool = ThreadPoolExecutor(callers)
        self._futures: list[Future[None]] = [
            self._pool.submit(self._call, random.Random(seed * 1000 + number)) for number in range(callers)
        ]

    def answered(self, number: int) -> bool:
        """Say whether callers have so many receipts. Returns false when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.given.receipts) >= number, PATIENCE)

    def restarted(self) -> None:
        """Tell callers that there is a server again."""
        with self._changed:
            self._lives += 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Let every caller finish what it began."""
        self._enough = True
        for future in self._futures:
            future.result(PATIENCE * 2)
        self._pool.shutdown()

    def abandon(self) -> None:
        """Let callers go without an answer."""
        with self._changed:
            self._enough, self._lives = True, -1
            self._changed.notify_all()
        self._pool.shutdown(cancel_futures=True)

    # --- callers -------------------------------------------------------------------------------------

    def _call(self, chance: random.Random) -> None:
        kinds = (self._submit, self._batch, self._cancel, self._rerun, self._repeat, self._invalid)
        try:
            while not self._enough:
                (kind,) = chance.choices(kinds, (60, 10, 8, 5, 12, 5))
                kind(chance)
                time.sleep(chance.uniform(0, 0.06))
        except OverError:
            return

    def _insist(self, path: str, body: Any, **query: str) -> Reply:
        """Ask until there is an answer."""
        while True:
            reply = self._ask(path, body, **query)
            if reply is not None:
                return reply

    def _ask(self, path: str, body: Any, **query: str) -> Reply | None:
        """Ask once; when no answer comes, wait for a server that could give one."""
        lives = self._lives
        if lives < 0:
            raise OverError
        try:
            reply = self._server.api.post(path, body, **query)
        except (httpx2.TransportError, RuntimeError):  # the connection, or the client that was just closed
            with self._changed:
                self._changed.wait_for(lambda: self._lives != lives, PATIENCE)
            return None
        if reply.status < NO_ANSWER:
            return reply
        self.given.refused[reply.body.get("code", str(reply.status))] += 1
        time.sleep(0.05)
        return None

    def _request(self, chance: random.Random) -> dict[str, Any]:
        (flow,) = chance.choices(list(FLOWS), list(FLOWS.values()))
        inputs = {
            "log": str(self._log),
            "intent": next(self._intents),
            "pause": chance.choice([0.0, 0.002, 0.02, 0.15]),
        }
        request: dict[str, Any] = {"flow": flow, "inputs": inputs}
        mark = UUID(int=chance.getrandbits(128), version=4)
        if chance.random() < 0.5:
            request["request_id"] = str(mark)
        else:
            request["idempotency_key"] = f"key-{mark}"
        return request

    def _receipt(self, request: dict[str, Any], receipt: dict[str, Any]) -> None:
        with self._changed:
            self.given.receipts.append(receipt)
            self._keyed.append((request, receipt["run_id"]))
            self._changed.notify_all()

    def _submit(self, chance: random.Random) -> None:
        request = self._request(chance)
        query = {"wait": "2s"} if chance.random() < 0.2 else {}
        reply = self._insist("/v1/runs", request, **query)
        if reply.status in (200, 202):
            self._receipt(request, reply.body)
        else:
            self.given.wrong.append(f"{request} was answered {reply}")

    def _batch(self, chance: random.Random) -> None:
        requests = [self._request(chance) for _ in range(chance.randint(2, 12))]
        while requests:
            reply = self._insist("/v1/runs/batch", {"requests": requests})
            if reply.status != 200:
                self.given.wrong.append(f"a batch was answered {reply}")
                return
            left = []
            for request, receipt in zip(requests, reply.body["receipts"], strict=True):
                if receipt["outcome"] in ("admitted", "replayed"):
                    self._receipt(request, receipt)
                else:
                    self.given.refused[receipt["code"]] += 1
                    left.append(request)
            requests = left

    def _cancel(self, chance: random.Random) -> None:
        if not self._keyed:
            return
        _, run = chance.choice(self._keyed[-20:])
        self.given.cancelled.add(run)
        self._ask(f"/v1/runs/{run}/cancel", {"force": chance.random() < 0.1})

    def _rerun(self, chance: random.Random) -> None:
        if not self._keyed:
            return
        _, run = chance.choice(self._keyed[-50:])
        reply = self._ask(f"/v1/runs/{run}/rerun", {"inputs": {"intent": -next(self._intents)}})
        if reply is not None and reply.status == 202:
            with self._changed:
                self.given.receipts.append(reply.body)
                self._changed.notify_all()

    def _repeat(self, chance: random.Random) -> None:
        """Ask for something again that was answered long ago: it is the same run."""
        if not self._keyed:
            return
        request, run = chance.choice(self._keyed)
        reply = self._insist("/v1/runs", request)
        if reply.status not in (200, 202) or (reply.body["run_id"], reply.body["replayed"]) != (run, True):
            self.given.wrong.append(f"{request} was run {run}, and asked again is {reply}")

    def _invalid(self, chance: random.Random) -> None:
        reply = self._insist("/v1/runs", {"flow": "chain", "inputs": {"intent": "x"}})
        if reply.status != 422:
            self.given.wrong.append(f"invalid inputs were answered {reply}")
