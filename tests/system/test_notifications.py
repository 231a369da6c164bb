"""What is told arrives, over real HTTP: through kills, floods, hangs and targets that are gone."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pullcord.store.queries.invariants.examine import examine
from tests.crash.verify import every, settle
from tests.system.harness import FLOWS, Server, Start
from tests.system.invariants import opened
from tests.system.processes import PATIENCE, poll
from tests.system.receiver import SECRET, Receiver, name_channels

TELLING = FLOWS / "telling.py"
QUICK = {"pullcord.services.notifier": {"FIRST_PAUSE": 0.05, "LONGEST_PAUSE": 0.2}}
"""Pauses for which a test need not wait."""


@pytest.fixture
def ops(tmp_path: Path) -> Iterator[Receiver]:
    """Open a receiver, and name it in the settings."""
    with Receiver() as receiver:
        name_channels(tmp_path, ops=receiver)
        yield receiver


def notifications(server: Server, **filters: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = server.api.get("/v1/notifications", limit="1000", **filters).body["items"]
    return items


def fail(server: Server, count: int) -> None:
    """Let runs fail, as many as one batch holds at a time."""
    for first in range(0, count, 1000):
        requests = [{"flow": "tells", "inputs": {"n": number}} for number in range(first, min(count, first + 1000))]
        receipts = server.api.post("/v1/runs/batch", {"requests": requests}).body["receipts"]
        assert all(receipt["outcome"] == "admitted" for receipt in receipts)


def rules_broken(data_dir: Path) -> list[str]:
    with opened(data_dir) as db:
        return [example for verdict in examine(db) for example in verdict.examples]


def test_a_failure_is_told_with_what_to_do_and_without_what_nobody_should_see(
    serve: Start, ops: Receiver, tmp_path: Path
) -> None:
    server = serve(TELLING)
    run = server.api.result("tells", {"n": 7})
    (message,) = ops.until(lambda messages: len(messages) == 1)
    data = message["data"]
    assert message["type"] == "run.failed"
    assert (data["title"], data["level"], data["flow"], data["count"]) == ("tells failed", "error", "tells", 1)
    assert "ValueError: no such number: 7" in data["text"]
    assert f"pullcord runs show {run['id']}" in data["text"]
    assert data["details"]["id"] == run["id"]
    assert "traceback" not in data["details"]["error"]
    poll(lambda: notifications(server, state="delivered"))
    (item,) = notifications(server)
    assert (item["id"], item["run_id"], item["tries"]) == (message["id"], run["id"], 1)
    server.api.result("tells", {"fail": True}, test=True)
    server.api.result("tells", {"fail": False})
    ops.until(lambda messages: messages[-1]["type"] == "run.recovered")
    assert "pullcord_notifications_sent_total" in server.api.text("/metrics")
    assert server.stop() == 0
    assert {message["data"]["count"] for message in ops.messages} == {1}
    for path in (server.log, server.data_dir / "pullcord.db"):
        assert SECRET.encode() not in path.read_bytes()


def test_a_thousand_failures_at_once_make_a_handful_of_messages(serve: Start, ops: Receiver) -> None:
    server = serve(TELLING)
    began = time.monotonic()
    fail(server, 1000)
    ops.until(lambda _: ops.counted() == 1000)
    # One every two seconds: how many come together depends on how long the runs take.
    assert len(ops.messages) <= 2 + (time.monotonic() - began) / 2
    assert sum(message["data"]["count"] for message in ops.messages) == 1000
    largest = max(ops.messages, key=lambda message: int(message["data"]["count"]))
    assert len(largest["data"]["details"]["first"]) == 10
    assert " more" in largest["data"]["text"]
    assert server.stop() == 0
    assert rules_broken(server.data_dir) == []


POINTS = (
    "notify.before_seal", "notify.before_send", "notify.after_send",
    "writer.before_commit", "writer.after_commit", "journal.after_finish",
)  # fmt: skip


@pytest.mark.parametrize(("name", "when"), [*((name, 1) for name in POINTS), ("notify.after_send", 2)])
def test_nothing_that_was_to_be_told_is_lost_when_the_server_dies_at(
    name: str, when: int, serve: Start, ops: Receiver, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    marker.touch()  # the point is armed when this is taken away
    server = serve(TELLING, environment={"PULLCORD_FAILPOINTS": f"{name}@{marker}:{when}"})
    fail(server, 5)
    marker.unlink()
    while server.process.poll() is None:
        try:
            fail(server, 1)
        except Exception:
            break
    assert server.died() == -signal.SIGKILL
    assert marker.exists()
    server.start()

    assert settle(server.api, PATIENCE) == []
    # Their ends are told in the same transaction.
    failed = sum(1 for _ in every(server.api, "/v1/runs", state="failed"))
    ops.until(lambda _: ops.counted() == failed)
    poll(lambda: not notifications(server, state="pending"))
    assert sum(item["count"] for item in notifications(server, state="delivered")) == failed >= 5
    assert server.stop() == 0
    assert ops.counted() == failed
    assert rules_broken(server.data_dir) == []


def test_a_target_that_was_gone_gets_everything_afterwards(serve: Start, ops: Receiver) -> None:
    server = serve(TELLING, constants=QUICK)
    ops.close()
    fail(server, 20)
    poll(lambda: any(item["tries"] > 1 for item in notifications(server, state="pending")))
    ready = server.api.get("/readyz").body
    assert ready["ready"]
    (part,) = (part for part in ready["parts"] if part["name"] == "channel ops")
    assert not part["ready"]
    fail(server, 20)
    assert server.stop() == 0
    ops.status = 500
    ops.open()
    server.start()
    began = time.monotonic()
    fail(server, 20)
    ops.status = 204
    ops.until(lambda _: ops.counted() == 60)
    # What had gathered comes at once, and then one every two seconds.
    assert len(ops.messages) <= 5 + (time.monotonic() - began) / 2
    poll(lambda: not notifications(server, state="pending"))


def test_a_channel_that_hangs_delays_no_other_and_no_run(serve: Start, ops: Receiver, tmp_path: Path) -> None:
    with Receiver() as slow:
        slow.gate.clear()
        name_channels(tmp_path, ops=ops, slow=slow)
        server = serve(TELLING)
        assert server.api.result("tells", {"fail": False})["state"] == "succeeded"
        assert server.api.result("tells")["state"] == "failed"
        ops.until(lambda messages: len(messages) == 1)
        (pending,) = notifications(server, channel="slow")
        assert pending["state"] == "pending"
        assert server.stop() == 0
        slow.gate.set()
        server.start()
        messages = slow.until(lambda messages: pending["id"] in {message["id"] for message in messages})
        assert {message["type"] for message in messages} == {"run.succeeded"}


def test_a_run_that_takes_long_is_told_of_while_it_runs_and_once(serve: Start, ops: Receiver, tmp_path: Path) -> None:
    server = serve(TELLING, constants={"pullcord.services.longruns": {"EVERY": 0.1}})
    told = tmp_path / "told"
    run = server.api.run("takes", {"seconds": 4, "told": str(told)})
    (message,) = ops.until(lambda messages: len(messages) == 1)
    assert message["type"] == "run.long"
    assert message["data"]["details"]["state"] == "running"
    told.touch()
    assert server.api.end(run)["state"] == "succeeded"
    assert len(notifications(server)) == 1


def test_an_attempt_and_the_failure_after_the_last_are_told_apart(serve: Start, ops: Receiver) -> None:
    server = serve(TELLING)
    server.api.result("tries")
    messages = ops.until(lambda messages: len(messages) == 2)
    assert {message["type"] for message in messages} == {"run.retrying", "run.failed"}
    assert "failed in attempt 2" in next(m["data"]["text"] for m in messages if m["type"] == "run.failed")


def test_who_is_told_is_changed_while_the_server_runs_and_stays_so(serve: Start, ops: Receiver) -> None:
    server = serve(TELLING)
    put = server.api._client.put
    muted = put("/v1/flows/tells/notifications", json={"muted": True, "until": "2100-01-01T00:00:00Z", "reason": "x"})
    assert muted.json()["muted"] == {"until": "2100-01-01T00:00:00.000000Z"}
    assert muted.json()["changed"]["by"] == "owner"
    server.api.result("tells")
    assert notifications(server) == []
    server.kill()
    server.start()
    put = server.api._client.put
    rules = [{"event": "run.succeeded", "channels": ["ops"]}]
    answer = put("/v1/flows/tells/notifications", json={"muted": False, "rules": rules}).json()
    assert answer["muted"] is None
    assert {"event": "run.succeeded", "channels": ["ops"], "from": "people"} in answer["rules"]
    server.api.result("tells", {"fail": False})
    ops.until(lambda messages: [message["type"] for message in messages] == ["run.succeeded"])
    refused = put("/v1/flows/tells/notifications", json={"rules": [{"event": "run.failed", "channels": ["nobody"]}]})
    assert refused.status_code == 422
    assert "no channel is called nobody" in refused.json()["detail"]


def test_a_channel_that_there_is_not_is_shown_everywhere(serve: Start, ops: Receiver) -> None:
    server = serve(TELLING)
    server.api.result("lost")
    poll(lambda: [item["last_error"] for item in notifications(server, channel="nowhere") if item["last_error"]])
    assert server.api.get("/v1/flows/lost/notifications").body["unknown_channels"] == ["nowhere"]
    parts = {part["name"]: part for part in server.api.get("/readyz").body["parts"]}
    assert "flow lost names" in parts["channel nowhere"]["detail"]
    assert 'pullcord_notifications{state="pending"} 1.0' in server.api.text("/metrics")
    (item,) = notifications(server)
    assert server.api.post(f"/v1/notifications/{item['id']}/retry").status == 202
    assert server.api.get(f"/v1/notifications/{item['id']}").body["message"]["level"] == "error"


def test_a_command_without_a_server_tells_before_it_ends(ops: Receiver, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pullcord", "run", "tells", "--wait", "--flows", str(TELLING)],
        cwd=tmp_path, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (message,) = ops.messages
    assert message["type"] == "run.failed"
