"""What an operator sees: the log of a server, its readiness, and `pullcord top` on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from tests.docs.conftest import DOCS
from tests.system.harness import FLOWS, Server, Start
from tests.system.meeting import Meeting
from tests.system.processes import await_end, kill, poll

sys.path.insert(0, str(DOCS))
from terminal import Terminal

WILD = FLOWS / "wild.py"


def lines(server: Server) -> list[dict[str, Any]]:
    """Return the lines of a server's log; each must be JSON with what every line has."""
    whole, _, _ = server.says.rpartition("\n")  # the last line may be half written
    found = [json.loads(line) for line in whole.splitlines()]
    for line in found:
        assert {"at", "level", "logger", "text"} <= line.keys()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["at"])
    return found


def test_the_log_tells_the_life_of_a_server(serve: Start, log: Path) -> None:
    server = serve()
    assert server.api.result("chain", {"log": str(log)})["state"] == "succeeded"
    assert server.stop() == 0
    # What a slow disk makes it say is no part of its life.
    said = [line for line in lines(server) if not line["text"].startswith("a commit took ")]
    texts = [line["text"] for line in said]
    assert re.fullmatch(r"Pullcord \S+ starts", texts[0])
    assert re.fullmatch(r"steady.py is loaded: \d+ flows", texts[1])
    assert texts[2:] == ["ready", "stopping; active runs: 0", "stopped"]
    assert said[0]["pid"] == server.pid
    assert {line["level"] for line in said} == {"info"}


def test_a_lost_worker_is_told_with_its_runs(serve: Start, meeting: Meeting) -> None:
    server = serve()
    run = server.api.run("meets", {"port": meeting.port})
    guest = meeting.guest()
    kill([guest.pid])
    meeting.guest().go("again")
    assert server.api.end(run)["result"] == ["again"]
    gone = next(line for line in lines(server) if "is gone" in line["text"])
    assert (gone["level"], gone["worker_pid"], gone["location"], gone["runs"]) == ("warning", guest.pid, "steady.py", 1)
    assert gone["why"] == "it was killed by SIGKILL"
    (lost,) = (line for line in lines(server) if line.get("run_id") == run)
    request = server.api.look(run)["request_id"]
    assert (lost["flow"], lost["worker_pid"], lost["request_id"]) == ("meets", guest.pid, request)
    figures = server.api.text("/metrics")
    assert 'pullcord_run_takeovers_total{reason="crashed"} 1.0' in figures
    assert 'pullcord_worker_replacements_total{location="steady.py",reason="crashed"} 1.0' in figures
    assert 'pullcord_run_queue_seconds_count{flow="meets"} 1.0' in figures  # going on is no second start


def test_the_next_server_says_what_it_takes_over(serve: Start, meeting: Meeting) -> None:
    server = serve()
    run = server.api.run("meets", {"port": meeting.port})
    meeting.guest()
    server.kill()
    server.start()
    meeting.guest().go("again")
    assert server.api.end(run)["state"] == "succeeded"
    (taken,) = (line for line in lines(server) if "earlier server" in line["text"])
    assert (taken["level"], taken["runs"]) == ("info", 1)
    assert 'pullcord_run_takeovers_total{reason="restart"} 1.0' in server.api.text("/metrics")


def test_a_reload_says_what_has_changed(serve: Start, tmp_path: Path) -> None:
    flows = tmp_path / "two.py"
    flows.write_text("import pullcord as pc\n@pc.flow\ndef one(): ...\n@pc.flow\ndef two(): ...\n")
    server = serve(flows)
    flows.write_text("import pullcord as pc\n@pc.flow\ndef one(a: int = 1): ...\n@pc.flow\ndef three(): ...\n")
    server.process.send_signal(signal.SIGHUP)
    again = poll(lambda: next((line for line in lines(server) if "loaded again" in line["text"]), None))
    assert again is not None
    assert (again["location"], again["added"], again["removed"], again["changed"]) == (
        "two.py", ["three"], ["two"], ["one"],
    )  # fmt: skip
    poll(lambda: any(line.get("cause") == "reload" for line in lines(server)))


def test_refusals_are_told_at_debug_and_inputs_never(serve: Start) -> None:
    server = serve(environment={"PULLCORD_LOG_LEVEL": "debug"})
    reply = server.api.ask("chain", {"log": "a-secret-path", "steps": "many"})
    assert reply.status == 422
    (told,) = (line for line in lines(server) if line.get("request_id") == reply.body["request_id"])
    assert (told["level"], told["code"], told["flow"], told["invoker"]) == ("debug", "invalid_inputs", "chain", "owner")
    assert "a-secret-path" not in server.says


