"""How far a run is outlives its worker and its server, and becomes the records of its flow's figures."""

from __future__ import annotations

from typing import Any

import pytest

from tests.system.harness import FLOWS, Start
from tests.system.meeting import Meeting
from tests.system.processes import poll

COUNTING = FLOWS / "counting.py"
AT_ONCE = {"pullcord.services.progress": {"EVERY": 0.02}}


def records(stats: dict[str, Any]) -> float | None:
    """Return the records of the last hour."""
    (window,) = stats["windows"]
    found: float | None = window["records"]
    return found


@pytest.mark.parametrize("victim", ["worker", "server"])
def test_progress_survives_a_kill(victim: str, serve: Start, meeting: Meeting) -> None:
    server = serve(COUNTING, constants=AT_ONCE)
    run = server.api.run("import-parts", {"port": meeting.port})
    meeting.guest().go()
    guest = meeting.guest()
    assert guest.text == "part 1"
    kept = poll(lambda: (server.api.look(run)["progress"] or {"done": 0})["done"] == 20)
    assert kept
    if victim == "worker":
        server.kill_workers()
    else:
        server.kill()
        server.start()
    # What was said before the kill is there until the run says more.
    assert server.api.look(run)["progress"] == {"done": 20.0, "total": 30.0, "text": "part 1"}
    for text in ("part 1", "part 2"):
        guest = meeting.guest()
        assert guest.text == text
        guest.go()
    ended = server.api.end(run)
    assert (ended["state"], ended["takeovers"]) == ("succeeded", 1)
    assert server.api.look(run)["progress"] == {"done": 30.0, "total": 30.0, "text": "part 2"}
    stats = server.api.get("/v1/flows/import-parts/stats", window="1h").body
    assert records(stats) == 30
    assert stats["windows"][0]["takeovers"] == 1


def test_the_last_word_comes_with_the_end_without_a_write_of_its_own(serve: Start, meeting: Meeting) -> None:
    server = serve(COUNTING, constants={"pullcord.services.progress": {"EVERY": 3600}})
    run = server.api.run("import-parts", {"port": meeting.port, "count": 2})
    meeting.guest().go()
    guest = meeting.guest()
    assert server.api.look(run)["progress"] is None
    guest.go()
    server.api.end(run)
    assert server.api.look(run)["progress"]["done"] == 20


def test_progress_of_a_run_that_is_cancelled(serve: Start, meeting: Meeting) -> None:
    server = serve(COUNTING, constants={"pullcord.services.progress": {"EVERY": 3600}})
    run = server.api.run("import-parts", {"port": meeting.port})
    guest = meeting.guest()
    server.api.cancel(run)
    guest.go()
    assert server.api.end(run)["state"] == "cancelled"
    assert server.api.look(run)["progress"]["done"] == 10
    stats = server.api.get("/v1/flows/import-parts/stats", window="1h").body
    assert (records(stats), stats["windows"][0]["states"]["cancelled"]) == (10, 1)
