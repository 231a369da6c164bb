"""Pauses, suspended flows, expiry and rates in a real server that is killed in the middle of each."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pullcord.failpoints import NAMES
from pullcord.store.queries.invariants.examine import examine
from tests.system.harness import FLOWS, Server, Start, together
from tests.system.invariants import opened
from tests.system.processes import poll
from tests.system.test_clock import HOUR, Machine

LIMITED = FLOWS / "limited.py"
PAUSE = tuple(name for name in NAMES if name.startswith("pause."))
DEADLINE = tuple(name for name in NAMES if name.startswith("deadline."))
WHY = {"reason": "a test"}


def paused(server: Server, flow: str) -> Any:
    """Return the pause of a flow."""
    return server.api.get(f"/v1/flows/{flow}").body["paused"]


def broken(server: Server) -> list[str]:
    """Stop a server; return what the doctor has to say."""
    assert server.stop() == 0
    with opened(server.data_dir) as db:
        return [example for verdict in examine(db) for example in verdict.examples]


@pytest.mark.parametrize("name", PAUSE)
@pytest.mark.parametrize("what", ["pause", "resume"])
def test_a_flow_is_paused_or_it_is_not_when_the_server_dies_at(
    name: str, what: str, serve: Start, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    server = serve(LIMITED, environment={"PULLCORD_FAILPOINTS": f"{name}@{marker}"})
    server.api.run("busy", {"seconds": 60})
    waits = server.api.run("busy")
    if what == "resume":
        assert server.api.post("/v1/flows/busy/pause", WHY).status == 200
    marker.unlink()
    with pytest.raises(httpx2.TransportError):
        server.api.post(f"/v1/flows/busy/{what}", WHY if what == "pause" else None)
    assert server.died() == -signal.SIGKILL
    server.start()
    is_paused = paused(server, "busy") is not None
    assert is_paused == ((what == "pause") == (name == "pause.after_write"))
    reply = server.api.ask("busy")
    assert reply.status == (409 if is_paused else 202)
    for run in server.api.get("/v1/runs", flow="busy", state="running").body["items"]:
        assert server.api.cancel(run["id"], force=True).status == 202
        server.api.end(run["id"])
    if is_paused:
        assert server.api.look(waits)["state"] == "queued"
        assert server.api.post("/v1/flows/busy/resume").status == 200
    assert server.api.end(waits)["state"] == "succeeded"
    assert broken(server) == []


def test_a_pause_ends_by_itself_also_while_no_server_runs(serve: Start, tmp_path: Path) -> None:
    machine = Machine(serve, tmp_path, LIMITED)
    server, until = machine.server, machine.time(HOUR)
    assert server.api.post("/v1/flows/busy/pause", WHY | {"until": until}).body["paused"]["reason"] == "a test"
    assert server.api.ask("busy").body["code"] == "flow_paused"
    server.kill()
    machine.move(2 * HOUR)
    server.start()
    poll(lambda: paused(server, "busy") is None)
    assert server.api.result("busy")["state"] == "succeeded"
    assert server.api.post("/v1/flows/busy/pause", WHY | {"until": machine.time(HOUR)}).status == 200
    assert server.api.ask("busy").body["code"] == "flow_paused"
    machine.move(4 * HOUR)
    poll(lambda: paused(server, "busy") is None)
    assert server.api.result("busy")["state"] == "succeeded"
    assert broken(server) == []


@pytest.mark.parametrize("name", [*DEADLINE, "writer.before_commit", "writer.after_commit"])
def test_a_run_that_waits_too_long_expires_once_when_the_server_dies_at(
    name: str, serve: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    monkeypatch.setenv("PULLCORD_FAILPOINTS", f"{name}@{marker}")
    machine = Machine(serve, tmp_path, LIMITED)
    server = machine.server
    server.api.state(server.api.run("busy", {"seconds": 60}), "running")
    run = server.api.run("busy", expires_in="1h", idempotency_key="k")
    marker.unlink()
    machine.move(2 * HOUR)
    assert server.died() == -signal.SIGKILL
    assert marker.exists()
    server.start()
    ended = server.api.end(run)
    assert (ended["state"], ended["started_at"], ended["cancel"]["by"]) == ("cancelled", None, "system")
    assert ended["error"]["type"] == "expired"
    row = server.api.get(f"/v1/requests/{ended['request_id']}").body
    assert (row["outcome"], row["run_id"]) == ("expired", run)
    again = server.api.ask("busy", idempotency_key="k")
    assert (again.status, again.run_id) == (200, run)
    assert broken(server) == []


def test_what_expires_while_no_server_runs_never_starts(serve: Start) -> None:
    server = serve(LIMITED)
    server.api.run("busy", {"seconds": 60})
    run = server.api.run("busy", expires_in=0.5)
    server.kill()
    expires = datetime.fromisoformat(rows(server, "SELECT uuid, expires_at FROM runs")[run])
    poll(lambda: datetime.now(UTC) > expires)
    server.start()
    assert server.api.end(run)["started_at"] is None
    assert broken(server) == []


def rows(server: Server, sql: str) -> dict[str, str]:
    """Return pairs of a dead server's database; times as RFC 3339."""
    from pullcord.clock import rfc3339

    with opened(server.data_dir) as db:
        return {key: rfc3339(at) or "" for key, at in db.execute(sql)}


