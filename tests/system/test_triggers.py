"""Triggers as people see them: a real server, real commands, and a programmer who changes the code meanwhile."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pullcord.cli.main import app
from tests.system.harness import FLOWS, Server, Start
from tests.system.meeting import Meeting
from tests.system.processes import PATIENCE, poll

HOUR = 3_600_000_000


class Shell:
    """Somebody who types commands.

    Args:
        server: what they are about.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def type(self, *arguments: str, status: int = 0) -> str:
        """Return what a command writes."""
        done = CliRunner().invoke(app, [*arguments, "--data-dir", str(self._server.data_dir)])
        assert done.exit_code == status, f"{arguments} ended with {done.exit_code}\n{done.output}"
        return done.output

    def read(self, *arguments: str) -> Any:
        """Return the JSON that a command writes."""
        return json.loads(self.type(*arguments, "--json"))

    def until(self, wanted: Callable[[str], bool], *arguments: str) -> str:
        """Type a command again and again until it shows what is wanted."""
        deadline = time.monotonic() + PATIENCE
        while not wanted(shown := self.type(*arguments)):
            assert time.monotonic() < deadline, shown
        return shown


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A file of flows that a test may change."""
    path = tmp_path / "triggered.py"
    path.write_text((FLOWS / "triggered.py").read_text())
    return path


@pytest.fixture
def server(serve: Start, code: Path) -> Server:
    """A server of that file; no hour comes to its end while a test counts what was or will be every hour."""
    poll(lambda: time.time() % 3600 < 3540, 90)
    return serve(code)


@pytest.fixture
def shell(server: Server) -> Iterator[Shell]:
    """Commands about that server, without anything that the environment says."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PULLCORD_")]:
            patch.delenv(name)
        yield Shell(server)


def line_of(shown: str, name: str) -> str:
    """Return the line of a table that begins with a name."""
    return next(line for line in shown.splitlines() if line.startswith(name))


def test_a_pause_survives_a_restart_and_says_by_whom_and_why(server: Server, shell: Shell) -> None:
    line = line_of(shell.type("triggers", "list"), "hourly")
    assert "every hour, UTC" in line
    assert line.endswith("ok")
    assert "hourly is disabled until" in shell.type(
        "triggers", "disable", "hourly", "--reason", "the press is broken", "--until", "2h"
    )
    server.stop()
    server.start()
    assert line_of(shell.type("triggers", "list"), "hourly").endswith("disabled")
    shown = shell.type("triggers", "show", "hourly")
    assert "(in the code: yes)" in shown
    assert "by owner" in shown
    assert "the press is broken" in shown
    why = line_of(shell.type("why", "report"), "hourly")
    assert "owner disabled it until" in why
    assert "the press is broken" in why
    assert "hourly is enabled; next" in shell.type("triggers", "enable", "hourly", "--reason", "repaired")
    history = shell.type("triggers", "history", "hourly")
    assert history.index("enabled as in the code (repaired)") < history.index("disabled until")
    assert "(by owner)" in history


def test_a_changed_schedule_survives_and_shows_the_codes(server: Server, shell: Shell) -> None:
    shell.type(
        "triggers", "set", "hourly", "--schedule", "30 4 * * *", "--setting", "tz=Europe/Berlin",
        "--parameter", "region=IT", "--reason", "less traffic",
    )  # fmt: skip
    server.kill()
    server.start()
    shown = shell.type("triggers", "show", "hourly")
    assert "at 04:30 every day, Europe/Berlin" in shown
    for name, value, declared in [
        ("expression", '"30 4 * * *"', '"0 * * * *"'), ("tz", '"Europe/Berlin"', '"UTC"'), ("region", '"IT"', '"FR"'),
    ]:  # fmt: skip
        (row,) = (line.split() for line in shown.splitlines() if line.strip().startswith(f"{name} "))
        assert " ".join(row[1:]) == f"{value} {declared}"
    preview = shell.type("triggers", "preview", "hourly", "-n", "400")
    assert preview.count("fires") == 400
    item = shell.read("triggers", "set", "hourly", "--reset")
    assert (item["override"], item["parameters"]) == (None, {"region": "FR"})


def test_what_has_left_the_code_is_orphaned_and_keeps_its_history(server: Server, shell: Shell, code: Path) -> None:
    shell.type("triggers", "disable", "hourly", "--reason", "it goes anyway")
    server.stop()
    whole = code.read_text()
    code.write_text(whole.replace('triggers=[pc.cron("0 * * * *", name="hourly", parameters={"region": "FR"})]', ""))
    server.start()
    assert line_of(shell.type("triggers", "list"), "hourly").endswith("orphaned")
    assert "it does nothing any more" in shell.type("triggers", "show", "hourly")
    assert "it goes anyway" in shell.type("triggers", "history", "hourly")
    assert "has left the code" in shell.type("triggers", "enable", "hourly", status=2)
    server.stop()
    code.write_text(whole)
    server.start()
    assert line_of(shell.type("triggers", "list"), "hourly").endswith("disabled")


