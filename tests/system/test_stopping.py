"""SIGTERM and SIGINT: active runs get time to end, what does not goes on with the next server, no process is left."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.system.harness import FLOWS, Start
from tests.system.invariants import check_invariants, opened
from tests.system.load import Load
from tests.system.meeting import Meeting
from tests.system.processes import PATIENCE, alive, await_end, marked, poll

SHORT_DRAIN = {"pullcord.api.server": {"DRAIN": 0.5}}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_active_runs_get_time_to_end(number: signal.Signals, serve: Start, meeting: Meeting) -> None:
    server = serve()
    sync = server.api.run("meets", {"port": meeting.port, "texts": ["sync"]})
    unlimited = server.api.run("meets-async", {"port": meeting.port, "texts": ["async", "next"]})
    guests = meeting.guests(2)
    server.process.send_signal(number)
    for guest in guests.values():
        guest.go()
    meeting.guest().go()
    assert server.process.wait(PATIENCE) == 0
    await_end(marked(server.mark))
    with opened(server.data_dir) as db:
        states = dict(db.execute("SELECT uuid, state FROM runs").fetchall())
    assert states == {sync: "succeeded", unlimited: "succeeded"}
    assert not (server.data_dir / "server.json").exists()


def test_nothing_is_lost_when_it_stops_in_a_load(serve: Start, log: Path) -> None:
    server = serve(constants=SHORT_DRAIN)
    with Load(server, log, count=48, pause=0.02) as load:
        load.acknowledged(12)
        assert server.stop() == 0
        await_end(marked(server.mark))
        load.restart()
        load.finish()
    assert server.stop() == 0
    check_invariants(server.data_dir, load.receipts, log, *load.crashes)


def test_queued_runs_do_not_start_any_more_but_do_with_the_next_server(serve: Start, meeting: Meeting) -> None:
    server = serve()
    runs = [server.api.run("meets-single", {"port": meeting.port, "texts": [text]}) for text in ("first", "second")]
    guest = meeting.guest()
    server.process.send_signal(signal.SIGTERM)
    # The signal has arrived when a run that nothing holds up is only queued.
    poll(lambda: server.api.ask("meets", {"port": meeting.port, "texts": []}).body["state"] == "queued")
    guest.go()
    assert server.process.wait(PATIENCE) == 0
    meeting.nobody()
    server.start()
    second = meeting.guest()
    assert second.run == runs[1]
    second.go("done")
    assert server.api.end(runs[1])["takeovers"] == 0


def test_what_does_not_end_in_time_goes_on_with_the_next_server(serve: Start, meeting: Meeting) -> None:
    server = serve(constants=SHORT_DRAIN)
    run = server.api.run("meets", {"port": meeting.port, "texts": ["one", "two"]})
    meeting.guest().go("first")
    stuck = meeting.guest()
    assert stuck.text == "two"
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < PATIENCE
    await_end(marked(server.mark))
    stuck.gone()
    server.start()
    again = meeting.guest()
    assert again.text == "two"
    again.go("second")
    ended = server.api.end(run)
    assert (ended["result"], ended["takeovers"], ended["attempt"]) == (["first", "second"], 1, 1)


def test_callers_that_wait_for_a_run_do_not_keep_it_from_stopping(serve: Start, meeting: Meeting) -> None:
    server = serve(constants=SHORT_DRAIN)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(server.api.ask, "meets", {"port": meeting.port}, wait="60s")
        guest = meeting.guest()
        following = pool.submit(server.api.end, guest.run)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < PATIENCE
        for future in (waiting, following):
            future.exception(PATIENCE)
    await_end(marked(server.mark))


def test_it_stops_while_a_location_is_still_loading(serve: Start, tmp_path: Path, meeting: Meeting) -> None:
    flows = tmp_path / "slow.py"
    source = f"""
        import socket
        connection = socket.create_connection(("127.0.0.1", {meeting.port}))
        connection.sendall({(json.dumps({"run": "", "attempt": 0, "pid": 0, "text": "import"}) + chr(10)).encode()!r})
        connection.makefile().readline()
    """
    flows.write_text("\n".join(line.strip() for line in source.splitlines()))
    server = serve(flows, started=False)
    server.spawn()
    meeting.guest()
    poll((server.data_dir / "server.json").exists)  # before, nobody has told it what to do at a signal
    assert server.stop() == 0
    await_end(marked(server.mark))


@pytest.mark.parametrize("stands_still", [False, True])
def test_programs_that_a_step_started_do_not_outlive_the_server(
    serve: Start, meeting: Meeting, stands_still: bool
) -> None:
    server = serve(FLOWS / "wild.py", constants=SHORT_DRAIN)
    server.api.run("calls-a-program", {"port": meeting.port})
    guest = meeting.guest()
    program = int(guest.text)
    guest.go()
    assert alive(program)
    if stands_still:
        os.kill(server.template, signal.SIGSTOP)
    assert server.stop() == 0
    await_end(marked(server.mark))
