"""User code that takes its process down takes nothing else down, whatever way it chooses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.harness import FLOWS, STEADY, Start, together
from tests.system.meeting import Meeting
from tests.system.witnessed import executions, lines_of

WILD = FLOWS / "wild.py"
NEIGHBOURS = 6


@pytest.mark.parametrize("way", ["segfault", "exit", "kill", "abort", "babble"])
def test_neighbours_of_a_crash_succeed_one_to_a_process(way: str, serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve(WILD, workers=1)
    flows = ["neighbour", "neighbour-async"] * (NEIGHBOURS // 2)
    runs = [
        server.api.run(flow, {"port": meeting.port, "text": str(number), "log": str(log)})
        for number, flow in enumerate(flows)
    ]
    before = meeting.guests(NEIGHBOURS)
    assert len({guest.pid for guest in before.values()}) == 1
    crashing = server.api.run("crashes", {"way": way})
    for guest in before.values():
        guest.gone()
    alone = set()
    for _ in range(NEIGHBOURS):
        guest = meeting.guest()
        alone.add(guest.pid)
        guest.go("well")
    assert len(alone) == NEIGHBOURS, "after the loss each suspect has a process of its own"
    for run in runs:
        ended = server.api.end(run)
        assert (ended["state"], ended["result"], ended["takeovers"]) == ("succeeded", "well", 1)
    failed = server.api.end(crashing)
    assert (failed["state"], failed["error"]["type"], failed["takeovers"]) == ("failed", "worker_lost", 3)
    counts = executions(lines_of(log))
    assert all(counts[run] == {0: 1} for run in runs), "a recorded step ran again"
    assert server.api.result("neighbour", {"port": 0, "text": "", "log": str(log)})["error"] is not None
    assert server.stop() == 0


@pytest.mark.parametrize("flow", ["crashes", "crashes-async"])
def test_a_run_that_always_crashes_ends_after_three_losses(flow: str, serve: Start) -> None:
    server = serve(WILD)
    run = server.api.result(flow, {"way": "exit"})
    assert (run["state"], run["error"]["type"], run["takeovers"], run["attempt"]) == ("failed", "worker_lost", 3, 1)
    assert "exited with status 3" in run["error"]["message"]


def test_so_does_one_whose_step_was_seen_running_before_the_crash(serve: Start) -> None:
    # A step that takes a while is reported as running. That is no progress: it must not make the losses forgotten.
    server = serve(WILD)
    run = server.api.result("crashes", {"way": "exit", "after": 0.3})
    assert (run["state"], run["error"]["type"], run["takeovers"]) == ("failed", "worker_lost", 3)


def test_a_run_that_crashes_once_in_each_step_goes_on_for_ever_so_many(serve: Start, tmp_path: Path) -> None:
    server = serve(WILD)
    run = server.api.result("crashes-once-in-each-step", {"folder": str(tmp_path), "steps": 5})
    assert (run["state"], run["result"], run["takeovers"]) == ("succeeded", 10, 5)


def test_a_crash_of_one_location_does_not_touch_another(serve: Start, meeting: Meeting) -> None:
    server = serve(WILD, STEADY)
    run = server.api.run("meets", {"port": meeting.port})
    guest = meeting.guest()
    assert server.api.result("crashes", {"way": "segfault"})["error"]["type"] == "worker_lost"
    guest.go("well")
    ended = server.api.end(run)
    assert (ended["result"], ended["takeovers"]) == (["well"], 0)


def test_a_crash_at_import_is_reported_and_stops_nothing_else(serve: Start, tmp_path: Path, log: Path) -> None:
    marker, flows = tmp_path / "mended", tmp_path / "deadly.py"
    flows.write_text(
        "import os, pathlib\nimport pullcord as pc\n"
        f"if not pathlib.Path({str(marker)!r}).exists():\n    os._exit(7)\n"
        "@pc.flow\ndef later() -> str:\n    return 'here'\n"
    )
    server = serve(flows, STEADY, constants={"pullcord.engine.fleet": {"LONGEST_PAUSE": 1.0}})
    assert server.api.result("chain", {"log": str(log)})["state"] == "succeeded"
    ready = server.api.get("/readyz").body
    parts = {part["name"]: part for part in ready["parts"]}
    assert ready["ready"] and not parts["location deadly.py"]["ready"] and parts["location steady.py"]["ready"]
    assert "exited with status 7" in parts["location deadly.py"]["detail"]
    assert ready["locations"] == {"deadly.py": "failed", "steady.py": "ready"}
    assert "exited with status 7" in ready["failures"][0]["message"]
    assert server.api.ask("later").status == 404
    marker.touch()
    reply = None
    while reply is None or reply.status == 404:  # it is tried again by itself, after a pause
        reply = server.api.ask("later", wait="20s")
    assert reply.body["run"]["result"] == "here"


def test_a_validator_that_kills_its_process_fails_its_own_request_alone(serve: Start) -> None:
    # Two processes are started one after the other until all have been validated.
    server = serve(WILD, constants={"pullcord.engine.validation": {"DEADLINE": 25.0}})

    def ask(number: int) -> object:
        return server.api.ask("deadly-validator", {"value": "die" if number == 3 else f"{number}"}, wait="25s")

    replies = together(8, ask)
    assert [reply.status for reply in replies] == [503 if number == 3 else 200 for number in range(8)]
    assert replies[3].body["code"] == "location_unavailable"
    assert server.api.get(f"/v1/requests/{replies[3].body['request_id']}").body["outcome"] == "rejected"
