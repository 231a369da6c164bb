"""A schedule in a real server that is killed again and again, and whose clock somebody sets."""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.system.harness import Server, Start
from tests.system.invariants import opened
from tests.system.processes import poll

EVERY = 250_000
TICKING = """
import pullcord as pc


@pc.flow(
    concurrency=None,
    triggers=[
        pc.interval("250ms", name="each", catch_up="all", max_catch_up=10_000),
        pc.interval("250ms", name="newest", catch_up="latest", misfire_grace="100ms"),
    ],
)
async def tick() -> None:
    return None
"""


def count(server: Server) -> int:
    """Return how many runs there are."""
    return len(server.api.get("/v1/runs", flow="tick", limit="1000").body["items"])


def next_due(server: Server) -> str:
    """Return when the schedule of the flow asks next."""
    due: str = server.api.get("/v1/triggers", flow="tick").body["items"][0]["next_due"]
    return due


def rows(data_dir: Path, name: str) -> list[Any]:
    with opened(data_dir) as db:
        return db.execute(
            "SELECT outcome, scheduled_for, count FROM requests WHERE trigger_name = ? ORDER BY scheduled_for", (name,)
        ).fetchall()


def test_each_tick_happens_once_however_often_the_server_is_killed(serve: Start, tmp_path: Path) -> None:
    dice = random.Random(7)
    flows = tmp_path / "ticking.py"
    flows.write_text(TICKING)
    server = serve(flows)
    for _ in range(4):
        before = count(server)
        poll(lambda before=before: count(server) >= before + dice.randrange(2, 8))
        server.kill()
        dead = time.monotonic()
        poll(lambda dead=dead: time.monotonic() > dead + 4 * EVERY / 1_000_000)  # so that some are missed
        server.start()
    before = count(server)
    poll(lambda: count(server) >= before + 3)
    # All ticks so far may have been too late for the one that is not patient.
    poll(lambda: all(item["last_fired_at"] for item in server.api.get("/v1/triggers", flow="tick").body["items"]))
    assert server.stop() == 0
    for name, outcomes in (("each", {"admitted"}), ("newest", {"admitted", "missed"})):
        found = rows(server.data_dir, name)
        ticks = [row["scheduled_for"] for row in found]
        assert ticks == [ticks[0] + number * EVERY for number in range(len(ticks))], name
        assert {row["outcome"] for row in found} == outcomes
        assert set(Counter(row["count"] for row in found)) == {1}


def test_a_clock_that_is_set_wakes_a_schedule_at_once(serve: Start, tmp_path: Path) -> None:
    flows = tmp_path / "hourly.py"
    flows.write_text(
        "import pullcord as pc\n\n\n"
        '@pc.flow(concurrency=None, triggers=[pc.interval("1h", name="each", catch_up="all")])\n'
        "async def tick() -> None: ...\n"
    )
    clock = tmp_path / "clock"

    def ahead(hours: float) -> None:
        fresh = clock.with_suffix(".new")
        fresh.write_text(str(round(hours * 3600)))
        fresh.replace(clock)

    ahead(0)
    server = serve(
        flows,
        constants={"pullcord.triggers.schedules": {"LOOK": 0.05}},
        environment={"PULLCORD_TEST_CLOCK": str(clock)},
    )
    poll(lambda: server.api.get("/v1/triggers", flow="tick").body["items"])
    for hours, runs in ((1.5, 1), (4.5, 4), (4.0, 4), (5.5, 5)):
        ahead(hours)
        poll(lambda runs=runs: count(server) == runs)
    ahead(-100)  # by more than an hour: it goes on from then
    poll(lambda: datetime.fromisoformat(next_due(server)) < datetime.now(UTC) - timedelta(hours=98))
    ahead(-98.5)
    poll(lambda: count(server) == 6)
    assert server.stop() == 0
    assert [row["count"] for row in rows(server.data_dir, "each")] == [1] * 6
