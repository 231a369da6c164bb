"""A full disk: what cannot be written is refused clearly, and when there is space again it goes on by itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.harness import Reply, Server, Start
from tests.system.invariants import check_invariants
from tests.system.meeting import Meeting


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte free."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


def store_part(ready: Reply) -> dict[str, Any]:
    """Return what `/readyz` says of the store."""
    part: dict[str, Any] = next(part for part in ready.body["parts"] if part["name"] == "store")
    return part


def fill_until_refused(server: Server, disk: Path, log: Path) -> tuple[Path, list[dict[str, object]]]:
    """Fill the disk and ask until the store has used up what it had; return the ballast and the receipts on the way."""
    ballast = fill(disk)
    receipts = []
    for _ in range(5000):
        reply = server.api.ask("chain", {"log": str(log), "steps": 0})
        if reply.status == 503:
            return ballast, receipts
        assert reply.status == 202, reply
        receipts.append(reply.body)
    raise AssertionError("the disk did not fill")


def test_requests_are_refused_and_runs_wait_until_there_is_space(
    serve: Start, meeting: Meeting, small_disk: Path, tmp_path: Path, log: Path
) -> None:
    server = serve(data_dir=small_disk / "data", log=tmp_path / "stderr")
    run = server.api.run("meets", {"port": meeting.port, "texts": ["one", "two"]})
    guest = meeting.guest()
    ballast, receipts = fill_until_refused(server, small_disk, log)

    refused = server.api.ask("chain", {"log": str(log)})
    assert (refused.status, refused.body["code"]) == (503, "store_full")
    assert "the disk is full" in refused.body["detail"]
    assert server.api.cancel(run).body["code"] == "store_full"
    assert server.api.get("/healthz").status == 200
    ready = server.api.get("/readyz")
    assert (ready.status, ready.body["ready"]) == (503, False)
    assert [part["name"] for part in ready.body["parts"] if not part["ready"]] == ["store"]
    assert "the disk is full" in store_part(ready)["detail"]
    assert "pullcord_store_up 0.0" in server.api.text("/metrics")
    assert 'pullcord_store_failures_total{code="store_full"}' in server.api.text("/metrics")
    assert server.api.look(run)["state"] == "running"
    guest.go("first")  # its record cannot be written now, so the next step must not begin

    ballast.unlink()
    ready = server.api.get("/readyz")  # asking is enough: nothing has to be written first
    assert (ready.status, store_part(ready)["ready"]) == (200, True)
    second = meeting.guest()
    assert second.text == "two"
    second.go("second")
    assert server.api.end(run)["result"] == ["first", "second"]
    accepted = server.api.ask("chain", {"log": str(log)}, wait="30s")
    assert accepted.body["run"]["state"] == "succeeded"
    for receipt in receipts:
        assert server.api.end(str(receipt["run_id"]))["state"] == "succeeded"
    assert server.stop() == 0
    said = [json.loads(line) for line in server.says.splitlines()]
    assert [line["code"] for line in said if line["level"] == "error"] == ["store_full"]  # not one for each try
    assert sum(line["text"] == "the store can be written again" for line in said) == 1


def test_a_crash_on_a_full_disk_loses_nothing(serve: Start, small_disk: Path, tmp_path: Path, log: Path) -> None:
    server = serve(data_dir=small_disk / "data", log=tmp_path / "stderr")
    ballast, receipts = fill_until_refused(server, small_disk, log)
    server.kill_everything()
    ballast.unlink()
    server.start()
    for receipt in receipts:
        assert server.api.end(str(receipt["run_id"]))["state"] == "succeeded"
    assert server.stop() == 0
    check_invariants(server.data_dir, receipts, log)


def test_a_server_does_not_start_on_a_full_disk_and_says_why(serve: Start, small_disk: Path, tmp_path: Path) -> None:
    ballast = fill(small_disk)
    server = serve(data_dir=small_disk / "data", log=tmp_path / "stderr", started=False)
    server.spawn()
    assert server.process.wait(30) == 1
    assert "full" in server.says.lower() or "no space" in server.says.lower()
    assert "Traceback" not in server.says
    ballast.unlink()
    server.start()
    assert server.stop() == 0


def test_neither_does_a_full_disk_under_its_own_log_stop_it(serve: Start, small_disk: Path, log: Path) -> None:
    server = serve(data_dir=small_disk / "data", log=small_disk / "stderr")
    ballast, _ = fill_until_refused(server, small_disk, log)
    ballast.unlink()
    assert server.api.ask("chain", {"log": str(log)}, wait="30s").body["run"]["state"] == "succeeded"
