"""Code that changes under a running server, and code that cannot be loaded."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent

import pytest

from tests.system.harness import STEADY, Server, Start
from tests.system.meeting import Meeting
from tests.system.processes import await_end, poll
from tests.system.witnessed import executions, lines_of

HEAD = """
    from witness import meet, note
    import pullcord as pc

    @pc.step
    def first(log: str) -> str:
        note(log, "step", 0)
        return "first"

    @pc.step
    def met(port: int, text: str) -> str:
        return meet(port, text)
"""
OLD = """
    @pc.flow(concurrency=None)
    def changing(port: int, log: str) -> list[str]:
        return ["old", first(log), met(port, "old"), met(port, "old again")]
"""
NEW = OLD.replace("old", "new")
OTHER_STEPS = """
    @pc.step
    def other() -> str:
        return "other"

    @pc.flow(concurrency=None)
    def changing(port: int, log: str) -> list[str]:
        return [other(), met(port, "other")]
"""
FEWER_STEPS = """
    @pc.flow(concurrency=None)
    def changing(port: int, log: str) -> list[str]:
        return [first(log)]
"""
SLOW_TO_VALIDATE = """
    import json, socket
    from typing import Annotated
    from pydantic import AfterValidator

    def hold(port: int) -> int:
        with socket.create_connection(("127.0.0.1", port)) as there:
            there.sendall(json.dumps({"run": "", "attempt": 0, "pid": 0, "text": "validates"}).encode() + b"\\n")
            there.makefile().readline()
        return port

    @pc.flow(concurrency=None)
    def limited(port: Annotated[int, AfterValidator(hold)]) -> str:
        return met(port, "old")
"""
LIMITED = """
    @pc.flow(concurrency=1)
    def limited(port: int) -> str:
        return met(port, "new")
"""
BROKEN = """
    import no_such_module
"""


def write(path: Path, *parts: str) -> Path:
    """Replace a file at once, as editors and deployments do."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(dedent(part) for part in parts))
    temporary.replace(path)
    return path


def change(server: Server, path: Path, *parts: str) -> None:
    """Change the code and have it loaded: by hand under `serve`, by itself under `dev`."""
    write(path, *parts)
    if server.command == "serve":
        os.kill(server.pid, signal.SIGHUP)


def version(server: Server) -> str | None:
    """Return the version of the flow that the server knows now."""
    body = server.api.get("/v1/flows/changing").body
    found: str | None = body.get("version")
    return found


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_an_old_run_finishes_on_old_code_and_a_new_one_gets_the_new(
    command: str, serve: Start, meeting: Meeting, tmp_path: Path, log: Path
) -> None:
    code = write(tmp_path / "changing.py", HEAD, OLD)
    server = serve(code, command=command)
    inputs = {"port": meeting.port, "log": str(log)}
    old = server.api.run("changing", inputs)
    guest = meeting.guest()
    before, workers = version(server), server.workers_alive()
    change(server, code, HEAD, NEW)
    poll(lambda: version(server) != before)
    await_end([pid for pid in workers if pid != guest.pid])

    new = server.api.run("changing", inputs)
    for text in ("new", "new again"):
        newcomer = meeting.guest()
        assert (newcomer.text, newcomer.run, newcomer.pid != guest.pid) == (text, new, True)
        newcomer.go()
    assert server.api.end(new)["result"] == ["new", "first", "go", "go"]
    guest.go()
    again = meeting.guest()
    assert (again.text, again.pid) == ("old again", guest.pid)
    again.go()
    ended = server.api.end(old)
    assert (ended["result"], ended["takeovers"]) == (["old", "first", "go", "go"], 0)
    await_end([guest.pid])
    assert ended["flow_version"] == before != server.api.look(new)["flow_version"]
    assert server.stop() == 0


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_a_file_that_breaks_is_refused_with_its_error_and_picked_up_when_mended(
    command: str, serve: Start, meeting: Meeting, tmp_path: Path, log: Path
) -> None:
    code = write(tmp_path / "changing.py", HEAD, OLD, BROKEN)
    server = serve(code, STEADY, command=command)
    inputs = {"port": meeting.port, "log": str(log)}
    assert server.api.result("chain", {"log": str(log)})["state"] == "succeeded"
    (failure,) = server.api.get("/v1/flows").body["failures"]
    assert "No module named 'no_such_module'" in failure["message"]
    assert failure["place"].startswith(f"{code}:")
    assert server.api.ask("changing", inputs).body["code"] == "unknown_flow"

    change(server, code, HEAD, FEWER_STEPS)
    poll(lambda: version(server) is not None)
    assert server.api.result("changing", inputs)["result"] == ["first"]
    assert server.api.get("/v1/flows").body["failures"] == []

    change(server, code, HEAD, OLD, BROKEN)
    poll(lambda: server.api.get("/v1/flows").body["failures"])
    refused = server.api.ask("changing", inputs)
    assert (refused.status, refused.body["code"]) == (503, "location_unavailable")
    assert "no_such_module" in refused.body["detail"]
    assert server.api.result("chain", {"log": str(log)})["state"] == "succeeded"
    assert server.stop() == 0


