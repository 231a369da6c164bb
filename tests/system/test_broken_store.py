"""What becomes of the store under a live server: locked by others, damaged, taken away, put back."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import Server, Start
from tests.system.meeting import Meeting
from tests.system.processes import PATIENCE, poll


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Let a foreign process hold the database's write lock, as a curious sqlite3 shell does."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE'); "
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(data_dir / "pullcord.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.kill()  # closing in order it would checkpoint, which is exactly what nobody else may do


def doctor(server: Server, status: int) -> str:
    """Type `pullcord doctor`."""
    done = subprocess.run(
        [sys.executable, "-m", "pullcord", "doctor", "--data-dir", str(server.data_dir)],
        capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=server.log.parent,
    )  # fmt: skip
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_a_lock_of_somebody_else_costs_time_and_nothing_more(serve: Start, meeting: Meeting, log: Path) -> None:
    server = serve()
    run = server.api.run("meets", {"port": meeting.port, "texts": ["one", "two"]})
    guest = meeting.guest()
    with locked(server.data_dir):
        guest.go("first")
        refused = server.api.ask("chain", {"log": str(log)})
        assert (refused.status, refused.body["code"]) == (503, "store_locked")
        assert "another process is using the database file" in refused.body["detail"]
        assert server.api.look(run)["state"] == "running"
        assert server.api.get("/healthz").status == 200
    second = meeting.guest()
    assert second.text == "two"
    second.go("second")
    assert server.api.end(run)["result"] == ["first", "second"]
    assert server.api.result("chain", {"log": str(log)})["state"] == "succeeded"
    assert server.stop() == 0


def test_a_data_folder_that_is_taken_away_takes_no_receipts_with_it(serve: Start, tmp_path: Path, log: Path) -> None:
    """SQLite would write on into files without a name, and a receipt for that would be a lie."""
    server = serve()
    api = server.api
    kept = api.run("chain", {"log": str(log)})
    api.end(kept)
    away = tmp_path / "elsewhere"
    server.data_dir.rename(away)
    refused = api.ask("chain", {"log": str(log)})
    assert (refused.status, refused.body["code"]) == (503, "store_read_only")
    assert "was moved or removed" in refused.body["detail"]
    assert api.get("/healthz").status == 200
    away.rename(server.data_dir)
    assert api.result("chain", {"log": str(log)})["state"] == "succeeded", "and goes on when it is back"
    (server.data_dir / "pullcord.db").rename(tmp_path / "aside")
    assert api.ask("chain", {"log": str(log)}).body["code"] == "store_read_only"
    (tmp_path / "aside").rename(server.data_dir / "pullcord.db")
    assert server.stop() == 0
    server.start()
    assert [item["state"] for item in server.api.get("/v1/runs").body["items"]] == ["succeeded"] * 2
    assert server.stop() == 0


def test_a_data_folder_that_is_removed_is_said_and_the_server_can_be_stopped(serve: Start, log: Path) -> None:
    server = serve()
    subprocess.run(["rm", "-rf", str(server.data_dir)], check=True)
    refused = server.api.ask("chain", {"log": str(log)})
    assert (refused.status, refused.body["code"]) == (503, "store_read_only")
    server.stop()
    assert "Traceback" not in server.says


# --- damaged pages ---------------------------------------------------------------------------------------------------


def filled(server: Server, log: Path) -> list[str]:
    """Make enough runs that their table has leaves apart from its root; return their ids, oldest first."""
    ids: list[str] = []
    for _ in range(3):
        requests = [{"flow": "chain", "inputs": {"log": str(log), "steps": 0}}] * 100
        ids += [
            receipt["run_id"] for receipt in server.api.post("/v1/runs/batch", {"requests": requests}).body["receipts"]
        ]
    for run in ids:
        server.api.end(run)
    return ids


def page_of(data_dir: Path, table: str) -> tuple[int, list[int]]:
    """Return the root page of a table and its leaves, in the order of their keys."""
    with closing(sqlite3.connect(data_dir / "pullcord.db")) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()
    data = (data_dir / "pullcord.db").read_bytes()
    page = data[(root - 1) * 4096 : root * 4096]
    assert page[0] == 5, "an interior page of a table"
    count = int.from_bytes(page[3:5], "big")
    cells = [int.from_bytes(page[12 + 2 * i : 14 + 2 * i], "big") for i in range(count)]
    return root, [int.from_bytes(page[cell : cell + 4], "big") for cell in cells]


def damage(data_dir: Path, page: int) -> None:
    """Write nonsense over a page."""
    with (data_dir / "pullcord.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xaa" * 4096)


def test_a_damaged_page_harms_only_what_is_on_it(serve: Start, log: Path) -> None:
    server = serve()
    ids = filled(server, log)
    assert server.stop() == 0
    _, leaves = page_of(server.data_dir, "runs")
    server.start()
    damage(server.data_dir, leaves[0])
    api = server.api
    gone = poll(lambda: api.get(f"/v1/runs/{ids[0]}"))
    assert (gone.status, gone.body["code"]) == (503, "store_corrupt")
    assert "restore a back-up" in gone.body["detail"]
    assert api.look(ids[-1])["state"] == "succeeded"
    listed: Any = api.get("/v1/runs", limit="10")
    assert listed.status == 200
    assert api.get("/v1/runs", limit="1000").body["code"] == "store_corrupt"
    assert api.result("chain", {"log": str(log)})["state"] == "succeeded"
    assert api.get("/healthz").status == 200
    said = doctor(server, 1)
    assert "damaged" in said
    assert "restore a back-up" in said
    server.stop()


@pytest.mark.parametrize("table", ["runs", "requests", "meta", "alembic_version"])
def test_a_server_does_not_start_on_a_damaged_database_and_says_what_to_do(serve: Start, log: Path, table: str) -> None:
    server = serve()
    filled(server, log)
    assert server.stop() == 0
    with closing(sqlite3.connect(server.data_dir / "pullcord.db")) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()
    damage(server.data_dir, root)
    server.spawn()
    assert server.process.wait(PATIENCE) == 1
    assert (
        "the database is damaged; stop Pullcord, keep a copy of the data folder, and restore a back-up" in server.says
    )
    assert "Traceback" not in server.says
    assert "damaged" in doctor(server, 1) or "malformed" in doctor(server, 1)
