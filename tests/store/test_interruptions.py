"""Steps without an end in runs that have one: interrupted, whatever ended the run, and told in `partial`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pullcord.store.commands.claim import Claimed
from pullcord.store.commands.lifecycle import MAX_LOSSES
from tests.store.harness import LANE, ROOM, Server, admit, finished, step

ALONE = ROOM | {LANE.rpartition("#")[0] + "#isolated": 1000}


@pytest.fixture
def run(server: Server) -> Claimed:
    """Begin a run that has done one step, and is inside of two others."""
    (run,) = server.begin(admit())
    server.record(
        step(run, "s1", name="load"),
        step(run, "s2", "running", seq=2, name="store", writes='["orders.parquet"]'),
        step(run, "s3", "running", seq=3, name="mail"),
    )
    return run


def steps(server: Server, run: Claimed) -> list[tuple[str, str]]:
    rows = server.rows("SELECT name, state FROM steps WHERE run_id = :id ORDER BY seq", id=run.id)
    return [(row["name"], row["state"]) for row in rows]


def partial(server: Server, run: Claimed) -> Any:
    text = server.run(run.id)["partial"]
    return None if text is None else json.loads(text)


CUT_OFF = [("load", "succeeded"), ("store", "interrupted"), ("mail", "interrupted")]
TOLD = {
    "steps": ["store", "mail"],
    "text": "step store was interrupted and may have left orders.parquet half-written; step mail was interrupted",
}


def test_a_cancelled_run_whose_worker_is_killed(server: Server, run: Claimed) -> None:
    server.cancel(run.uuid)
    assert (steps(server, run)[1], partial(server, run)) == (("store", "running"), None)
    server.lose(run, blame=0)
    assert server.run(run.id)["state"] == "cancelled"
    assert (steps(server, run), partial(server, run)) == (CUT_OFF, TOLD)
    ended = server.rows("SELECT ended_at FROM steps WHERE name = 'mail'")[0]["ended_at"]
    assert ended == server.run(run.id)["ended_at"]


def test_a_cancelled_run_whose_worker_says_what_it_cut_off(server: Server, run: Claimed) -> None:
    server.cancel(run.uuid)
    server.record(
        step(run, "s2", "interrupted", seq=2, name="store"),
        step(run, "s3", "succeeded", seq=3, name="mail"),
        step(run, "s4", "interrupted", seq=4, name="short", writes='["a","b"]'),
    )
    server.finish(finished(run, "cancelled"))
    assert partial(server, run) == {
        "steps": ["store", "short"],
        "text": "step store was interrupted and may have left orders.parquet half-written; "
        "step short was interrupted and may have left a, b half-written",
    }


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_run_that_ends_with_steps_in_progress(server: Server, run: Claimed, state: str) -> None:
    if state == "cancelled":
        server.cancel(run.uuid)
    server.finish(finished(run, state, error="{}" if state == "failed" else None))
    assert (steps(server, run), partial(server, run)) == (CUT_OFF, TOLD)


def test_a_flow_that_returns_without_its_steps_is_whole(server: Server, run: Claimed) -> None:
    server.finish(finished(run))
    assert (steps(server, run), partial(server, run)) == (CUT_OFF, None)


def test_a_run_that_loses_its_worker_too_often(server: Server, run: Claimed) -> None:
    for _ in range(MAX_LOSSES):
        assert (steps(server, run)[1], partial(server, run)) == (("store", "running"), None)
        server.lose(run)
        server.claim(ALONE)
        run = run._replace(token=run.token + 1)
    assert server.run(run.id)["state"] == "failed"
    assert (steps(server, run), partial(server, run)) == (CUT_OFF, TOLD)


def test_what_was_cancelling_when_the_server_died(server: Server, run: Claimed) -> None:
    server.cancel(run.uuid)
    server.restart()
    assert server.run(run.id)["state"] == "cancelled"
    assert (steps(server, run), partial(server, run)) == (CUT_OFF, TOLD)


def test_a_run_without_a_worker_that_is_cancelled(server: Server, run: Claimed) -> None:
    server.lose(run, blame=0)
    server.cancel(run.uuid)
    assert (steps(server, run), partial(server, run)) == (CUT_OFF, TOLD)


def test_another_attempt_finds_its_steps_interrupted_and_may_yet_do_them(server: Server, run: Claimed) -> None:
    server.record(step(run, "s4", "failed", seq=4, error="{}"))
    server.finish(finished(run, "failed", error="{}", retry_at=server.clock.now()))
    assert (steps(server, run)[:3], partial(server, run)) == (CUT_OFF, None)
    assert steps(server, run)[3] == ("step", "retrying")
    server.queue_due()
    (again,) = server.claim()
    assert [row[4] for row in again.steps] == ["succeeded", "interrupted", "interrupted", "retrying"]
    server.record(*[step(again, f"s{seq}", seq=seq, attempt=2) for seq in (2, 3, 4)])
    server.finish(finished(again))
    assert partial(server, again) is None
    assert {state for _, state in steps(server, again)} == {"succeeded"}


def test_an_interrupted_step_is_no_progress(server: Server, run: Claimed) -> None:
    server.lose(run)
    (again,) = server.claim(ALONE)
    server.record(step(again, "s2", "interrupted", seq=2))
    assert server.run(run.id)["losses"] == 1


def test_a_stale_worker_does_not_say_what_a_step_writes(server: Server, run: Claimed) -> None:
    server.lose(run, blame=0)
    server.claim()
    server.record(step(run, "s3", "running", seq=3, writes='["other"]'))
    assert [row["writes"] for row in server.rows("SELECT writes FROM steps ORDER BY seq")] == [
        None, '["orders.parquet"]', None,
    ]  # fmt: skip


def test_a_failed_try_that_no_other_follows_has_failed(server: Server) -> None:
    (run,) = server.begin(admit())
    server.record(step(run, "s1", "retrying", error='{"type":"E"}'))
    server.cancel(run.uuid)
    server.finish(finished(run, "cancelled"))
    assert (steps(server, run), partial(server, run)) == ([("step", "failed")], None)
