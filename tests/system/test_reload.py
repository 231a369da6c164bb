"""Code that changes under a running server, and code that cannot be loaded."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent
from typing import Any

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


def without_code(server: Server, run: str) -> dict[str, Any]:
    """Wait until a queued run no longer waits for a slot, but for its code; return it."""
    poll(lambda: (server.api.look(run)["waiting_for"] or {}).get("kind") == "code")
    return server.api.look(run)


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
def test_a_file_that_breaks_is_reported_and_the_last_good_code_goes_on_until_it_is_mended(
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

    good = version(server)
    change(server, code, HEAD, OLD, BROKEN)
    poll(lambda: server.api.get("/v1/flows").body["failures"])
    (failure,) = server.api.get("/v1/flows").body["failures"]
    assert "no_such_module" in failure["message"]
    poll(lambda: "the last good code goes on" in server.says)
    assert version(server) == good
    assert server.api.result("changing", inputs)["result"] == ["first"]
    assert server.api.result("chain", {"log": str(log)})["state"] == "succeeded"

    change(server, code, HEAD, FEWER_STEPS, "# mended")
    poll(lambda: version(server) != good)
    assert server.api.result("changing", inputs)["result"] == ["first"]
    assert server.api.get("/v1/flows").body["failures"] == []
    assert server.stop() == 0


def test_a_process_that_is_replaced_while_the_code_is_broken_makes_its_runs_wait(
    serve: Start, meeting: Meeting, tmp_path: Path, log: Path
) -> None:
    """New processes can only load what is on the disk, so the last good code is gone with the last one that has it."""
    code = write(tmp_path / "changing.py", HEAD, OLD)
    server = serve(code, STEADY)
    run = server.api.run("changing", {"port": meeting.port, "log": str(log)})
    meeting.guest()
    change(server, code, BROKEN, HEAD, OLD)
    poll(lambda: server.api.get("/v1/flows").body["failures"])
    server.kill_workers()
    assert server.api.state(run, "waiting")["waiting_for"]["kind"] == "code"
    poll(lambda: version(server) is None)
    refused = server.api.ask("changing", {"port": meeting.port, "log": str(log)})
    assert (refused.status, refused.body["code"]) == (503, "location_unavailable")
    assert "no_such_module" in refused.body["detail"]
    change(server, code, HEAD, OLD)
    for _ in range(2):
        meeting.guest().go("on")
    assert server.api.end(run)["result"] == ["old", "first", "on", "on"]
    assert executions(lines_of(log))[run] == {0: 1}


def test_a_run_that_needs_a_process_of_its_own_waits_while_the_code_is_broken(serve: Start, tmp_path: Path) -> None:
    flow = """
        import pullcord as pc

        @pc.flow(isolated=True, concurrency=None)
        def alone() -> str:
            return "done"
    """
    code = write(tmp_path / "alone.py", flow)
    server = serve(code)
    assert server.api.result("alone")["result"] == "done"
    change(server, code, flow, BROKEN)
    poll(lambda: server.api.get("/v1/flows").body["failures"])
    run = server.api.run("alone")
    assert server.api.state(run, "waiting")["waiting_for"]["kind"] == "code"
    change(server, code, flow)
    assert server.api.end(run)["result"] == "done"


def test_code_that_ends_the_process_that_imports_it_is_no_reason_to_stop_serving(serve: Start, tmp_path: Path) -> None:
    code = write(tmp_path / "changing.py", HEAD, FEWER_STEPS)
    server = serve(code)
    good = version(server)
    change(server, code, "import os; os._exit(7)", HEAD, OLD)
    poll(lambda: server.api.get("/v1/flows").body["failures"])
    (failure,) = server.api.get("/v1/flows").body["failures"]
    assert failure["message"] == "the process that imports this code died: it exited with status 7"
    assert version(server) == good
    assert server.api.result("changing", {"port": 0, "log": str(tmp_path / "log")})["state"] == "succeeded"


NEVER = "import time; time.sleep(10**6)"
LOADING = {"pullcord.engine.fleet": {"LOADING": 6.0}}


def test_an_import_that_never_returns_counts_as_a_failure_and_is_tried_again(
    serve: Start, tmp_path: Path, log: Path
) -> None:
    code = write(tmp_path / "changing.py", NEVER, HEAD, OLD)
    server = serve(code, STEADY, constants=LOADING)
    parts = server.api.get("/readyz").body
    assert parts["locations"] == {"changing.py": "failed", "steady.py": "ready"}
    (failure,) = parts["failures"]
    assert failure["message"].startswith("importing this code took longer than 6 s; look at what it does")
    assert server.api.result("chain", {"log": str(log)})["state"] == "succeeded"
    write(code, HEAD, FEWER_STEPS)
    poll(lambda: version(server) is not None)
    assert server.api.result("changing", {"port": 0, "log": str(log)})["result"] == ["first"]
    assert server.api.get("/readyz").body["locations"]["changing.py"] == "ready"


def test_new_code_that_never_loads_does_not_take_the_old_away(serve: Start, tmp_path: Path, log: Path) -> None:
    code = write(tmp_path / "changing.py", HEAD, FEWER_STEPS)
    server = serve(code, constants=LOADING)
    poll(lambda: len(server.workers_alive()) == 3)
    workers = server.workers_alive()
    change(server, code, NEVER, HEAD, OLD)
    poll(lambda: "took longer than 6 s" in str(server.api.get("/v1/flows").body["failures"]))
    assert server.api.result("changing", {"port": 0, "log": str(log)})["result"] == ["first"]
    poll(lambda: server.workers_alive() == workers)


def test_a_slow_import_is_no_hanging_one(serve: Start, tmp_path: Path, log: Path) -> None:
    """The event loop of a worker stands still while it imports; that is no reason to replace it."""
    code = write(
        tmp_path / "slow.py", "import time; time.sleep(3)\n", STEADY.read_text().replace("from __future__", "#")
    )
    server = serve(code, constants={"pullcord.services.rescuer": {"EVERY": 0.1, "BEHIND": 1.0}})
    workers = server.workers_alive()
    assert server.api.result("chain", {"log": str(log), "pause": 0.5})["state"] == "succeeded"
    assert server.workers_alive() == workers
    assert "pullcord_worker_replacements_total{" not in server.api.text("/metrics")


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
    assert "since the last server: changing changed (version" in server.says
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


RENAMED = OLD.replace("first(log)", "initial(log)").replace(
    "    @pc.flow",
    """
    @pc.step
    def initial(log: str) -> str:
        return first.function(log)

    @pc.flow""",
)
OTHER_INPUTS = OLD.replace("port: int, log: str", "port: int, log: str, day: date").replace(
    "    @pc", "    from datetime import date\n\n    @pc", 1
)
PINNED = OTHER_STEPS.replace("concurrency=None", "concurrency=None, version='7'")


@pytest.mark.parametrize("deploy", ["restart", "reload"])
def test_a_run_that_was_taken_over_by_code_with_a_renamed_step_names_both(
    deploy: str, serve: Start, meeting: Meeting, tmp_path: Path, log: Path
) -> None:
    code = write(tmp_path / "changing.py", HEAD, OLD)
    server = serve(code)
    run = server.api.run("changing", {"port": meeting.port, "log": str(log)})
    meeting.guest()
    if deploy == "restart":
        server.kill()
        write(code, HEAD, RENAMED)
        server.start()
    else:
        before = version(server)
        change(server, code, HEAD, RENAMED)
        poll(lambda: version(server) != before)
        server.kill_workers()
    error = server.api.end(run)["error"]
    assert error["type"] == "code_changed"
    assert "step 'first' (no. 1) is recorded, but the code now asks for step 'initial'" in error["message"]


def test_the_inputs_of_a_run_are_validated_again_by_new_code(
    serve: Start, meeting: Meeting, tmp_path: Path, log: Path
) -> None:
    code = write(tmp_path / "changing.py", HEAD, OLD)
    server = serve(code)
    run = server.api.run("changing", {"port": meeting.port, "log": str(log)})
    meeting.guest()
    server.kill()
    write(code, HEAD, OTHER_INPUTS)
    server.start()
    ended = server.api.end(run)
    assert (ended["state"], ended["error"]["type"]) == ("failed", "invalid_inputs")
    assert ended["inputs"] == {"port": meeting.port, "log": str(log)}


def test_who_pins_the_version_says_that_other_steps_are_meant(
    serve: Start, meeting: Meeting, tmp_path: Path, log: Path
) -> None:
    code = write(tmp_path / "changing.py", HEAD, OLD.replace("concurrency=None", "concurrency=None, version='7'"))
    server = serve(code)
    run = server.api.run("changing", {"port": meeting.port, "log": str(log)})
    meeting.guest()
    server.kill()
    write(code, HEAD, PINNED)
    server.start()
    meeting.guest().go("well")
    ended = server.api.end(run)
    assert (ended["result"], ended["flow_version"]) == (["other", "well"], "7")


def test_a_removed_flow_is_kept_in_history_and_its_queue_waits(
    serve: Start, meeting: Meeting, tmp_path: Path, log: Path
) -> None:
    one = OLD.replace("concurrency=None", "concurrency=1")
    code = write(tmp_path / "changing.py", HEAD, one)
    server = serve(code)
    inputs = {"port": meeting.port, "log": str(log)}
    active, queued = (server.api.run("changing", inputs) for _ in range(2))
    guest = meeting.guest()
    change(server, code, HEAD)
    poll(lambda: server.api.get("/v1/flows").body["items"] == [])
    waiting = without_code(server, queued)
    assert waiting["state"] == "queued"
    assert "it was removed from changing.py" in waiting["waiting_for"]["text"]

    guest.go()  # what runs already finishes on its code
    meeting.guest().go()
    assert server.api.end(active)["state"] == "succeeded"
    for _ in range(2):
        refused = server.api.ask("changing", inputs)
        assert (refused.status, refused.body["code"]) == (404, "unknown_flow")
        assert "was removed from changing.py at 20" in refused.body["detail"]
        (removed,) = server.api.get("/v1/flows", removed="true").body["items"]
        assert (removed["name"], removed["permissions"]) == ("changing", ["read"])
        assert removed["removed_at"] is not None
        assert len(server.api.get("/v1/runs", flow="changing").body["items"]) == 2
        assert server.api.get("/v1/requests", flow="changing").body["items"]
        server.kill()
        server.start()  # the next server knows it too

    write(code, HEAD, one)
    os.kill(server.pid, signal.SIGHUP)
    for _ in range(2):
        meeting.guest().go("back")
    assert server.api.end(queued)["result"] == ["old", "first", "back", "back"]
    assert server.api.get("/v1/flows", removed="true").body["items"] == []


def test_a_queued_run_of_a_removed_flow_can_be_cancelled(
    serve: Start, meeting: Meeting, tmp_path: Path, log: Path
) -> None:
    code = write(tmp_path / "changing.py", HEAD, OLD.replace("concurrency=None", "concurrency=1"))
    server = serve(code)
    runs = [server.api.run("changing", {"port": meeting.port, "log": str(log)}) for _ in range(2)]
    meeting.guest()
    change(server, code, HEAD)
    without_code(server, runs[1])
    for run in runs:
        server.api.cancel(run, force=True)
        assert server.api.end(run)["state"] == "cancelled"


def test_the_settings_file_is_read_again_for_the_locations(
    serve: Start, meeting: Meeting, tmp_path: Path, log: Path
) -> None:
    one = write(tmp_path / "one.py", HEAD, OLD)
    write(tmp_path / "two.py", HEAD, FEWER_STEPS.replace("changing", "other"))
    settings = tmp_path / "pullcord.toml"
    settings.write_text('[[code]]\npath = "one.py"\n')
    server = serve(STEADY)
    run = server.api.run("changing", {"port": meeting.port, "log": str(log)})
    guest = meeting.guest()

    settings.write_text('[[code]]\npath = "two.py"\n')
    os.kill(server.pid, signal.SIGHUP)
    poll(lambda: server.api.get("/readyz").body["locations"] == {"steady.py": "ready", "two.py": "ready"})
    assert server.api.result("other", {"port": 0, "log": str(log)})["result"] == ["first"]
    refused = server.api.ask("changing", {"port": 0, "log": str(log)})
    assert (refused.status, refused.body["code"]) == (404, "unknown_flow")
    guest.go()
    again = meeting.guest()
    assert again.pid == guest.pid
    templates = server.templates
    again.go()
    assert server.api.end(run)["result"] == ["old", "first", "go", "go"]
    await_end([guest.pid])
    poll(lambda: len(server.templates) == len(templates) - 1)

    settings.write_text("[[code]]\npath = 5\n")
    os.kill(server.pid, signal.SIGHUP)
    poll(lambda: "nothing was reloaded: path of a code location must be a text" in server.says)
    assert server.api.get("/readyz").body["locations"] == {"steady.py": "ready", "two.py": "ready"}
    settings.write_text('[[code]]\npath = "two.py"\n[[code]]\npath = "one.py"\n')
    os.kill(server.pid, signal.SIGHUP)
    poll(lambda: server.api.get("/readyz").body["locations"].get("one.py") == "ready")
    assert version(server) is not None
    assert one.exists()
    assert server.stop() == 0


def test_a_link_that_points_to_other_code_is_a_deploy(serve: Start, tmp_path: Path, log: Path) -> None:
    for name, flow in (("release-1", FEWER_STEPS), ("release-2", FEWER_STEPS + "\n    RELEASE = 2")):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "changing.py", HEAD, flow)
    current, fresh = tmp_path / "current", tmp_path / "fresh"
    current.symlink_to("release-1")
    server = serve(current)
    before = version(server)
    fresh.symlink_to("release-2")
    fresh.replace(current)
    os.kill(server.pid, signal.SIGHUP)
    poll(lambda: version(server) != before)
    assert server.api.get("/v1/flows/changing").body["location"] == "current"
    assert "release-2" in server.api.get("/v1/flows/changing").body["place"]


def test_what_a_reload_would_change_is_shown_and_changes_nothing(serve: Start, tmp_path: Path, log: Path) -> None:
    code = write(tmp_path / "changing.py", HEAD, OLD)
    server = serve(code)
    nothing = {"location": "changing.py", "accepted": True, "changes": [], "failures": []}
    assert server.api.get("/v1/code/diff").body == {"locations": [nothing]}
    before = version(server)
    write(code, HEAD, OTHER_INPUTS.replace("concurrency=None", "timeout='5m'"), FEWER_STEPS.replace("changing", "more"))
    (location,) = server.api.get("/v1/code/diff").body["locations"]
    changed, added = location["changes"]
    assert (added["flow"], added["change"]) == ("more", "added")
    assert (changed["flow"], changed["change"], changed["inputs"]) == ("changing", "changed", {"day": "added"})
    assert changed["version"]["before"] == before != changed["version"]["after"]
    assert changed["settings"] == {
        "concurrency": {"before": None, "after": 1}, "timeout": {"before": None, "after": 300.0},
    }  # fmt: skip
    write(code, HEAD, OLD, BROKEN)
    (location,) = server.api.get("/v1/code/diff").body["locations"]
    assert (location["accepted"], location["changes"]) == (False, [])
    assert "no_such_module" in location["failures"][0]["message"]
    write(code, "import os; os._exit(3)")
    (location,) = server.api.get("/v1/code/diff").body["locations"]
    assert "it exited with status 3" in location["failures"][0]["message"]
    assert version(server) == before
    poll(lambda: len(server.workers_alive()) == 3)
    assert server.stop() == 0


def test_a_flow_may_move_from_one_location_to_another(
    serve: Start, meeting: Meeting, tmp_path: Path, log: Path
) -> None:
    limited = FEWER_STEPS.replace("concurrency=None", "concurrency=1")
    one, two = write(tmp_path / "one.py", HEAD, limited), write(tmp_path / "two.py", HEAD)
    server = serve(two, one)
    assert server.api.get("/v1/flows/changing").body["location"] == "one.py"
    write(two, HEAD, limited)
    change(server, one, HEAD)
    poll(lambda: server.api.get("/v1/flows/changing").body.get("location") == "two.py")
    poll(lambda: server.api.get("/v1/flows").body["failures"] == [])
    assert server.api.result("changing", {"port": 0, "log": str(log)})["result"] == ["first"]
    assert server.api.get("/v1/flows", removed="true").body["items"] == []
