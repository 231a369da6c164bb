"""A sender that gets no answer sends again: whatever died meanwhile, its delivery becomes one run."""

from __future__ import annotations

import base64
import hmac
import json
import signal
import time
from hashlib import sha256
from pathlib import Path

import httpx2
import pytest

from pullcord.store.queries.invariants.examine import examine
from tests.system.harness import FLOWS, Server, Start
from tests.system.invariants import opened

KEY = b"a key of the sender's and the server's"
BODY = b'{"number": 7}'


def deliver(server: Server) -> httpx2.Response:
    stamp = str(int(time.time()))
    signed = hmac.digest(KEY, f"msg_1.{stamp}.".encode() + BODY, sha256)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
    url = json.loads((server.data_dir / "server.json").read_text())["url"]
    return httpx2.post(f"{url}/v1/hooks/orders", content=BODY, headers=headers, timeout=30, trust_env=False)


def delivered(server: Server) -> bool:
    """Say whether the delivery is on the disk of a dead server."""
    with opened(server.data_dir) as db:
        return bool(db.execute("SELECT count(*) FROM requests WHERE outcome = 'admitted'").fetchone()[0])


@pytest.mark.parametrize(
    "point", ["gate.before_write", "gate.after_write", "writer.before_commit", "writer.after_commit"]
)
def test_a_delivery_is_one_run_when_the_server_dies_at(point: str, serve: Start, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    secret = f"whsec_{base64.b64encode(KEY).decode()}"
    server = serve(
        FLOWS / "hooked.py", environment={"PULLCORD_FAILPOINTS": f"{point}@{marker}", "ORDERS_SECRET": secret}
    )
    for _ in range(20):
        marker.unlink()
        with pytest.raises(httpx2.TransportError):
            deliver(server)
        assert server.died() == -signal.SIGKILL
        taken = delivered(server)
        server.start()
        if taken == ("after" in point):
            break  # else it died at something that a server still writes when it says that it is ready
    assert taken == ("after" in point)
    answer = deliver(server)
    assert answer.status_code == (200 if taken else 202), answer.text
    assert deliver(server).json()["run_id"] == answer.json()["run_id"]
    run = server.api.end(answer.json()["run_id"])
    assert (run["state"], run["result"]) == ("succeeded", 7)
    assert len(server.api.get("/v1/runs").body["items"]) == 1
    assert server.stop() == 0
    assert secret not in server.says
    with opened(server.data_dir) as db:
        assert [example for verdict in examine(db) for example in verdict.examples] == []
