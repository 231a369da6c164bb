"""Many triggers at once: none of them crowds out the others."""

from __future__ import annotations

import time
from datetime import datetime

from tests.system.harness import FLOWS, Server, Start
from tests.system.processes import PATIENCE

TOGETHER = 0.05
"""200 events whose polls were all due together would be due within less than so many seconds."""


def due(server: Server) -> list[float]:
    """Return when the events are polled next, in order, as soon as all have been polled."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        items = server.api.get("/v1/triggers", limit="1000").body["items"]
        if len(items) == 200 and all(item["last_poll_at"] for item in items):
            return sorted(datetime.fromisoformat(item["next_due"]).timestamp() for item in items)
    raise AssertionError("not all events were polled")


def test_many_events_are_not_all_due_together(serve: Start) -> None:
    server = serve(FLOWS / "many.py")
    first = due(server)
    assert first[-1] - first[0] > TOGETHER
    server.stop()
    server.start()
    later = due(server)
    assert later[-1] - later[0] > TOGETHER
