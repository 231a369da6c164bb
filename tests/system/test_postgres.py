"""A real server on PostgreSQL, which dies and comes back while runs are asked for and executed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.postgres import PostgresServer
from tests.system.harness import Server, Start
from tests.system.meeting import Meeting
from tests.system.processes import PATIENCE, poll
from tests.system.witnessed import executions, lines_of


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


class Callers:
    """Callers who ask again with the same key while they get no receipt."""

    def __init__(self, server: Server, log: Path, count: int) -> None:
        self.receipts: dict[str, dict[str, Any]] = {}
        self.refused = 0
        self._server = server
        self._inputs = {"log": str(log), "pause": 0.005}
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._call, args=(f"key-{number}",)) for number in range(count)]

    def start(self) -> None:
        """Let all of them ask."""
        for thread in self._threads:
            thread.start()

    def wait(self, count: int) -> None:
        """Wait until so many have a receipt."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.receipts) >= count, 2 * PATIENCE), len(self.receipts)

    def finish(self) -> None:
        """Wait until all have one."""
        for thread in self._threads:
            thread.join()

    def _call(self, key: str) -> None:
        while True:
            try:
                reply = self._server.api.ask("chain", self._inputs, idempotency_key=key)
            except httpx2.TransportError:
                continue
            if reply.status in (200, 202):
                with self._changed:
                    self.receipts[key] = reply.body
                    self._changed.notify_all()
                return
            assert (reply.status, reply.body["code"]) in ((503, "store_error"), (503, "location_unavailable")), reply
            self.refused += 1


def doctor(server: Server) -> str:
    """Run `pullcord doctor --deep`; it must find nothing."""
    command = [sys.executable, "-m", "pullcord", "doctor", "--deep", "--data-dir", str(server.data_dir)]
    found = subprocess.run(command, capture_output=True, text=True, env=os.environ | server.environment, timeout=60)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_nothing_is_lost_when_postgresql_dies_in_a_load(
    mode: str, serve: Start, postgres: PostgresServer, log: Path
) -> None:
    url = postgres.url(postgres.create())
    server = serve(environment={"PULLCORD_DATABASE_URL": url})
    callers = Callers(server, log, 40)
    callers.start()
    callers.wait(10)
    if mode == "kill":
        postgres.kill()
    else:
        postgres.stop(mode)
    postgres.start()
    callers.finish()
    assert len({receipt["run_id"] for receipt in callers.receipts.values()}) == 40
    for receipt in callers.receipts.values():
        assert server.api.end(receipt["run_id"])["state"] == "succeeded"
    counts = executions(lines_of(log))
    assert all(times == 1 for steps in counts.values() for times in steps.values()), "no worker died: no step ran twice"
    assert "every admitted request has its run" in doctor(server)
    assert server.stop() == 0


def test_a_run_goes_on_after_the_server_died(serve: Start, postgres: PostgresServer, meeting: Meeting) -> None:
    server = serve(environment={"PULLCORD_DATABASE_URL": postgres.url(postgres.create())})
    run = server.api.run("meets", {"port": meeting.port, "texts": ["one", "two"]})
    meeting.guest().go()
    meeting.guest()
    server.kill()
    server.start()
    again = meeting.guest()
    assert again.text == "two", "the first step has its record"
    again.go()
    ended = server.api.end(run)
    assert (ended["state"], ended["takeovers"]) == ("succeeded", 1)
    assert server.stop() == 0


def test_a_second_server_is_refused(serve: Start, postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.url(postgres.create())
    server = serve(environment={"PULLCORD_DATABASE_URL": url})
    command = [sys.executable, "-m", "pullcord", "serve", "--port", "0", "--data-dir", str(tmp_path / "other")]
    second = subprocess.run(command, capture_output=True, text=True, env=os.environ | server.environment, timeout=60)
    assert second.returncode == 1
    assert f"in use by another Pullcord (process {server.pid} on " in second.stderr


def test_it_says_that_postgresql_is_away_and_that_it_is_back(serve: Start, postgres: PostgresServer) -> None:
    server = serve(environment={"PULLCORD_DATABASE_URL": postgres.url(postgres.create())})
    assert server.api.get("/readyz").status == 200
    postgres.stop()
    poll(lambda: server.api.get("/readyz").status == 503)
    # It is also not ready while it waits for a small write that is slow to fail.
    poll(lambda: "pullcord_store_up 0.0" in server.api.text("/metrics"))
    reply = server.api.ask("chain")
    assert (reply.status, reply.body["code"]) == (503, "store_error")
    assert "PostgreSQL cannot be reached" in reply.body["detail"]
    postgres.start()
    poll(lambda: server.api.get("/readyz").status == 200)
    assert "pullcord_store_up 1.0" in server.api.text("/metrics")
    assert server.stop() == 0