def test_after_a_deploy_a_run_goes_on_where_the_steps_are_the_same(
    serve: Start, meeting: Meeting, tmp_path: Path, log: Path
) -> None:
    code = write(tmp_path / "changing.py", HEAD, OLD.replace("old", "same"))
    server = serve(code)
    run = server.api.run("changing", {"port": meeting.port, "log": str(log)})
    meeting.guest()
    server.kill()
    write(code, HEAD, OLD.replace('["old"', '["deployed"').replace("old", "same"))
    server.start()
    for _ in range(2):
        meeting.guest().go("well")
    ended = server.api.end(run)
    assert (ended["state"], ended["result"]) == ("succeeded", ["deployed", "first", "well", "well"])
    assert executions(lines_of(log))[run] == {0: 1}


@pytest.mark.parametrize("code_now", [OTHER_STEPS, FEWER_STEPS])
def test_after_a_deploy_that_asks_for_other_steps_a_run_fails_and_says_which(
    code_now: str, serve: Start, meeting: Meeting, tmp_path: Path, log: Path
) -> None:
    code = write(tmp_path / "changing.py", HEAD, OLD)
    server = serve(code)
    run = server.api.run("changing", {"port": meeting.port, "log": str(log)})
    meeting.guest().go()
    meeting.guest()
    server.kill()
    write(code, HEAD, code_now)
    server.start()
    ended = server.api.end(run)
    assert (ended["state"], ended["error"]["type"]) == ("failed", "code_changed")
    left, asked = ("'first' (no. 1)", "step 'other'") if code_now is OTHER_STEPS else ("'met'", "the end of the flow")
    assert left in ended["error"]["message"]
    assert asked in ended["error"]["message"]
    meeting.nobody()


def test_runs_whose_code_is_broken_wait_until_it_is_mended(
    serve: Start, meeting: Meeting, tmp_path: Path, log: Path
) -> None:
    code = write(tmp_path / "changing.py", HEAD, OLD)
    server = serve(code, STEADY)
    runs = [server.api.run("changing", {"port": meeting.port, "log": str(log)}) for _ in range(2)]
    for _ in runs:
        meeting.guest()
    server.kill()
    write(code, BROKEN, HEAD, OLD)
    server.start()
    assert server.api.result("chain", {"log": str(log)})["state"] == "succeeded"
    for run in runs:
        assert server.api.state(run, "waiting")["waiting_for"]["kind"] == "code"
    server.api.cancel(runs[1])
    assert server.api.end(runs[1])["state"] == "cancelled"

    change(server, code, HEAD, OLD)
    for _ in range(2):
        meeting.guest().go("back")
    assert server.api.end(runs[0])["result"] == ["old", "first", "back", "back"]
    assert executions(lines_of(log))[runs[0]] == {0: 1}
    meeting.nobody()


def test_a_run_whose_flow_was_taken_away_fails_and_says_so(
    serve: Start, meeting: Meeting, tmp_path: Path, log: Path
) -> None:
    code = write(tmp_path / "changing.py", HEAD, OLD)
    server = serve(code)
    run = server.api.run("changing", {"port": meeting.port, "log": str(log)})
    meeting.guest()
    server.kill()
    write(code, HEAD)
    server.start()
    ended = server.api.end(run)
    assert (ended["state"], ended["error"]["type"]) == ("failed", "not_found")
    assert "not in this location any more" in ended["error"]["message"]


def test_a_run_that_is_admitted_while_its_flow_gets_a_limit_counts(
    serve: Start, meeting: Meeting, tmp_path: Path
) -> None:
    path = write(tmp_path / "code.py", HEAD, SLOW_TO_VALIDATE)
    server = serve(path)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.api.run, "limited", {"port": meeting.port})
        assert meeting.guest().text == "validates"
        change(server, path, HEAD, LIMITED)
        run = meeting.guest()
        assert (run.text, run.run) == ("new", first.result())
    second = server.api.run("limited", {"port": meeting.port})
    assert server.api.look(second)["state"] == "queued"
    run.go()
    meeting.guest().go()
    assert server.api.end(second)["state"] == "succeeded"


def test_a_load_of_reloads_loses_nothing(serve: Start, tmp_path: Path, log: Path) -> None:
    code = write(tmp_path / "changing.py", HEAD, FEWER_STEPS)
    server = serve(code)
    inputs = {"port": 0, "log": str(log)}
    runs = []
    for _ in range(5):
        os.kill(server.pid, signal.SIGHUP)
        runs += [server.api.run("changing", inputs) for _ in range(10)]
    for run in runs:
        assert server.api.end(run)["state"] == "succeeded"
    counts = executions(lines_of(log))
    assert all(counts[run] == {0: 1} for run in runs)
    poll(lambda: len(server.workers_alive()) == 3)
    assert server.stop() == 0