def test_why_tells_what_was_missed_while_no_server_ran(server: Server, shell: Shell) -> None:
    server.stop()
    with sqlite3.connect(server.data_dir / "pullcord.db") as store:
        moved = (str(time.time_ns() // 1000 - 3 * HOUR), time.time_ns() // 1000 - 2 * HOUR)
        store.execute(
            "UPDATE trigger_state SET cursor = ?, next_due = ? WHERE trigger_id = "
            "(SELECT id FROM triggers WHERE name = 'hourly')",
            moved,
        )
    store.close()
    server.start()
    shown = shell.until(lambda text: "its run succeeded" in text, "why", "report")
    assert "hourly  asks next" in shown
    missed = [line for line in shown.splitlines() if "missed: its time passed while no server ran" in line]
    assert len(missed) == 2
    assert all(":00 missed" in line for line in missed)
    (asked,) = (line for line in shown.splitlines() if "admitted" in line)
    assert "trigger:hourly" in asked


def test_again_from_an_earlier_time(shell: Shell) -> None:
    shell.type("triggers", "set", "hourly", "--cursor", "5h", "--reason", "the data was wrong")
    shell.until(lambda text: text.count("its run succeeded") == 5, "why", "report")
    assert "again from" in shell.type("triggers", "history", "hourly")
    shell.type("triggers", "set", "hourly", "--cursor", "now")
    assert "the backlog is skipped" in shell.type("triggers", "history", "hourly")


def test_equal_fires_are_one_and_why_counts_them(shell: Shell, meeting: Meeting) -> None:
    shell.type("triggers", "set", "same", "--parameter", f"port={meeting.port}")
    shell.type("triggers", "enable", "same")
    guest = meeting.guest()
    shown = shell.until(lambda text: bool(re.search(r"deduplicated ([3-9]|\d\d+) times", text)), "why", "waits")
    assert f"run {guest.run} has the same context" in shown
    assert "1 running" in shown
    shell.type("triggers", "disable", "same")
    guest.go()
    shell.until(lambda text: "its run succeeded" in text, "why", "waits")
    request = shell.read("why", "waits", "--outcome", "admitted")["items"][0]["request_id"]
    receipt = shell.read("triggers", "replay", "same", request)
    again = meeting.guest()
    assert again.run == receipt["run_id"] != guest.run
    again.go()
    assert "admitted: waits" in shell.type("triggers", "replay", "same")
    meeting.guest().go()
    assert "has not asked for a run so far" in shell.type("triggers", "replay", "hourly", status=3)


def test_a_failing_event_says_how_and_when_it_is_tried_again(shell: Shell) -> None:
    shell.type("triggers", "enable", "broken")
    shown = shell.until(lambda text: "failing" in text, "why", "report")
    assert "the last poll failed, poll_failed: the share is away" in line_of(shown, "broken")
    assert "it is tried again" in line_of(shown, "broken")
    assert re.search(r"\(in \d+ min\)", line_of(shown, "broken")), "it asked to be left alone for an hour"
    assert line_of(shell.type("triggers", "list"), "broken").endswith("failing")
    seen = shell.type("triggers", "preview", "broken")
    assert "poll_failed: the share is away" in seen
    facts = shell.type("flows", "show", "report")
    assert "broken (event, failing), hourly (cron)" in facts
    assert len(re.findall(r":00:00 \S+ \(in \d+ \w+\)", facts)) == 5, "the next runs"
    assert "1 in a row" in shell.type("triggers", "show", "broken")


def test_parameters_that_do_not_fit_are_named(shell: Shell) -> None:
    shell.type("triggers", "set", "broken", "--parameter", "colour=red")
    assert "parameters do not fit the event's function: colour: " in shell.type("triggers", "preview", "broken")


def test_what_cannot_be_is_refused_with_the_reason(shell: Shell) -> None:
    assert "no trigger has the id or name 'nobody'" in shell.type("triggers", "show", "nobody", status=3)
    assert "nothing to change" in shell.type("triggers", "set", "hourly", status=2)
    assert "write five" in shell.type("triggers", "set", "hourly", "--schedule", "daily", status=2)
    assert "is not NAME=VALUE" in shell.type("triggers", "set", "hourly", "--setting", "tz", status=2)
    assert "neither a time nor a duration" in shell.type("triggers", "disable", "hourly", "--until", "soon", status=2)


def test_without_a_server_there_is_nobody_to_ask(server: Server, shell: Shell) -> None:
    server.stop()
    shell.type("triggers", "list", status=5)
    shell.type("triggers", "disable", "hourly", status=5)
