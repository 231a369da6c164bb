"""Back up beside a busy server, lose everything, restore, and go on: with the commands that a user types."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.crash.verify import settle
from tests.system.harness import Server, Start
from tests.system.invariants import opened
from tests.system.meeting import Meeting
from tests.system.processes import PATIENCE


def pullcord(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Type a command."""
    done = subprocess.run(
        [sys.executable, "-m", "pullcord", *map(str, arguments)],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def lose(server: Server) -> None:
    """Kill the server and destroy its data; the token is somebody's secret and kept elsewhere."""
    server.kill_everything()
    token = (server.data_dir / "token").read_text()
    shutil.rmtree(server.data_dir)
    server.data_dir.mkdir(mode=0o700)
    (server.data_dir / "token").write_text(token)
    (server.data_dir / "token").chmod(0o600)


def test_a_back_up_under_load_is_whole_and_restores(serve: Start, tmp_path: Path, log: Path) -> None:
    server = serve()
    receipts: list[dict[str, object]] = []
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            receipts.append(server.api.ask("chain", {"log": str(log), "steps": 2}).body)

    asking = threading.Thread(target=ask)
    asking.start()
    archive = tmp_path / "archive.tar.gz"
    before = 0
    try:
        for _ in range(3):
            before = len(receipts)
            facts = json.loads(pullcord("backup", archive, "--force", "--data-dir", server.data_dir, "--json").stdout)
            assert facts["runs"] >= before
    finally:
        enough.set()
        asking.join()
    assert len(receipts) > before, "the server was not held up"
    for receipt in receipts:
        assert server.api.end(str(receipt["run_id"]))["state"] == "succeeded"
    assert str(server.pid) in pullcord("restore", archive, "--force", "--data-dir", server.data_dir, status=1).stderr, (
        "not under a running server"
    )

    lose(server)
    said = pullcord("restore", archive, "--data-dir", server.data_dir).stdout
    assert f"restored {facts['runs']:,} runs" in said
    server.start()
    for receipt in receipts[:before]:
        assert server.api.end(str(receipt["run_id"]))["state"] == "succeeded"
    assert settle(server.api, PATIENCE) == []  # the back-up may hold runs that were asked for while it was made
    assert server.stop() == 0
    with opened(server.data_dir) as db:
        states = dict(db.execute("SELECT state, count(*) FROM runs GROUP BY state").fetchall())
    assert states == {"succeeded": facts["runs"]}


def test_a_run_that_was_active_goes_on_from_the_steps_that_the_back_up_holds(
    serve: Start, meeting: Meeting, tmp_path: Path
) -> None:
    server = serve()
    run = server.api.run("meets", {"port": meeting.port, "texts": ["one", "two", "three"]})
    meeting.guest().go("first")
    two = meeting.guest()
    assert two.text == "two"
    archive = tmp_path / "archive.tar.gz"
    pullcord("backup", archive, "--data-dir", server.data_dir)
    two.go("second")
    assert meeting.guest().text == "three"

    lose(server)
    pullcord("restore", archive, "--data-dir", server.data_dir)
    server.start()
    again = meeting.guest()
    assert again.text == "two", "what was recorded after the back-up is done once more, and nothing else"
    again.go("second again")
    meeting.guest().go("third")
    assert server.api.end(run)["result"] == ["first", "second again", "third"]
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("command", "tool"), [(["backup"], "pg_dump --format=custom"), (["restore", "x.tar.gz"], "pg_restore --clean")]
)
def test_a_postgresql_database_is_left_to_its_own_tools(
    command: list[str], tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULLCORD_DATABASE_URL", "postgresql://ada:secret@db/pullcord")
    said = pullcord(*command, status=2).stderr
    assert tool in said
    assert "secret" not in said


def test_a_server_elsewhere_is_backed_up_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULLCORD_URL", "http://127.0.0.1:1")
    assert "on that server's machine" in pullcord("backup", status=2).stderr
