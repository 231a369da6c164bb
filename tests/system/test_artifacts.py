"""Artifacts and pruning over kills and on a full disk: what is listed is whole, and nothing is stored twice."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pullcord.failpoints import NAMES
from pullcord.store.queries.invariants.examine import examine
from tests.system.harness import FLOWS, Server, Start
from tests.system.invariants import opened
from tests.system.meeting import Meeting
from tests.system.processes import poll
from tests.system.test_full_disk import fill, small_disk

__all__ = ["small_disk"]

KEEPING = FLOWS / "keeping.py"
STORING = tuple(name for name in NAMES if name.startswith("artifact."))
PRUNING = tuple(name for name in NAMES if name.startswith("prune."))


def broken(server: Server) -> list[str]:
    with opened(server.data_dir) as db:
        return [example for verdict in examine(db) for example in verdict.examples]


def artifacts(server: Server, run: str) -> dict[str, dict[str, Any]]:
    """Return the artifacts of a run; each must be there, whole."""
    items = server.api.get(f"/v1/runs/{run}/artifacts").body["items"]
    for item in items:
        content = server.data_dir / "artifacts" / item["sha256"][:2] / item["sha256"][2:]
        data = content.read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (item["size"], item["sha256"])
    return {item["name"]: item for item in items}


def unfinished(server: Server) -> list[Path]:
    folder = server.data_dir / "artifacts" / "tmp"
    return list(folder.iterdir()) if folder.exists() else []


def prune(server: Server) -> dict[str, Any]:
    """Prune, and return what that came to."""
    assert server.api.post("/v1/retention/prune").status == 202
    state = poll(lambda: (found := server.api.get("/v1/retention").body)["pruning"] or found)
    while state is True:
        state = poll(lambda: (found := server.api.get("/v1/retention").body)["pruning"] or found)
    last: dict[str, Any] = state["last"]
    assert last["failure"] is None
    return last


@pytest.mark.parametrize("name", STORING)
def test_a_run_goes_on_when_its_worker_dies_while_it_stores(name: str, serve: Start, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    server = serve(KEEPING, environment={"PULLCORD_FAILPOINTS": f"{name}@{marker}"})
    run = server.api.result("stores", {"port": 0, "source": str(tmp_path / "source")})
    assert marker.exists()
    assert (run["state"], run["takeovers"]) == ("succeeded", 1)
    found = artifacts(server, run["id"])
    assert [found["of-flow"]["sha256"], found["in-step"]["sha256"]] == [run["result"][0], run["result"][2]]
    left = unfinished(server)
    assert len(left) == (0 if name == "artifact.before_report" else 1)
    prune(server)
    assert unfinished(server) == left, "somebody might still be writing it"
    for path in left:
        os.utime(path, (1, 1))
    prune(server)
    assert unfinished(server) == []
    assert server.stop() == 0
    assert broken(server) == []


def test_a_run_that_goes_on_with_another_server_stores_nothing_twice(
    serve: Start, meeting: Meeting, tmp_path: Path
) -> None:
    server = serve(KEEPING)
    source = tmp_path / "source"
    run = server.api.run("stores", {"port": meeting.port, "source": str(source), "times": 100_000})
    meeting.guest()
    before = artifacts(server, run)
    assert list(before) == ["in-step", "of-flow"]
    server.kill_everything()
    server.start()
    meeting.guest().go()
    ended = server.api.end(run)
    assert ended["state"] == "succeeded"
    assert not source.exists(), "the file was not asked for again by the flow: it wrote it, and it was not stored"
    after = artifacts(server, run)
    assert after["of-flow"] == before["of-flow"]
    assert after["in-step"]["sha256"] == ended["result"][2]
    assert server.stop() == 0
    assert broken(server) == []


def test_what_does_not_fit_on_the_disk_fails_its_run_and_leaves_nothing(
    serve: Start, small_disk: Path, tmp_path: Path
) -> None:
    server = serve(KEEPING, data_dir=small_disk / "data", log=tmp_path / "stderr")
    good = server.api.result("fits", {"size": 100_000})
    assert good["state"] == "succeeded"
    run = server.api.result("fits", {"size": 8_000_000})
    assert (run["state"], run["error"]["type"]) == ("failed", "artifact_not_stored")
    assert "is full" in run["error"]["message"]
    assert unfinished(server) == []
    assert artifacts(server, run["id"]) == {}
    assert list(artifacts(server, good["id"])) == ["data"]
    assert server.api.result("fits", {"size": 50_000})["state"] == "succeeded"
    assert server.stop() == 0
    assert broken(server) == []


def test_what_was_stored_before_the_disk_was_full_is_listed_when_there_is_space(
    serve: Start, small_disk: Path, meeting: Meeting, tmp_path: Path
) -> None:
    server = serve(KEEPING, data_dir=small_disk / "data", log=tmp_path / "stderr")
    run = server.api.run("stores", {"port": meeting.port, "source": str(tmp_path / "source")})
    guest = meeting.guest()
    ballast = fill(small_disk)
    guest.go()
    ballast.unlink()
    ended = server.api.end(run)
    found = artifacts(server, run)
    assert list(found) == ["in-step", "of-flow"]
    assert ended["state"] == "succeeded" or ended["error"]["type"] == "artifact_not_stored"
    assert server.stop() == 0
    assert broken(server) == []


@pytest.mark.parametrize("name", PRUNING)
def test_pruning_goes_on_after_a_kill(name: str, serve: Start, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    server = serve(KEEPING, environment={"PULLCORD_FAILPOINTS": f"{name}@{marker}"})
    runs = [server.api.result("forgotten", {"text": str(number)})["id"] for number in range(5)]
    contents = {artifacts(server, run)["a.txt"]["sha256"] for run in runs}
    assert len(contents) == 5
    with_logs = lambda: {path.stem for path in (server.data_dir / "logs").rglob("*.jsonl")}  # noqa: E731
    poll(lambda: with_logs() == set(runs))  # they are written by a thread of their own
    try:
        server.api.post("/v1/retention/prune")
    except httpx2.TransportError:
        assert marker.exists()
    assert server.died() == -signal.SIGKILL
    assert marker.exists()
    for path in [*(server.data_dir / "logs").rglob("*.jsonl"), *(server.data_dir / "artifacts").rglob("*")]:
        os.utime(path, (1, 1))
    server.start()
    prune(server)
    assert [run["id"] for run in server.api.get("/v1/runs").body["items"]] == [runs[-1]]
    assert with_logs() == {runs[-1]}
    assert list(artifacts(server, runs[-1])) == ["a.txt"]
    assert len([path for path in (server.data_dir / "artifacts").rglob("*") if path.is_file()]) == 1
    assert server.api.result("forgotten", {"text": "more"})["state"] == "succeeded"
    assert server.stop() == 0
    assert broken(server) == []
