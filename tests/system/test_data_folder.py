"""A data folder belongs to one server, whatever became of the last one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.system.harness import STEADY, Start
from tests.system.processes import PATIENCE


def test_a_second_server_says_who_holds_the_folder(serve: Start, log: Path) -> None:
    server = serve()
    second = subprocess.run(
        [sys.executable, "-m", "pullcord", "serve", str(STEADY), "--data-dir", str(server.data_dir), "--port", "0"],
        capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=log.parent,
    )  # fmt: skip
    assert second.returncode == 1
    assert f"is in use by process {server.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    assert second.stdout == ""
    assert server.api.result("chain", {"log": str(log)})["state"] == "succeeded"
    assert server.stop() == 0


def test_what_a_dead_server_left_does_not_keep_the_next_from_starting(serve: Start, log: Path) -> None:
    server = serve()
    server.kill_everything()
    left = {path.name for path in server.data_dir.iterdir()}
    assert {"lock", "server.json", "token", "pullcord.db"} <= left
    token = (server.data_dir / "token").read_text()
    server.start()
    assert (server.data_dir / "token").read_text() == token
    assert (server.data_dir / "lock").read_text().split() == [str(server.pid)]
    assert server.api.result("chain", {"log": str(log)})["state"] == "succeeded"


def test_the_owner_alone_can_read_what_is_in_it(serve: Start, log: Path) -> None:
    umask = os.umask(0)
    try:
        server = serve()
    finally:
        os.umask(umask)
    server.api.result("chain", {"log": str(log)})
    assert server.data_dir.stat().st_mode & 0o777 == 0o700
    for name in ("token", "pullcord.db", "pullcord.db-wal", "server.json", "lock"):
        assert (server.data_dir / name).stat().st_mode & 0o077 == 0, name
