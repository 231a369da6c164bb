"""Each file that is dropped into a watched folder becomes one run, whatever dies meanwhile."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import FLOWS, Server, Start
from tests.system.invariants import opened
from tests.system.meeting import Meeting

Drop = Callable[..., None]


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def drop(inbox: Path, tmp_path: Path) -> Drop:
    """Move files into the folder, each whole at once."""

    def into_the_folder(*names: str) -> None:
        for name in names:
            path = tmp_path / name
            path.write_text(name)
            path.rename(inbox / name)

    return into_the_folder


@pytest.fixture
def begin(serve: Start, inbox: Path, meeting: Meeting) -> Callable[..., Server]:
    def start(**environment: str) -> Server:
        return serve(FLOWS / "inbox.py", environment={"INBOX": str(inbox), "MEETING": str(meeting.port)} | environment)

    return start


def send_on(server: Server, meeting: Meeting, count: int) -> set[str]:
    """Wait for so many runs at once and let them end; return the names of their files."""
    guests = meeting.guests(count)
    for guest in guests.values():
        guest.go()
    for guest in guests.values():
        assert server.api.end(guest.run)["state"] == "succeeded"
    return set(guests)


def files_of_runs(server: Server) -> Counter[str]:
    """Stop the server; return how many runs and requests each file has had, which must be the same."""
    assert server.stop() == 0
    with opened(server.data_dir) as db:
        runs = db.execute("SELECT inputs, state FROM runs").fetchall()
        requests = db.execute("SELECT outcome, count(*) AS n FROM requests GROUP BY outcome").fetchall()
    assert {row["state"] for row in runs} == {"succeeded"}
    assert [(row["outcome"], row["n"]) for row in requests] == [("admitted", len(runs))]
    inputs: list[dict[str, Any]] = [json.loads(row["inputs"]) for row in runs]
    return Counter(Path(item["path"]).name for item in inputs)


def test_each_file_becomes_one_run_also_over_a_kill(begin: Callable[..., Server], drop: Drop, meeting: Meeting) -> None:
    drop("a.csv", "b.csv", ".hidden.csv", "c.txt")
    server = begin()
    standing = meeting.guests(2)
    drop("c.csv")
    assert send_on(server, meeting, 1) == {"c.csv"}
    server.kill()
    for guest in standing.values():
        guest.gone()
    drop("d.csv", "e.csv")
    server.start()
    assert send_on(server, meeting, 4) == {"a.csv", "b.csv", "d.csv", "e.csv"}
    drop("c.csv")  # another one of the same name
    assert send_on(server, meeting, 1) == {"c.csv"}
    meeting.nobody()
    assert files_of_runs(server) == {"a.csv": 1, "b.csv": 1, "c.csv": 2, "d.csv": 1, "e.csv": 1}


@pytest.mark.parametrize("point", ["writer.before_commit", "writer.after_commit"])
def test_a_kill_at_the_very_commit_makes_no_second_run(
    begin: Callable[..., Server], drop: Drop, meeting: Meeting, tmp_path: Path, point: str
) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    server = begin(PULLCORD_FAILPOINTS=f"{point}@{marker}")
    drop("first.csv")
    send_on(server, meeting, 1)
    marker.unlink()
    drop("a.csv", "b.csv", "c.csv")
    assert server.died() == -signal.SIGKILL
    server.start()
    assert send_on(server, meeting, 3) == {"a.csv", "b.csv", "c.csv"}
    drop("last.csv")
    assert send_on(server, meeting, 1) == {"last.csv"}
    meeting.nobody()
    assert files_of_runs(server) == dict.fromkeys(["first.csv", "a.csv", "b.csv", "c.csv", "last.csv"], 1)
