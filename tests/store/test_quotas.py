"""Rates, full queues, and runs that wait for longer than they are good for."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pullcord.core.concurrency import Concurrency, Group
from pullcord.core.quotas import LONGEST, Quotas, Rate
from pullcord.core.states import Outcome
from pullcord.store.commands.deadlines import AT_A_TIME, MeetDeadlines
from pullcord.store.commands.triggers import RegisterTriggers
from pullcord.store.transaction import ignore
from tests.store.harness import DAY, SECOND, Server, admit, finished, spec
from tests.store.test_overlap import ruled
from tests.store.test_triggers import declared, fire

TWO = Quotas(rate=Rate(2, "1m"))
MINUTE = 60 * SECOND


def outcomes(server: Server, *commands: Any) -> list[str]:
    return [decision.code or decision.outcome for decision in server.admit(*commands)]


def free(**facts: Any) -> Any:
    """Make an admission of the flow without a concurrency limit."""
    return admit("free", limited=False, **facts)


def meet(server: Server) -> Any:
    return server.write(MeetDeadlines(server.clock.now() + 1, 0, ignore))


# --- rates -----------------------------------------------------------------------------------------


def test_no_span_of_time_has_more_than_the_rate(server: Server) -> None:
    assert outcomes(server, free(quotas=TWO)) == ["admitted"]
    server.clock.advance(MINUTE // 2)
    assert outcomes(server, free(quotas=TWO), free(quotas=TWO)) == ["admitted", "rate_limited"]
    server.restart()
    server.clock.advance(MINUTE // 2)
    (first, second) = server.admit(free(quotas=TWO), free(quotas=TWO))
    assert (first.outcome, second.code) == (Outcome.ADMITTED, "rate_limited")
    assert second.reason == "the rate of free is used up: 2 in 1 min for everybody together"
    later = server.rows("SELECT max(at) AS at FROM requests WHERE id = 2")[0]["at"]
    assert second.retry_at == later + MINUTE
    server.clock.at = second.retry_at - 2
    assert outcomes(server, free(quotas=TWO)) == ["rate_limited"]
    server.clock.at = second.retry_at
    assert outcomes(server, free(quotas=TWO)) == ["admitted"]


def test_only_what_is_admitted_counts(server: Server) -> None:
    assert outcomes(server, free(quotas=TWO, key="k"), free(quotas=TWO, key="k")) == ["admitted", "replayed"]
    assert outcomes(server, free(quotas=TWO, dry_run=True), free(quotas=TWO, dry_run=True)) == ["admitted"] * 2
    (parent,) = server.claim()
    children = [free(quotas=TWO, parent_id=parent.id, ledger={"trigger_kind": "flow"}) for _ in range(3)]
    assert outcomes(server, *children) == ["admitted"] * 3
    assert outcomes(server, free(quotas=TWO), free(quotas=TWO), free(quotas=TWO)) == [
        "admitted", "rate_limited", "rate_limited",
    ]  # fmt: skip
    assert outcomes(server, free(quotas=TWO, dry_run=True)) == ["rate_limited"], "it says what would happen"
    assert outcomes(server, free(quotas=TWO, key="k")) == ["replayed"], "what was admitted is answered"


def test_a_rate_of_each_invoker_and_one_of_the_server(server: Server) -> None:
    mine = Quotas(rate=Rate(1, "1m", by="invoker"))
    commands = [free(quotas=mine, invoker=name) for name in ("ada", "ada", "bob")]
    assert outcomes(server, *commands) == ["admitted", "rate_limited", "admitted"]
    most = {"invoker_rate": Rate(2, "1m")}
    asked = [free(**most, invoker="eve"), admit("f", **most, invoker="eve"), admit("g", **most, invoker="eve")]
    assert outcomes(server, *asked) == ["admitted", "admitted", "rate_limited"]
    assert outcomes(server, admit("g", **most, invoker="zoe")) == ["admitted"]


def test_a_rate_may_delay(server: Server) -> None:
    slowly = Quotas(rate=Rate(2, "1m", on_limit="delay"), max_queued=3)
    decisions = server.admit(*[free(quotas=slowly) for _ in range(6)])
    assert [d.state for d in decisions] == ["queued", "queued", "scheduled", "scheduled", "scheduled", None]
    assert decisions[5].code == "queue_full"
    times = [row["not_before"] for row in server.rows("SELECT not_before FROM runs WHERE not_before IS NOT NULL")]
    now = server.clock.now()
    assert times == [now + MINUTE, now + MINUTE, now + 2 * MINUTE]
    (row,) = server.rows("SELECT reason FROM requests WHERE id = 3")
    assert row["reason"].startswith("delayed by the rate of free until ")
    assert len(server.claim()) == 2
    server.clock.advance(MINUTE)
    server.queue_due()
    assert len(server.claim()) == 2


def test_what_a_rate_would_delay_beyond_its_end_is_refused_and_does_not_count(server: Server) -> None:
    slowly = Quotas(rate=Rate(1, "1m", on_limit="delay"))
    ends = [None, MINUTE // 2, MINUTE * 3 // 2, MINUTE * 3 // 2, None]
    decisions = [server.admit(free(quotas=slowly, expires_in=end))[0] for end in ends]
    assert [decision.code for decision in decisions] == [None, "rate_limited", None, "rate_limited", None]
    first, second, third = server.rows("SELECT q.at, r.not_before FROM runs r JOIN requests q ON q.id = r.id")
    assert decisions[1].retry_at == second["not_before"] == first["at"] + MINUTE
    assert decisions[3].retry_at == third["not_before"] == second["not_before"] + MINUTE


def test_what_counts_no_longer_is_forgotten(server: Server) -> None:
    server.admit(free(quotas=TWO), free(quotas=TWO))
    server.clock.advance(MINUTE + SECOND)
    server.admit(free(quotas=TWO))
    assert server.count("rate_uses") == 1
    server.clock.advance(round(LONGEST) * SECOND)
    server.restart()
    assert (server.count("rate_uses"), server.count("rates")) == (0, 0)


def test_a_fire_that_is_too_much_is_held_back_whole(server: Server) -> None:
    server.write(RegisterTriggers("etl", None, [declared(2)], [], [], [], ignore))
    seen = {"trigger_kind": "event", "trigger_name": "inbox"}
    asked = [free(quotas=TWO, ledger=seen, dedup=str(number)) for number in range(3)]
    one, other = fire(*asked[:1], number=2), fire(*asked[1:], number=2, cursor='"after"')
    results, _ = server.transact(one, other)
    assert [result.held is None for result in results] == [True, False], "each stands for itself"
    held = results[1].held
    assert (held.code, held.final, held.room) == ("rate_limited", False, 1)
    assert (server.count("runs"), server.count("rate_uses")) == (1, 1)
    server.clock.advance(MINUTE)
    assert server.write(fire(*asked[1:], number=2)).held is None
    assert server.count("runs") == 3


def reasons(server: Server) -> list[tuple[str, str | None, int]]:
    rows = server.rows("SELECT code, reason, count FROM requests WHERE outcome = 'rejected' ORDER BY id")
    return [(row["code"], row["reason"], row["count"]) for row in rows]


def test_what_a_poll_asks_for_beyond_a_rate_is_refused_for_good(server: Server) -> None:
    """It would hold the rest back for ever."""
    server.write(RegisterTriggers("etl", None, [declared(2)], [], [], [], ignore))
    seen = {"trigger_kind": "event", "trigger_name": "inbox"}
    asked = [free(quotas=TWO, ledger={**seen, "inputs": f'{{"n":{number}}}'}) for number in range(4)]
    server.admit(free(quotas=TWO))
    held = server.write(fire(*asked, number=2)).held
    assert (held.code, held.room) == ("rate_limited", 1), "what fits waits till it does"
    server.clock.advance(MINUTE)
    fired = server.write(fire(*asked, number=2, cursor='"after"'))
    assert [decision.outcome for _, decision in fired.admitted] == ["admitted"] * 2 + ["rejected"] * 2
    why = "more is asked for at once than the rate of free ever admits: 2 in 1 min for everybody together"
    assert [reason for _, reason, _ in reasons(server)[-2:]] == [
        f"{why}; ask for fewer at once, or let it take more"
    ] * 2
    assert fired.line[1:] == ("fired", f"2 admitted, 2 rejected: {why}; ask for fewer at once, or let it take more")
    assert server.rows("SELECT cursor FROM trigger_state WHERE trigger_id = 2") == [{"cursor": '"after"'}]
    server.clock.advance(MINUTE)
    again = [free(quotas=TWO, ledger={**seen, "inputs": f'{{"n":{number}}}'}) for number in range(4)]
    server.write(fire(*again, number=2))
    assert [count for _, _, count in reasons(server)[-2:]] == [2, 2], "equal ones share a row, and others do not"


def test_what_a_poll_asks_for_beyond_a_queue_is_refused_for_good(server: Server) -> None:
    server.write(RegisterTriggers("etl", None, [declared(2)], [], [], [], ignore))
    seen = {"trigger_kind": "event", "trigger_name": "inbox"}
    one, slowly = Quotas(max_queued=1), Quotas(rate=Rate(1, "1m", on_limit="delay"), max_queued=1)
    for make in (lambda: admit("f", quotas=one, ledger=seen), lambda: free(quotas=slowly, ledger=seen)):
        fired = server.write(fire(*[make() for _ in range(3)], number=2))
        assert [decision.code or decision.outcome for _, decision in fired.admitted] == [
            "admitted", "admitted", "queue_full",
        ]  # fmt: skip
        assert "ever lets wait (max_queued=1)" in fired.admitted[2][1].reason
        assert server.write(fire(make(), number=2)).held.code == "queue_full", "one fits, and waits for room"


def test_each_tick_is_asked_for_by_itself(server: Server) -> None:
    """More ticks than a rate ever admits at once come one after the other; how many fit is told."""
    server.write(RegisterTriggers("etl", None, [declared(2)], [], [], [], ignore))
    asked = [free(quotas=TWO, scheduled_for=tick) for tick in range(3)]
    held = server.write(fire(*asked, number=2)).held
    assert (held.code, held.room, server.count("runs")) == ("rate_limited", 2, 0)
    assert server.write(fire(*asked[:2], number=2)).held is None
    one = {"invoker_rate": Rate(1, "1m")}
    both = [free(**one, invoker="eve", scheduled_for=9), admit("g", **one, invoker="eve", scheduled_for=9)]
    assert [decision.code for _, decision in server.write(fire(*both, number=2)).admitted] == [None, "rate_limited"]


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=25)
@given(
    limit=st.integers(1, 4),
    delay=st.booleans(),
    steps=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), min_size=1, max_size=12),
)
def test_any_traffic_stays_within_the_rate(
    server: Server, limit: int, delay: bool, steps: list[tuple[int, int]]
) -> None:
    """Whatever comes, in no span of time are more let through, and nobody is refused while there is room."""
    server.clock.advance(DAY)
    quotas = Quotas(rate=Rate(limit, 60, on_limit="delay" if delay else "reject"))
    started: list[int] = []
    for pause, count in steps:
        server.clock.advance(pause * SECOND)
        for decision in server.admit(*[free(quotas=quotas) for _ in range(count)]):
            now = server.clock.now()
            room = len([at for at in started if at > now - MINUTE]) < limit
            if decision.outcome is Outcome.ADMITTED:
                at = server.run(decision.id)["not_before"] or now
                assert (at == now) == room
                started.append(at)
            else:
                assert not room and not delay
                assert decision.retry_at == sorted(started)[-limit] + MINUTE
        if pause % 7 == 0:
            server.restart()
    for at in started:
        assert len([other for other in started if at - MINUTE < other <= at]) <= limit


# --- queues ----------------------------------------------------------------------------------------


def test_a_queue_takes_so_many_and_no_more(server: Server) -> None:
    most = Quotas(max_queued=2)
    asked = [admit("f", quotas=most) for _ in range(4)]
    assert outcomes(server, *asked) == ["admitted", "admitted", "admitted", "queue_full"], "the first one starts"
    (run,) = server.claim()
    assert outcomes(server, admit("f", quotas=most)) == ["queue_full"]
    server.finish(finished(run))
    (run,) = server.claim()
    assert outcomes(server, admit("f", quotas=most), admit("f", quotas=most)) == ["admitted", "queue_full"]
    child = admit("f", quotas=most, parent_id=run.id, ledger={"trigger_kind": "flow"})
    assert outcomes(server, child) == ["would_deadlock"], "a child is not refused for a full queue"


def test_a_queue_may_take_none(server: Server) -> None:
    none = Quotas(max_queued=0)
    assert outcomes(server, admit("f", quotas=none), admit("f", quotas=none)) == ["admitted", "queue_full"]
    (run,) = server.claim()
    assert outcomes(server, admit("f", quotas=none)) == ["queue_full"]
    server.finish(finished(run))
    assert outcomes(server, admit("f", quotas=none)) == ["admitted"]


def test_a_queue_for_a_group_that_other_flows_fill_takes_so_many_and_no_more(server: Server) -> None:
    server.register(*(ruled(name, Concurrency(None, group=Group("db", 2))) for name in "fg"))
    one, none = Quotas(max_queued=1), Quotas(max_queued=0)
    other, also = server.begin(admit("g", shared="group:db"), admit("g", shared="group:db"))
    assert outcomes(server, admit("f", shared="group:db", quotas=none)) == ["queue_full"]
    asked = [admit("f", shared="group:db", quotas=one) for _ in range(3)]
    assert outcomes(server, *asked) == ["admitted", "queue_full", "queue_full"]
    server.finish(finished(other))
    assert outcomes(server, *asked[1:]) == ["admitted", "queue_full"], "there is room for one, and one waits"
    server.finish(finished(also))
    assert len(server.claim()) == 2


# --- expiry ----------------------------------------------------------------------------------------


def test_a_run_that_waits_too_long_ends_and_its_request_has_expired(server: Server) -> None:
    server.begin(admit("f"))
    (decision,) = server.admit(admit("f", key="k", expires_in=MINUTE))
    assert meet(server).following == server.run(decision.id)["expires_at"]
    server.clock.advance(MINUTE)
    met = meet(server)
    assert ([run.uuid for run in met.expired], met.following) == ([decision.run_uuid], None)
    run = server.run(decision.id)
    assert (run["state"], run["started_at"]) == ("cancelled", None)
    assert json.loads(run["cancel"])["by"] == "system"
    assert json.loads(run["error"])["type"] == "expired"
    (row,) = server.rows("SELECT outcome, reason FROM requests WHERE id = :id", id=decision.id)
    assert row["outcome"] == "expired" and row["reason"].startswith("it had not started by ")
    assert server.rows("SELECT invoker FROM audit WHERE action = 'run.expire'") == [{"invoker": "system"}]
    (again,) = server.admit(admit("f", key="k", expires_in=MINUTE))
    assert (again.outcome, again.run_uuid, again.state) == (Outcome.REPLAYED, decision.run_uuid, "cancelled")


def test_nothing_starts_after_it_expired_however_late_its_end_is_written(server: Server) -> None:
    server.admit(admit("f", expires_in=MINUTE), admit("f"))
    server.clock.advance(MINUTE)
    server.restart()
    assert [run.id for run in server.claim()] == [2]


def test_the_end_of_a_wait_is_the_earliest(server: Server) -> None:
    now = server.clock.now()
    waits = Quotas(queue_ttl=60.0)
    server.admit(
        admit("f", quotas=waits),
        admit("f", quotas=waits, expires_in=SECOND),
        admit("f", quotas=waits, not_before=now + DAY),
        admit("f", not_before=now + DAY, expires_in=SECOND),
        admit("f"),
    )
    ends = [row["expires_at"] for row in server.rows("SELECT expires_at FROM runs ORDER BY id")]
    now = server.clock.now()
    assert ends == [now + MINUTE, now + SECOND, now - 1 + DAY + MINUTE, now + SECOND, None]


def test_what_has_started_never_expires(server: Server) -> None:
    (run,) = server.begin(admit("f", expires_in=MINUTE))
    server.finish(finished(run, "failed", error="{}", retry_at=server.clock.now() + 2 * MINUTE))
    server.clock.advance(3 * MINUTE)
    assert meet(server).expired == []
    server.queue_due()
    assert meet(server).expired == []
    assert [again.attempt for again in server.claim()] == [2]


def test_of_two_in_one_transaction_the_end_comes_first(server: Server) -> None:
    server.admit(admit("f", not_before=server.clock.now() + SECOND, expires_in=MINUTE))
    server.clock.advance(MINUTE)
    _, claimed = server.transact(MeetDeadlines(server.clock.now() + 1, 0, ignore), room={})
    assert (claimed, server.states()) == ([], {1: "cancelled"})


def test_it_takes_effect_while_the_flow_is_paused(server: Server) -> None:
    from pullcord.store.commands.pauses import PauseFlow, ResumeFlow

    server.admit(admit("f", expires_in=MINUTE), admit("f"))
    server.write(PauseFlow("f", "ada", "why not", None, ignore))
    server.clock.advance(MINUTE)
    assert len(meet(server).expired) == 1
    server.write(ResumeFlow("f", "ada", ignore))
    assert [run.id for run in server.claim()] == [2]


def test_very_many_expire_some_at_a_time(server: Server) -> None:
    server.admit(*[free(expires_in=SECOND) for _ in range(AT_A_TIME + 1)])
    server.clock.advance(MINUTE)
    met = meet(server)
    assert len(met.expired) == AT_A_TIME and met.following is not None
    met = meet(server)
    assert (len(met.expired), met.following) == (1, None)


def test_a_child_that_expires_ends_and_its_parent_hears_of_it(server: Server) -> None:
    server.register(spec("f"), spec("free", None))
    (parent,) = server.begin(free())
    child = admit("f", parent_id=parent.id, quotas=Quotas(queue_ttl=1.0), ledger={"trigger_kind": "flow"})
    (decision,) = server.admit(child)
    server.clock.advance(MINUTE)
    assert [run.uuid for run in meet(server).expired] == [decision.run_uuid]
