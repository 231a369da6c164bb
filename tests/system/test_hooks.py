"""Webhooks of a server that dies: a sender that got no answer sends again, and there is one run."""

from __future__ import annotations

import base64
import hmac
import json
import signal
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pullcord.store.queries.invariants.examine import examine
from tests.system.harness import FLOWS, Server, Start
from tests.system.invariants import opened

KEY = b"0123456789abcdef0123456789abcdef"
BODY = b'{"order": 17}'


def deliver(server: Server, identity: str) -> httpx2.Response:
    """Send the delivery, signed anew as senders do."""
    stamp = str(int(time.time()))
    signature = base64.b64encode(hmac.digest(KEY, f"{identity}.{stamp}.".encode() + BODY, sha256)).decode()
    headers = {"webhook-id": identity, "webhook-timestamp": stamp, "webhook-signature": f"v1,{signature}"}
    url = json.loads((server.data_dir / "server.json").read_text())["url"]
    return httpx2.post(f"{url}/v1/hooks/orders", content=BODY, headers=headers, trust_env=False)


@pytest.mark.parametrize(("point", "status"), [("gate.before_write", 202), ("gate.after_write", 200)])
def test_a_delivery_without_an_answer_is_sent_again_and_runs_once(
    point: str, status: int, serve: Start, tmp_path: Path
) -> None:
    secret = "whsec_" + base64.b64encode(KEY).decode()
    environment = {"PULLCORD_TEST_HOOK": secret, "PULLCORD_FAILPOINTS": f"{point}@{tmp_path / 'marker'}"}
    server = serve(FLOWS / "ordered.py", environment=environment)
    with pytest.raises(httpx2.TransportError):
        deliver(server, "order-17")
    assert server.died() == -signal.SIGKILL

    server.start()
    again = deliver(server, "order-17")
    assert again.status_code == status, again.text
    assert again.json()["replayed"] is (status == 200)
    run = again.json()["run_id"]
    assert server.api.end(run)["state"] == "succeeded"
    third = deliver(server, "order-17")
    assert (third.status_code, third.json()["run_id"]) == (200, run)
    runs: list[dict[str, Any]] = server.api.get("/v1/runs", flow="ship").body["items"]
    assert [one["id"] for one in runs] == [run]
    assert server.stop() == 0
    assert secret not in server.says
    with opened(server.data_dir) as db:
        assert [example for verdict in examine(db) for example in verdict.examples] == []
