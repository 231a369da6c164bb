"""A paused flow admits nothing and starts nothing; what waits of it keeps its place and its slot."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pullcord.core.errors import NotFoundError
from pullcord.core.manifest import PAUSED, lane
from pullcord.core.states import Outcome
from pullcord.store.commands.attempts import RETRY_TEXT
from pullcord.store.commands.deadlines import MeetDeadlines
from pullcord.store.commands.pauses import PauseFlow, ResumeFlow
from pullcord.store.commands.triggers import RegisterTriggers
from pullcord.store.transaction import ignore
from tests.store.harness import DAY, LANE, LOCATION, SECOND, Server, admit, finished, spec
from tests.store.test_triggers import declared, fire

ERROR = '{"type":"ValueError","message":"no luck","traceback":null}'


def pause(server: Server, flow: str = "f", until: int | None = None) -> Any:
    return server.write(PauseFlow(flow, "ada", "month's end", until, ignore))


def resume(server: Server, flow: str = "f") -> Any:
    return server.write(ResumeFlow(flow, "bob", ignore))


def meet(server: Server) -> Any:
    return server.write(MeetDeadlines(server.clock.now() + 1, 0, ignore))


def paused(server: Server) -> list[str]:
    return [row["flow"] for row in server.rows("SELECT flow FROM pauses ORDER BY flow")]


@pytest.mark.parametrize("flow", ["f", "free"])
def test_nothing_is_admitted_and_nothing_starts_until_it_is_resumed(server: Server, flow: str) -> None:
    limited = flow == "f"
    server.admit(admit(flow, limited=limited), admit(flow, limited=limited))
    slots = server.rows("SELECT id, slot, lane FROM runs ORDER BY id")
    assert pause(server, flow) is None
    (decision,) = server.admit(admit(flow, limited=limited))
    assert (decision.outcome, decision.code, decision.run_uuid) == (Outcome.REJECTED, "flow_paused", None)
    assert decision.reason == f"{flow} is paused by ada: month's end"
    assert server.claim() == []
    assert [run.flow for run in server.begin(admit("g"))] == ["g"], "others go on"
    assert all("ada" in json.loads(row["waiting_for"])["text"] for row in server.rows(
        "SELECT waiting_for FROM runs WHERE flow = :flow", flow=flow))  # fmt: skip
    assert resume(server, flow) is True
    assert server.rows("SELECT id, slot, lane FROM runs WHERE flow <> 'g' ORDER BY id") == slots
    assert [run.id for run in server.claim()] == [slots[0]["id"]] if limited else [row["id"] for row in slots]
    assert [decision.outcome for decision in server.admit(admit(flow, limited=limited))] == [Outcome.ADMITTED]


def test_one_that_is_over_refuses_nothing_while_it_is_still_there(server: Server) -> None:
    pause(server, until=server.clock.now() + SECOND)
    server.clock.advance(SECOND - 100)
    assert [decision.code for decision in server.admit(admit("f"))] == ["flow_paused"]
    server.clock.advance(100)
    assert [decision.outcome for decision in server.admit(admit("f"))] == [Outcome.ADMITTED]
    assert (paused(server), server.claim()) == (["f"], [])
    meet(server)
    assert (paused(server), len(server.claim())) == ([], 1)


def test_it_holds_over_restarts_and_deploys(server: Server) -> None:
    server.admit(admit("f"), admit("free", limited=False))
    pause(server, "f")
    pause(server, "free")
    server.restart()
    server.register(spec("f", 7), spec("g"), spec("free", None))
    assert server.claim() == []
    assert {decision.code for decision in server.admit(admit("f"), admit("free", limited=False))} == {"flow_paused"}
    assert server.rows("SELECT lane FROM runs WHERE flow = 'free'") == [{"lane": lane(LOCATION, PAUSED)}]
    resume(server, "f")
    resume(server, "free")
    assert sorted(run.flow for run in server.claim()) == ["f", "free"]


def test_what_runs_goes_on_and_its_next_attempt_waits(server: Server) -> None:
    (run,) = server.begin(admit("free", limited=False))
    pause(server, "free")
    server.finish(finished(run, "failed", error=ERROR, retry_at=server.clock.now() + SECOND))
    server.clock.advance(2 * SECOND)
    server.queue_due()
    assert server.run(run.id)["state"] == "queued"
    assert server.claim() == []
    resume(server, "free")
    assert [again.attempt for again in server.claim()] == [2]


@pytest.mark.parametrize("limited", [True, False])
def test_what_waits_for_its_next_attempt_says_so_before_and_after_a_pause(server: Server, limited: bool) -> None:
    flow, words = ("f" if limited else "free"), RETRY_TEXT + ',"text":"waits 10 min before attempt 2 of 4"}'
    (run,) = server.begin(admit(flow, limited=limited))
    at = server.clock.now() + 60 * SECOND
    server.finish(finished(run, "failed", error=ERROR, retry_at=at, why=words))
    pause(server, flow)
    assert server.run(run.id)["waiting_for"] == words
    resume(server, flow)
    assert server.run(run.id)["waiting_for"] == words
    pause(server, flow)
    server.clock.advance(60 * SECOND)
    server.queue_due()
    assert json.loads(server.run(run.id)["waiting_for"])["kind"] == "pause"
    resume(server, flow)
    assert server.run(run.id)["waiting_for"] is None
    assert [again.attempt for again in server.claim()] == [2]


def test_a_run_that_lost_its_worker_goes_on(server: Server) -> None:
    (run,) = server.begin(admit("f"))
    pause(server)
    server.lose(run, blame=0)
    assert [again.id for again in server.claim()] == [run.id]


def test_a_scheduled_run_stays_when_its_time_has_come(server: Server) -> None:
    server.admit(admit("f", not_before=server.clock.now() + SECOND))
    pause(server)
    server.clock.advance(2 * SECOND)
    server.queue_due()
    assert server.claim() == []
    resume(server)
    assert len(server.claim()) == 1


def test_a_run_that_a_flow_calls_waits_in_the_queue(server: Server) -> None:
    (parent,) = server.begin(admit("free", limited=False))
    pause(server)
    (decision,) = server.admit(admit("f", parent_id=parent.id, ledger={"trigger_kind": "flow"}))
    assert decision.outcome is Outcome.ADMITTED
    assert server.claim() == []
    assert json.loads(server.run(decision.id)["waiting_for"])["kind"] == "pause"
    resume(server)
    assert [run.id for run in server.claim()] == [decision.id]
    assert server.run(decision.id)["waiting_for"] is None


def test_a_key_that_was_used_before_is_answered_and_a_refused_one_is_not_used_up(server: Server) -> None:
    (first,) = server.admit(admit("f", key="k"))
    pause(server)
    again, other, same, dry = server.admit(
        admit("f", key="k"), admit("f", key="l"), admit("f", key="l"), admit("f", dry_run=True)
    )
    assert (again.outcome, again.run_uuid) == (Outcome.REPLAYED, first.run_uuid)
    assert [d.code for d in (other, same, dry)] == ["flow_paused"] * 3
    resume(server)
    (decision,) = server.admit(admit("f", key="l"))
    assert decision.outcome is Outcome.ADMITTED


def test_it_ends_by_itself_also_while_no_server_runs(server: Server) -> None:
    server.admit(admit("f"))
    pause(server, until=server.clock.now() + DAY)
    pause(server, "g", until=server.clock.now() + 2 * DAY)
    assert meet(server).following == server.rows("SELECT min(until) AS until FROM pauses")[0]["until"]
    assert paused(server) == ["f", "g"]
    server.clock.advance(DAY)
    server.restart()
    meet(server)
    assert paused(server) == ["g"]
    assert [run.flow for run in server.claim()] == ["f"]
    (row,) = server.rows("SELECT invoker, detail FROM audit WHERE action = 'flow.resume'")
    assert (row["invoker"], json.loads(row["detail"])) == ("system", {"flow": "f"})


def test_it_is_in_the_audit_by_whom_and_why(server: Server) -> None:
    pause(server)
    pause(server, until=server.clock.now() + DAY)
    assert resume(server) is True
    assert resume(server) is False
    found = server.rows("SELECT invoker, action, detail FROM audit ORDER BY id")
    assert [(row["invoker"], row["action"]) for row in found] == [
        ("ada", "flow.pause"), ("ada", "flow.pause"), ("bob", "flow.resume"),
    ]  # fmt: skip
    assert json.loads(found[0]["detail"])["reason"] == "month's end"


def test_a_flow_that_nobody_knows_cannot_be_paused(server: Server) -> None:
    assert isinstance(pause(server, "nix"), NotFoundError)


def test_a_removed_flow_stays_paused_and_its_runs_wait_for_it(server: Server) -> None:
    server.admit(admit("f"))
    pause(server)
    server.register(spec("g"), spec("free", None))
    resume(server)
    assert server.claim() == []
    server.register(spec("f"), spec("g"), spec("free", None))
    assert [run.flow for run in server.claim()] == ["f"]


def test_what_a_trigger_has_seen_is_not_taken_in_part(server: Server) -> None:
    server.write(RegisterTriggers("etl", None, [declared(2, cursor=['"before"'])], [], [], [], ignore))
    pause(server)
    seen = {"trigger_kind": "event", "trigger_name": "inbox"}

    def again() -> Any:
        return fire(admit("g", key="k", ledger=seen), admit("f", ledger=seen), number=2, cursor='"after"')

    for _ in range(2):
        fired = server.write(again())
        assert (fired.held.code, fired.admitted) == ("flow_paused", [])
    assert server.count("runs") == 0
    assert server.rows("SELECT cursor FROM trigger_state WHERE trigger_id = 2") == [{"cursor": '"before"'}]
    assert server.rows("SELECT code, count FROM requests WHERE flow = 'f'") == [{"code": "flow_paused", "count": 2}]
    resume(server)
    assert [decision.outcome for _, decision in server.write(again()).admitted] == [Outcome.ADMITTED] * 2
    assert server.rows("SELECT cursor FROM trigger_state WHERE trigger_id = 2") == [{"cursor": '"after"'}]


# --- suspended after failures ------------------------------------------------------------------------


def suspending(server: Server, after: int = 2) -> None:
    server.register(spec("f", 9, settings={"concurrency": 9, "suspend_after": after}), spec("free", None))


def fail(server: Server, state: str = "failed", **run: Any) -> None:
    (claimed,) = server.begin(admit("f", **run))
    server.finish(finished(claimed, state, error=ERROR if state == "failed" else None))


def test_failures_in_a_row_suspend_a_flow_until_it_is_resumed(server: Server) -> None:
    suspending(server)
    fail(server)
    fail(server, "succeeded")
    fail(server)
    assert paused(server) == []
    server.restart()
    fail(server)
    (row,) = server.rows("SELECT * FROM pauses")
    assert (row["invoker"], row["until"]) == ("system", None)
    assert row["reason"].startswith("its last 2 runs failed, the last one with ValueError: no luck.")
    assert [row["action"] for row in server.rows("SELECT action FROM audit WHERE action LIKE 'flow%'")] == [
        "flow.suspend"
    ]
    resume(server)
    fail(server)
    assert paused(server) == [], "they are counted anew"
    fail(server)
    assert paused(server) == ["f"]


def test_one_failure_is_told_as_one(server: Server) -> None:
    suspending(server, after=1)
    fail(server)
    (row,) = server.rows("SELECT reason FROM pauses")
    assert row["reason"].startswith("its last run failed with ValueError: no luck. Mend it")


def test_tests_do_not_count_and_what_is_cancelled_neither_counts_nor_begins_anew(server: Server) -> None:
    suspending(server)
    fail(server)
    fail(server, test=True)
    fail(server, "succeeded", test=True)
    (stopped,) = server.begin(admit("f"))
    server.cancel(stopped.uuid)
    server.finish(finished(stopped, "failed", error=ERROR))
    assert paused(server) == []
    fail(server)
    assert paused(server) == ["f"]


def test_an_end_counts_once_however_often_it_is_reported(server: Server) -> None:
    suspending(server, 3)
    (run,) = server.begin(admit("f"))
    end = finished(run, "failed", error=ERROR)
    server.finish(end, end)
    server.finish(end)
    server.finish(end)
    assert server.rows("SELECT in_a_row FROM failures") == [{"in_a_row": 1}]


def test_an_attempt_that_is_followed_by_another_is_no_failure(server: Server) -> None:
    suspending(server, 1)
    (run,) = server.begin(admit("f"))
    server.finish(finished(run, "failed", error=ERROR, retry_at=server.clock.now() + SECOND))
    assert paused(server) == []


def test_a_worker_that_is_lost_for_the_last_time_is_a_failure(server: Server) -> None:
    suspending(server, 1)
    (run,) = server.begin(admit("f"))
    for _ in range(3):
        server.lose(run)
        claimed = server.claim({LANE: 9, lane(LOCATION, "isolated"): 9})
        run = claimed[0] if claimed else run
    assert server.run(run.id)["state"] == "failed"
    assert paused(server) == ["f"]


def test_many_ends_in_one_transaction_count_in_their_order(server: Server) -> None:
    suspending(server, 3)
    runs = server.begin(*[admit("f") for _ in range(5)])
    states = ["failed", "failed", "succeeded", "failed", "failed"]
    server.finish(*[
        finished(run, state, error=ERROR if state == "failed" else None)
        for run, state in zip(runs, states, strict=True)
    ])  # fmt: skip
    assert server.rows("SELECT in_a_row FROM failures") == [{"in_a_row": 2}]


def test_somebodys_pause_with_an_end_gives_way_and_one_without_stays(server: Server) -> None:
    suspending(server, 1)
    first, second = server.begin(admit("f"), admit("f"))
    pause(server, until=server.clock.now() + DAY)
    server.finish(finished(first, "failed", error=ERROR))
    assert server.rows("SELECT invoker, until FROM pauses") == [{"invoker": "system", "until": None}]
    resume(server)
    pause(server)
    server.finish(finished(second, "failed", error=ERROR))
    assert server.rows("SELECT invoker FROM pauses") == [{"invoker": "ada"}]


def test_a_flow_without_the_setting_is_never_suspended(server: Server) -> None:
    suspending(server, 1)
    server.register(spec("f", 9), spec("free", None))
    for _ in range(3):
        fail(server)
    assert paused(server) == []
    assert server.count("failures") == 0
