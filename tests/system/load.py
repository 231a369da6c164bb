"""Many callers at once, who do what callers should: when no answer comes they ask again with the same key."""

from __future__ import annotations

import fcntl
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Condition
from typing import Any, Self

import httpx2

from tests.system.harness import Server
from tests.system.invariants import Done, recorded
from tests.system.processes import PATIENCE, poll
from tests.system.witnessed import lines_of

CALLERS = 8
MIX = ("chain", "narrow", "chain-async", "single", "family", "narrow")
"""The flows of `flows/steady.py` that the load asks for, in turn."""


class Load:
    """Requests for runs of `flows/steady.py`, on their way to a server that may die meanwhile.

    Args:
        server: the server.
        log: where the flows note what they do.
        count: how many requests.
        pause: how long each step takes.
        ahead: how many callers ask before `go_on`; with it there is one more run, which stands still in a worker until
            `let_go` or `finish`, so that a worker's death surely hits one. Unless given, all callers ask at once.

    Attributes:
        receipts: what callers were given.
        crashes: for each death of the server what it left on disk, as `check_invariants` takes it.
    """

    def __init__(
        self, server: Server, log: Path, count: int = 36, pause: float = 0.005, ahead: int | None = None
    ) -> None:
        self.receipts: list[dict[str, Any]] = []
        self.crashes: list[tuple[Done, int]] = []
        self._server = server
        self._log = log
        self._pause = pause
        self._count = count
        self._allowed = count if ahead is None else ahead
        self._stood = 0
        self._gate = log.with_name("gate").open("wb")
        if ahead is not None:
            fcntl.flock(self._gate, fcntl.LOCK_EX)
        self._held = ahead is not None
        self._changed = Condition()
        self._lives = 0
        self._pool = ThreadPoolExecutor(CALLERS)
        self._futures: list[Future[None]] = []

    def __enter__(self) -> Self:
        if self._held:
            self._futures.append(self._pool.submit(self._ask, "held", "load-held", {"gate": self._gate.name}))
        self._futures += [self._pool.submit(self._call, number) for number in range(self._count)]
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._lives = -1
            self._changed.notify_all()
        self._gate.close()
        self._pool.shutdown(cancel_futures=True)

    def acknowledged(self, count: int) -> None:
        """Wait until callers have so many receipts."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.receipts) >= count, PATIENCE), len(self.receipts)

    def standing(self) -> None:
        """Wait until a run stands still in a worker: for the first time, or anew after what held it has died."""

        def lines() -> int:
            return sum(line["kind"] == "held" for line in lines_of(self._log))

        poll(lambda: lines() > self._stood)
        self._stood = lines()

    def go_on(self) -> None:
        """Let the rest of the callers ask."""
        with self._changed:
            self._allowed = self._count
            self._changed.notify_all()

    def let_go(self) -> None:
        """Let the run that stands still go on."""
        fcntl.flock(self._gate, fcntl.LOCK_UN)

    def restart(self) -> None:
        """Start the dead server again, and let the callers go on. What it left on disk is kept for the check."""
        self.crashes.append((recorded(self._server.data_dir), len(self._log.read_text().splitlines())))
        self._server.start()
        with self._changed:
            self._lives += 1
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait until every caller has a receipt and every run has ended."""
        self.let_go()
        for future in self._futures:
            future.result(PATIENCE)
        assert len({receipt["run_id"] for receipt in self.receipts}) == len(self._futures)
        for receipt in self.receipts:
            self._server.api.end(receipt["run_id"])

    def _call(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: number < self._allowed or self._lives < 0, PATIENCE)
            assert self._lives >= 0, "the test is over"
        self._ask(MIX[number % len(MIX)], f"load-{number}", {})

    def _ask(self, flow: str, key: str, inputs: dict[str, Any]) -> None:
        everything = {"log": str(self._log), "pause": self._pause, **inputs}
        while True:
            lives = self._lives
            try:
                reply = self._server.api.ask(flow, everything, idempotency_key=key)
            except httpx2.TransportError:
                with self._changed:
                    assert self._changed.wait_for(lambda lives=lives: self._lives != lives, PATIENCE)
                    assert self._lives >= 0, "the test is over"
                continue
            if reply.status == 503 and reply.body["code"] == "location_unavailable":
                continue  # who validates inputs was killed twice, or is slow to come back
            assert reply.status in (200, 202), reply
            with self._changed:
                self.receipts.append(reply.body)
                self._changed.notify_all()
            return
