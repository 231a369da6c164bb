"""Many callers at once, who do what callers should: when no answer comes they ask again with the same key."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Condition
from typing import Any, Self

import httpx2

from tests.system.harness import Server
from tests.system.invariants import Done, recorded
from tests.system.processes import PATIENCE

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

    Attributes:
        receipts: what callers were given.
        crashes: for each death of the server what it left on disk, as `check_invariants` takes it.
    """

    def __init__(self, server: Server, log: Path, count: int = 36, pause: float = 0.005) -> None:
        self.receipts: list[dict[str, Any]] = []
        self.crashes: list[tuple[Done, int]] = []
        self._server = server
        self._log = log
        self._pause = pause
        self._count = count
        self._changed = Condition()
        self._lives = 0
        self._pool = ThreadPoolExecutor(CALLERS)
        self._futures: list[Future[None]] = []

    def __enter__(self) -> Self:
        self._futures = [self._pool.submit(self._call, number) for number in range(self._count)]
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._lives = -1
            self._changed.notify_all()
        self._pool.shutdown(cancel_futures=True)

    def acknowledged(self, count: int) -> None:
        """Wait until callers have so many receipts."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.receipts) >= count, PATIENCE), len(self.receipts)

    def restart(self) -> None:
        """Start the dead server again, and let the callers go on. What it left on disk is kept for the check."""
        self.crashes.append((recorded(self._server.data_dir), len(self._log.read_text().splitlines())))
        self._server.start()
        with self._changed:
            self._lives += 1
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait until every caller has a receipt and every run has ended."""
        for future in self._futures:
            future.result(PATIENCE)
        assert len({receipt["run_id"] for receipt in self.receipts}) == self._count
        for receipt in self.receipts:
            self._server.api.end(receipt["run_id"])

    def _call(self, number: int) -> None:
        inputs = {"log": str(self._log), "pause": self._pause}
        key = f"load-{number}"
        while True:
            lives = self._lives
            try:
                reply = self._server.api.ask(MIX[number % len(MIX)], inputs, idempotency_key=key)
            except httpx2.TransportError:
                with self._changed:
                    assert self._changed.wait_for(lambda lives=lives: self._lives != lives, PATIENCE)
                    assert self._lives >= 0, "the test is over"
                continue
            assert reply.status in (200, 202), reply
            with self._changed:
                self.receipts.append(reply.body)
                self._changed.notify_all()
            return