def test_a_location_that_fails_is_told_and_keeps_nobody_from_working(serve: Start, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name\n")
    server = serve(broken, WILD)
    ready = server.api.get("/readyz")
    assert (ready.status, ready.body["ready"]) == (200, True)
    (told,) = (line for line in lines(server) if line["level"] == "warning" and "location" in line)
    assert (told["location"], told["place"]) == ("broken.py", f"{broken}:1")
    assert "ModuleNotFoundError" in told["text"] and told["traceback"].startswith("Traceback")
    assert 'pullcord_location_failures{location="broken.py"} 1.0' in server.api.text("/metrics")


def test_text_can_be_had_where_there_is_no_terminal(serve: Start) -> None:
    server = serve(environment={"PULLCORD_LOG_FORMAT": "text"})
    assert server.stop() == 0
    first, *_, last = server.says.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ info    Pullcord \S+ starts  url=http\S+", first)
    assert " stopped " in last


def test_a_server_that_stops_is_not_ready_and_still_answers(serve: Start, meeting: Meeting) -> None:
    server = serve()
    server.api.run("meets", {"port": meeting.port})
    guest = meeting.guest()
    server.process.send_signal(signal.SIGTERM)
    ready = poll(lambda: next((reply for reply in [server.api.get("/readyz")] if reply.status == 503), None))
    assert ready is not None
    assert [part["name"] for part in ready.body["parts"] if not part["ready"]] == ["listening"]
    guest.go("done")
    assert server.died() == 0


# --- on a terminal ---------------------------------------------------------------------------------------


def here(server: Server | None = None) -> dict[str, str]:
    """Return the environment of somebody at a terminal, in the folder of a server's data."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PULLCORD_")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return environment | ({} if server is None else {"PULLCORD_DATA_DIR": str(server.data_dir)})


def press(terminal: Terminal, keys: bytes) -> None:
    """Press keys, without an Enter."""
    os.write(terminal._ours, keys)


def resize(terminal: Terminal, width: int) -> None:
    """Make the window wider or narrower; the kernel tells the program."""
    fcntl.ioctl(terminal._ours, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))


def shows(terminal: Terminal, *texts: str) -> bool:
    """Wait until the screen shows all of these."""
    return terminal.read_until(lambda screen: all(any(text in line for line in screen.lines) for text in texts))


def test_top_shows_what_goes_on_until_q(serve: Start, meeting: Meeting, log: Path, tmp_path: Path) -> None:
    server = serve(WILD)
    assert server.api.result("crashes", {"way": "exit"})["state"] == "failed"
    server.api.run("calls-a-program", {"port": meeting.port})
    meeting.guest()
    with Terminal("pullcord top", tmp_path, here(server)) as terminal:
        assert shows(terminal, "1 running", "crashes", "calls-a-program", "wild.py", "worker_lost")
        resize(terminal, 60)
        assert shows(terminal, "…")  # cut at the new width, not broken
        press(terminal, b"q")
        assert terminal.finish() == 0


@pytest.mark.parametrize("leave", [b"\x03", b"\x1b"], ids=["Ctrl-C", "Escape"])
def test_top_lets_go(leave: bytes, serve: Start, tmp_path: Path) -> None:
    server = serve()
    with Terminal("pullcord top", tmp_path, here(server)) as terminal:
        assert shows(terminal, "0 running")
        press(terminal, leave)
        assert terminal.finish() == 0


def test_top_waits_for_a_server_that_comes_back(serve: Start, tmp_path: Path) -> None:
    server = serve()
    with Terminal("pullcord top", tmp_path, here(server)) as terminal:
        assert shows(terminal, "0 running")
        server.kill()
        assert shows(terminal, "no server")
        server.start()
        assert terminal.read_until(lambda screen: not any("no server" in line for line in screen.lines))
        press(terminal, b"q")
        assert terminal.finish() == 0


def test_top_for_programs(serve: Start, tmp_path: Path, log: Path) -> None:
    server = serve()
    server.api.result("chain", {"log": str(log)})
    command = [sys.executable, "-m", "pullcord", "top"]
    seen = subprocess.run([*command, "--json"], capture_output=True, text=True, env=here(server), check=True)
    shot = json.loads(seen.stdout)
    assert (shot["ready"], shot["runs"]["running"], shot["store"]["up"]) == (True, 0, True)
    assert [(flow["flow"], flow["ended"]) for flow in shot["flows"]] == [("chain", 1)]
    assert [place["location"] for place in shot["locations"]] == ["steady.py"]
    assert shot["rates"]["admitted"] == 0
    seen = subprocess.run([*command, "--once"], capture_output=True, text=True, env=here(server), check=True)
    assert "0 running" in seen.stdout and "\x1b" not in seen.stdout
    server.kill()
    await_end([server.pid])
    seen = subprocess.run(command, capture_output=True, text=True, env=here(server), check=False)
    assert (seen.returncode, seen.stdout) == (5, "")


def test_log_lines_do_not_cut_into_the_live_display(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(
        "import os, pathlib\nimport pullcord as pc\n"
        "@pc.flow\ndef dies_once() -> str:\n"
        "    mark = pathlib.Path('mark')\n"
        "    if not mark.exists():\n        mark.touch()\n        os.kill(os.getpid(), 9)\n"
        "    return 'well'\n"
    )
    with Terminal("pullcord run dies-once", tmp_path, here()) as terminal:
        assert terminal.finish() == 0
        shown = terminal.screen.lines
    (gone,) = (line for line in shown if "is gone" in line)
    assert re.fullmatch(r"worker \d+ of flows.py is gone \(it was killed by SIGKILL\) with 1 run", gone)
    assert shown[-1] == '"well"'
