"""Code that holds the interpreter lock, blocks an event loop or eats memory harms its own process alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.harness import FLOWS, Start
from tests.system.meeting import Meeting
from tests.system.processes import alive, await_end, poll
from tests.system.witnessed import executions, lines_of

HOGS = FLOWS / "hogs.py"
RESCUER = "pullcord.services.rescuer"
BEAT = 2.0
"""A worker shows a sign of life every so many seconds; a machine may hold it up by as much again."""


@pytest.mark.parametrize("flow", ["backtracks", "holds-the-lock"])
def test_neighbours_of_a_lock_holder_go_on_elsewhere(flow: str, serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(HOGS, workers=1, constants={RESCUER: {"EVERY": 0.2, "SILENT": 2 * BEAT, "DEAD": 3 * BEAT}})
    neighbour = server.api.run("neighbour", {"port": meeting.port, "log": str(log)})
    before = meeting.guest()
    hog = server.api.run(flow, {"seconds": 600} if flow == "holds-the-lock" else {})
    before.gone()
    again = meeting.guest()
    assert (again.run, again.pid != before.pid) == (neighbour, True)
    again.go("well")
    ended = server.api.end(neighbour)
    assert (ended["state"], ended["result"], ended["takeovers"]) == ("succeeded", "well", 1)
    assert executions(lines_of(log))[neighbour] == {0: 1}
    # The holder goes on alone, where nobody suffers from it, and can be cancelled by force.
    assert server.api.look(hog)["state"] == "running"
    assert server.api.run("neighbour", {"port": meeting.port, "log": str(log)}) == meeting.guest().run
    server.api.cancel(hog, force=True)
    assert server.api.end(hog)["state"] == "cancelled"


def test_new_runs_do_not_go_to_a_worker_whose_loop_is_blocked(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(HOGS, workers=1, constants={RESCUER: {"EVERY": 0.2, "BEHIND": 1.0}})
    poll(lambda: len(server.workers_alive()) == 2)
    before = server.workers_alive()
    blocker = server.api.run("blocks-the-loop", {"port": meeting.port})
    guest = meeting.guest()
    assert guest.pid in before
    poll(lambda: len(server.workers_alive()) == 3)
    neighbour = server.api.run("neighbour", {"port": meeting.port, "log": str(log)})
    elsewhere = meeting.guest()
    assert elsewhere.pid != guest.pid
    assert server.api.look(blocker)["state"] == "running"
    elsewhere.go("well")
    assert server.api.end(neighbour)["result"] == "well"
    guest.go("at last")
    ended = server.api.end(blocker)
    assert (ended["result"], ended["takeovers"]) == ("at last", 0)
    await_end([guest.pid])


def test_a_memory_eater_takes_only_itself_down(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(HOGS, workers=1, constants={RESCUER: {"EVERY": 0.2, "MEMORY_SHARE": _share(200)}})
    neighbour = server.api.run("neighbour", {"port": meeting.port, "log": str(log)})
    before = meeting.guest()
    eater = server.api.run("eats", {"megabytes": 400})
    before.gone()
    meeting.guest().go("well")
    ended = server.api.end(neighbour)
    assert (ended["state"], ended["takeovers"]) == ("succeeded", 1)
    failed = server.api.end(eater)
    assert (failed["state"], failed["error"]["type"], failed["takeovers"]) == ("failed", "worker_lost", 3)


def test_a_worker_that_has_grown_is_replaced_when_its_runs_have_ended(serve: Start, meeting: Meeting) -> None:
    server = serve(HOGS, workers=1, constants={RESCUER: {"EVERY": 0.2, "MEMORY_SHARE": _share(400)}})
    poll(lambda: len(server.workers_alive()) == 2)
    run = server.api.run("hoards", {"port": meeting.port, "megabytes": 250})
    guest = meeting.guest()
    poll(lambda: len(server.workers_alive()) == 3)
    assert alive(guest.pid)
    guest.go()
    ended = server.api.end(run)
    assert (ended["state"], ended["takeovers"]) == ("succeeded", 0)
    await_end([guest.pid])


def _share(megabytes: int) -> float:
    """Return which share of this machine's memory that is."""
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    return megabytes * 1024 / int(total.split()[1])
