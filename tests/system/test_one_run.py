"""One request id or one key makes one run, however many callers use it at once, and whatever dies meanwhile."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.system.harness import Reply, Start, together
from tests.system.invariants import check_invariants, opened, recorded
from tests.system.witnessed import executions, lines_of

CALLERS = 50


@pytest.mark.parametrize("name", ["idempotency_key", "request_id"])
@pytest.mark.parametrize("point", ["writer.before_commit", "writer.after_commit"])
def test_fifty_callers_and_a_kill_make_one_run(name: str, point: str, serve: Start, tmp_path: Path, log: Path) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    server = serve(environment={"PULLCORD_FAILPOINTS": f"{point}@{marker}"})
    identity: dict[str, Any] = {name: str(uuid4())}

    def ask(_: int) -> Reply:
        return server.api.ask("chain", {"log": str(log)}, **identity)

    server.api.result("chain", {"log": str(log), "steps": 0})
    marker.unlink()
    first = together(CALLERS, ask)
    assert any(isinstance(answer, httpx2.TransportError) for answer in first)
    assert server.died() == -signal.SIGKILL
    crash = recorded(server.data_dir), len(lines_of(log))
    with opened(server.data_dir) as db:
        # The commit that was deadly may have been one without a request in it.
        on_disk = db.execute("SELECT count(*) FROM runs").fetchone()[0] == 2
    assert not (on_disk and point == "writer.before_commit")
    server.start()
    second = together(CALLERS, ask)

    replies = [answer for answer in [*first, *second] if isinstance(answer, Reply)]
    assert len(replies) >= CALLERS
    assert {reply.status for reply in replies} <= {200, 202}
    assert len({reply.run_id for reply in replies}) == 1
    assert len({reply.body["request_id"] for reply in replies}) == 1
    assert all(reply.status == 200 and reply.body["replayed"] for reply in second) == on_disk
    server.api.end(replies[0].run_id)
    assert server.stop() == 0
    check_invariants(server.data_dir, [reply.body for reply in replies], log, crash)
    with opened(server.data_dir) as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone()[0] == 2


@pytest.mark.parametrize("name", ["idempotency_key", "request_id"])
def test_fifty_callers_at_the_same_instant_make_one_run(name: str, serve: Start, log: Path) -> None:
    server = serve()
    identity: dict[str, Any] = {name: str(uuid4())}
    replies = together(CALLERS, lambda _: server.api.ask("chain", {"log": str(log)}, **identity))
    assert sorted(reply.status for reply in replies) == [200] * (CALLERS - 1) + [202]
    assert len({reply.run_id for reply in replies}) == 1
    run = server.api.end(replies[0].run_id)
    assert executions(lines_of(log))[run["id"]] == {0: 1, 1: 1, 2: 1}
    assert len(server.api.get("/v1/runs").body["items"]) == 1
    assert server.stop() == 0
    check_invariants(server.data_dir, [reply.body for reply in replies], log)
