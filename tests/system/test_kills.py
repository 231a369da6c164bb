"""`kill -9` of everything, of the server, the workers or the template alone, at any moment of a load."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from tests.system.harness import FLOWS, Server, Start
from tests.system.invariants import check_invariants, opened
from tests.system.load import Load
from tests.system.meeting import Meeting
from tests.system.processes import alive, await_end, kill, marked, poll

WILD = FLOWS / "wild.py"
VICTIMS = ["everything", "server", "workers", "template"]


def strike(victim: str, server: Server, load: Load) -> None:
    """Kill, wait until the victims are dead, and start a dead server again."""
    if victim == "everything":
        server.kill_everything()
    elif victim == "server":
        server.kill()
    elif victim == "workers":
        server.kill_workers()
    else:
        workers = server.workers_alive()
        kill([server.template])
        await_end(workers)
    if victim in ("everything", "server"):
        load.restart()


@pytest.mark.parametrize("victim", VICTIMS)
def test_nothing_is_lost_in_a_load_when_somebody_kills(victim: str, serve: Start, log: Path) -> None:
    server = serve()
    with Load(server, log, count=40, pause=0.01, ahead=40) as load:
        for receipts in (8, 20):
            load.acknowledged(receipts)
            load.standing()
            strike(victim, server, load)
        load.finish()
    assert server.stop() == 0
    check_invariants(server.data_dir, load.receipts, log, *load.crashes)
    with opened(server.data_dir) as db:
        assert db.execute("SELECT sum(takeovers) FROM runs").fetchone()[0] > 0, "no kill hit a run"


def test_nothing_is_lost_when_everything_that_can_die_dies_in_any_order(serve: Start, log: Path) -> None:
    server = serve()
    victims = random.sample(VICTIMS, len(VICTIMS))
    with Load(server, log, count=50, pause=0.01) as load:
        for number, victim in enumerate(victims):
            load.acknowledged(8 + 10 * number)
            strike(victim, server, load)
        load.finish()
    assert server.stop() == 0
    check_invariants(server.data_dir, load.receipts, log, *load.crashes)


@pytest.mark.parametrize("victim", ["server", "worker", "template"])
def test_the_programs_of_a_step_die_with_its(victim: str, serve: Start, meeting: Meeting) -> None:
    server = serve(WILD)
    server.api.run("calls-a-program", {"port": meeting.port})
    guest = meeting.guest()
    program = int(guest.text)
    guest.go()
    kill([{"server": server.pid, "worker": guest.pid, "template": server.template}[victim]])
    await_end([guest.pid, program])


def test_workers_and_template_die_with_their_server(serve: Start, meeting: Meeting) -> None:
    server = serve()
    run = server.api.run("meets", {"port": meeting.port})
    guest = meeting.guest()
    # A template, a control worker, two run workers; one of them is enough for the run to begin.
    below = poll(lambda: found if len(found := [server.template, *server.workers_alive()]) == 4 else [])
    assert guest.pid in below
    server.process.kill()
    await_end(below)
    guest.gone()
    assert marked(server.mark) == []
    server.process.wait()
    server.start()
    second = meeting.guest()
    second.go("done")
    assert server.api.end(run)["result"] == ["done"]


def test_the_rest_goes_on_when_a_worker_and_then_its_template_are_killed(serve: Start, meeting: Meeting) -> None:
    # With no pause before a replacement, the template is asked to fork as soon as the loss is seen: it dies meanwhile.
    server = serve(constants={"pullcord.engine.fleet": {"STABLE": 0.0}})
    run = server.api.run("meets", {"port": meeting.port})
    guest = meeting.guest()
    template = server.template
    os.kill(template, signal.SIGSTOP)
    kill([guest.pid])
    poll(lambda: 'role="shared"} 1' in server.api.text("/metrics"))
    kill([template])
    poll(lambda: 'role="shared"} 2' in server.api.text("/metrics"))
    poll(lambda: 'role="control"} 1' in server.api.text("/metrics"))
    meeting.guest().go("done")
    assert server.api.end(run)["result"] == ["done"]
    assert server.api.result("meets", {"port": meeting.port, "texts": []})["state"] == "succeeded"
    assert server.stop() == 0


def test_a_worker_that_closes_its_channel_but_lives_is_dead_before_its_run_goes_on(
    serve: Start, meeting: Meeting, tmp_path: Path
) -> None:
    server = serve(WILD)
    run = server.api.run("closes-its-channel", {"port": meeting.port, "marker": str(tmp_path / "closed")})
    first = meeting.guest()
    first.go()
    second = meeting.guest()
    assert first.run == second.run == run
    assert not alive(first.pid)
    second.go("went on")
    ended = server.api.end(run)
    assert (ended["result"], ended["takeovers"]) == ("went on", 1)


def test_every_location_is_started_anew_after_kills_of_all_workers(serve: Start, log: Path) -> None:
    server = serve()
    for _ in range(2):
        server.kill_workers()
        run = server.api.result("chain", {"log": str(log), "steps": 1})
        assert run["state"] == "succeeded"
    assert server.stop() == 0
