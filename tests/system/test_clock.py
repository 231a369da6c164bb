"""The machine's clock jumps by hours, both ways: no due run is lost or starts twice, and no wait grows with it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import STEADY, Server, Start
from tests.system.witnessed import executions, lines_of

HOUR = 3600
QUICK = {"pullcord.engine.alarm": {"LOOK": 0.05}}
RETRYING = """
import pullcord as pc


def attempt() -> str:
    if pc.run().attempt == 1:
        raise ValueError("the first try fails")
    return "done"


# Long enough to be seen, and for the clock to be moved meanwhile.
@pc.flow(retries=pc.Retry(limit=1, delay=12.0, backoff=1.0, jitter=False))
def later_try() -> str:
    return attempt()


@pc.flow(retries=pc.Retry(limit=1, delay=3.0, backoff=1.0, jitter=False))
def second_try() -> str:
    return attempt()
"""


class Machine:
    """A server whose clock a test moves."""

    def __init__(self, serve: Start, folder: Path, *flows: Path) -> None:
        self._file = folder / "clock"
        self.move(0)
        environment = {"PULLCORD_TEST_CLOCK": str(self._file)}
        self.server: Server = serve(*flows, constants=QUICK, environment=environment)

    def move(self, ahead: int) -> None:
        """Let the clock be ahead of the true time by some seconds."""
        self.ahead = ahead
        new = self._file.with_suffix(".new")
        new.write_text(str(ahead))
        new.replace(self._file)

    def time(self, later: int) -> str:
        """Return a moment by that clock."""
        return (datetime.now(UTC) + timedelta(seconds=self.ahead + later)).isoformat()


@pytest.fixture
def flows(tmp_path: Path) -> tuple[Path, ...]:
    place = tmp_path / "retrying.py"
    place.write_text(RETRYING)
    return STEADY, place


def test_due_runs_start_once_when_the_clock_says_so(serve: Start, tmp_path: Path, log: Path) -> None:
    machine = Machine(serve, tmp_path)
    api = machine.server.api
    soon = api.run("chain", {"log": str(log)}, not_before=machine.time(HOUR))
    later = api.run("chain", {"log": str(log)}, not_before=machine.time(6 * HOUR))
    machine.move(2 * HOUR)
    assert api.end(soon)["state"] == "succeeded"
    assert api.look(later)["state"] == "scheduled"
    machine.move(-3 * HOUR)
    again = api.run("chain", {"log": str(log)}, not_before=machine.time(HOUR))
    assert api.result("chain", {"log": str(log)})["state"] == "succeeded", "it goes on as usual meanwhile"
    assert {api.look(run)["state"] for run in (later, again)} == {"scheduled"}
    machine.move(7 * HOUR)
    for run in (later, again):
        assert api.end(run)["state"] == "succeeded"
    items: list[dict[str, Any]] = api.get("/v1/runs").body["items"]
    assert len(items) == 4
    assert [item["id"] for item in items] == sorted((item["id"] for item in items), reverse=True)
    assert machine.server.stop() == 0
    for counts in executions(lines_of(log)).values():
        assert set(counts.values()) == {1}


@pytest.mark.parametrize("jump", [-5 * HOUR, 5 * HOUR])
def test_a_jump_does_not_make_a_back_off_longer(
    serve: Start, tmp_path: Path, flows: tuple[Path, ...], jump: int
) -> None:
    machine = Machine(serve, tmp_path, *flows)
    api = machine.server.api
    run = api.run("later-try")
    api.state(run, "scheduled")
    machine.move(jump)
    assert api.end(run)["result"] == "done"
    began = time.monotonic()
    fresh = api.run("second-try")
    assert api.end(fresh)["result"] == "done"
    assert time.monotonic() - began >= 3.0, "the pause of an attempt is still the flow's"
    assert machine.server.stop() == 0


def test_a_server_that_starts_in_the_past_goes_on(serve: Start, tmp_path: Path, log: Path) -> None:
    """The clock was wrong, was set right, and the machine was restarted."""
    machine = Machine(serve, tmp_path)
    machine.move(10 * HOUR)
    before = machine.server.api.run("chain", {"log": str(log)}, not_before=machine.time(HOUR))
    machine.server.api.result("chain", {"log": str(log)})
    machine.server.kill_everything()
    machine.move(0)
    machine.server.start()
    api = machine.server.api
    assert api.result("chain", {"log": str(log)})["state"] == "succeeded"
    assert api.look(before)["state"] == "scheduled"
    newest = [item["id"] for item in api.get("/v1/runs").body["items"]]
    assert newest == sorted(newest, reverse=True)
    machine.move(12 * HOUR)
    assert api.end(before)["state"] == "succeeded"
    assert machine.server.stop() == 0