@pytest.mark.parametrize("name", ["journal.before_write", "writer.before_commit", "journal.after_finish"])
def test_failures_are_counted_once_when_the_server_dies_at(name: str, serve: Start, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    server = serve(LIMITED, environment={"PULLCORD_FAILPOINTS": f"{name}@{marker}"})
    assert server.api.result("fails")["state"] == "failed"
    marker.unlink()
    try:
        told = server.api.result("fails", idempotency_key="second")
    except httpx2.TransportError:
        pass
    else:  # who waits may have read the end from the disk before it was told to anybody
        assert (name, told["state"]) == ("journal.after_finish", "failed")
    assert server.died() == -signal.SIGKILL
    server.start()
    assert server.api.result("fails", idempotency_key="second")["state"] == "failed"
    assert paused(server, "fails") is None
    assert server.api.result("fails")["state"] == "failed"
    pause = poll(lambda: paused(server, "fails"))
    assert (pause["by"], pause["until"]) == ("system", None)
    assert "its last 3 runs failed" in pause["reason"]
    assert server.api.ask("fails").body["code"] == "flow_paused"
    server.kill()
    server.start()
    assert paused(server, "fails") == pause
    assert server.api.post("/v1/flows/fails/resume").body["paused"] is None
    assert server.api.ask("fails").status == 202
    assert broken(server) == []


def test_a_rate_holds_over_a_kill_and_many_callers(serve: Start) -> None:
    server = serve(LIMITED)
    assert server.api.ask("rare").status == 202
    server.kill()
    server.start()
    replies = together(10, lambda _: server.api.ask("rare"))
    assert sorted(reply.status for reply in replies) == [202, 202, *[429] * 8]
    assert {reply.body["code"] for reply in replies if reply.status == 429} == {"rate_limited"}
    server.kill()
    server.start()
    assert server.api.ask("rare").status == 429
    assert broken(server) == []


def test_the_ticks_of_a_paused_flow_are_in_the_ledger_and_share_a_row(serve: Start) -> None:
    server = serve(LIMITED)
    assert server.api.post("/v1/flows/ticking/pause", WHY).status == 200
    before = len(server.api.get("/v1/runs", flow="ticking", limit="1000").body["items"])

    def skipped() -> list[Any]:
        items = server.api.get("/v1/requests", flow="ticking", outcome="skipped").body["items"]
        return [item for item in items if "is paused" in item["reason"]]

    poll(lambda: sum(item["count"] for item in skipped()) >= 5)
    assert len(skipped()) <= 2, "those of an hour share a row"
    assert skipped()[0]["reason"] == "ticking is paused by owner: a test"
    assert len(server.api.get("/v1/runs", flow="ticking", limit="1000").body["items"]) == before
    assert server.api.get("/v1/flows/ticking").body["next_runs"] == []
    assert server.api.post("/v1/flows/ticking/resume").status == 200
    poll(lambda: len(server.api.get("/v1/runs", flow="ticking", limit="1000").body["items"]) > before)
    assert broken(server) == []
