"""Triggers in the store: what they have seen and how far they have come is written together, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pullcord.core.manifest import ISOLATED, lane
from pullcord.core.states import Outcome
from pullcord.store.commands.triggers import (
    ChangeTrigger,
    Declared,
    DropEndings,
    Fired,
    FireTrigger,
    HistoryRow,
    RegisterTriggers,
    TriggerState,
    TrimHistory,
)
from pullcord.store.queries.page import Page
from pullcord.store.queries.triggers import ended_runs, stored_triggers, trigger_history
from pullcord.store.transaction import ignore
from tests.store.harness import (
    LOCATION,
    NOON,
    Database,
    Server,
    admit,
    entry,
    finished,
    spec,
)

FIRST = 1


def declared(number: int = FIRST, name: str = "inbox", **changes: Any) -> Declared:
    """Make a declaration."""
    facts: dict[str, Any] = {
        "id": number, "uuid": f"00000000-0000-7000-8000-{number:012}", "name": name, "kind": "event",
        "location": LOCATION, "place": "/code/f.py:1", "description": "", "flows": '["f"]', "enabled": True,
        "parameters": "{}", "settings": '{"every":5.0}', "generation": 0, "cursor": None, "next_due": NOON,
    }  # fmt: skip
    return Declared(**facts | changes)


def register(
    server: Server,
    *items: Declared,
    removed: tuple[int, ...] = (),
    restarted: tuple[int, ...] = (),
    watched: tuple[str, ...] = (),
) -> None:
    server.write(RegisterTriggers(LOCATION, None, list(items), list(removed), list(restarted), list(watched), ignore))


def line(outcome: str = "refused", reason: str | None = None, count: int = 1, **changes: Any) -> HistoryRow:
    return HistoryRow(outcome, reason, NOON, NOON + 5, count, **changes)


def fire(
    *admits: Any, number: int = FIRST, generation: int = 0, cursor: str | None = "1", **changes: Any
) -> FireTrigger:
    state = TriggerState(cursor, NOON + 5, NOON, NOON, 0, None)
    facts: dict[str, Any] = {"admits": list(admits), "history": line()}
    return FireTrigger(number, generation, state, ignore, **facts | changes)


def seen(dedup: str | None = None, **changes: Any) -> Any:
    """Make a request of an event."""
    ledger = {"trigger_kind": "event", "trigger_name": "inbox", "invoker": "trigger:inbox", "invoker_kind": "trigger"}
    return admit("f", limited=False, dedup=dedup, ledger=ledger, **changes)


def outcomes(result: Fired | None) -> list[str]:
    assert result is not None
    return [str(decision.outcome) for _, decision in result.admitted]


@pytest.fixture
def triggered(server: Server) -> Server:
    server.register(spec("f", None), spec("g", 1))
    register(server, declared())
    return server


def history(server: Server, number: int = FIRST) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = trigger_history(server.connection, number, Page(1000))["items"]
    return items


# --- registration ------------------------------------------------------------------------------------


def test_what_was_registered_is_read_back(triggered: Server) -> None:
    (row,) = stored_triggers(triggered.connection)
    assert (row.id, row.spec.name, row.spec.flows, row.spec.enabled, row.generation) == (1, "inbox", ("f",), True, 0)
    assert row.state == TriggerState(next_due=NOON)
    assert (row.override, row.removed_at) == (None, None)


def test_a_changed_declaration_keeps_the_cursor_and_the_override(triggered: Server) -> None:
    triggered.write(fire(cursor='"mark"'))
    triggered.write(ChangeTrigger(1, '{"by":"me"}', None, NOON, 0, line("changed", "why"), "me", ignore))
    register(triggered, declared(settings='{"every":1.0}', generation=2, next_due=NOON + 9))
    (row,) = stored_triggers(triggered.connection)
    assert (row.spec.settings, row.state.cursor, row.state.next_due) == ('{"every":1.0}', '"mark"', NOON + 9)
    assert (row.override, row.generation) == ('{"by":"me"}', 2)


def test_a_declaration_of_another_kind_begins_anew(triggered: Server) -> None:
    triggered.write(fire(cursor='"mark"'))
    triggered.write(ChangeTrigger(1, '{"by":"me"}', None, NOON, 0, line("changed", "why"), "me", ignore))
    register(triggered, declared(kind="cron", generation=2, cursor=["17"]), restarted=(1,))
    (row,) = stored_triggers(triggered.connection)
    assert (row.spec.kind, row.state.cursor, row.override, row.state.last_fired_at) == ("cron", "17", None, None)


def test_one_that_left_the_code_is_kept_with_its_history_and_comes_back(triggered: Server) -> None:
    triggered.write(fire())
    register(triggered, removed=(1,))
    (row,) = stored_triggers(triggered.connection)
    assert row.removed_at == triggered.clock.now()
    assert len(history(triggered)) == 1
    register(triggered, declared(generation=1))
    (row,) = stored_triggers(triggered.connection)
    assert row.removed_at is None
    assert row.state.cursor == "1"


# --- fires -------------------------------------------------------------------------------------------


def test_requests_and_cursor_are_written_together(triggered: Server) -> None:
    result = triggered.write(fire(seen(), seen(), cursor='{"at":7}'))
    assert outcomes(result) == ["admitted", "admitted"]
    (row,) = stored_triggers(triggered.connection)
    assert (row.state.cursor, row.state.last_fired_at) == ('{"at":7}', NOON)
    (item,) = history(triggered)
    assert (item["outcome"], item["reason"], len(item["detail"]["runs"])) == ("fired", "2 admitted", 2)


def test_what_was_seen_under_an_older_generation_is_not_written_at_all(triggered: Server) -> None:
    generation, cursor = triggered.write(
        ChangeTrigger(1, None, ['"there"'], NOON, 0, line("changed", "put back"), "me", ignore)
    )
    assert (generation, cursor) == (1, '"there"')
    assert triggered.write(fire(seen(), notes=[entry("f")], generation=0)) is None
    assert triggered.count("requests") == triggered.count("runs") == 0
    (row,) = stored_triggers(triggered.connection)
    assert row.state.cursor == '"there"'
    assert [item["outcome"] for item in history(triggered)] == ["changed"]


def test_a_change_leaves_the_cursor_where_it_is_unless_told(triggered: Server) -> None:
    triggered.write(fire(cursor="5"))
    assert triggered.write(ChangeTrigger(1, None, None, NOON, 0, line("changed", "x"), "me", ignore)) == (1, "5")
    assert triggered.write(ChangeTrigger(1, None, [None], NOON, 0, line("changed", "x"), "me", ignore)) == (2, None)


def test_a_change_is_in_the_audit(triggered: Server) -> None:
    triggered.write(ChangeTrigger(1, None, None, NOON, 0, line("changed", "x", detail='{"by":"me"}'), "me", ignore))
    (row,) = triggered.rows("SELECT invoker, subject_id, detail FROM audit WHERE action = 'trigger.change'")
    assert row == {"invoker": "me", "subject_id": 1, "detail": '{"by":"me"}'}


def test_several_triggers_in_one_transaction_keep_apart(triggered: Server) -> None:
    register(triggered, declared(2, "other"))
    results, _ = triggered.transact(
        fire(seen(), cursor="1"), fire(number=2, cursor="2", generation=7), fire(seen(), number=2, cursor="3")
    )
    assert [None if r is None else outcomes(r) for r in results] == [["admitted"], None, ["admitted"]]
    assert [row.state.cursor for row in stored_triggers(triggered.connection)] == ["1", "3"]


def test_requests_that_become_no_run_are_noted_with_the_cursor(triggered: Server) -> None:
    missed = entry("f", scheduled_for=NOON, times=3).become(Outcome.MISSED, reason="late")
    triggered.write(fire(notes=[missed], history=line("missed", "3 missed")))
    (row,) = triggered.rows("SELECT outcome, reason, scheduled_for, count FROM requests")
    assert row == {"outcome": "missed", "reason": "late", "scheduled_for": NOON, "count": 3}


def test_a_tick_is_kept_with_its_request_and_its_run(triggered: Server) -> None:
    triggered.write(fire(seen(scheduled_for=NOON)))
    assert triggered.rows("SELECT scheduled_for FROM runs") == [{"scheduled_for": NOON}]


# --- deduplication (design rule 5) -------------------------------------------------------------------


def test_equal_fires_are_one_while_a_run_of_theirs_has_not_ended(triggered: Server) -> None:
    assert outcomes(triggered.write(fire(seen("a"), seen("a"), seen("b")))) == ["admitted", "deduplicated", "admitted"]
    result = triggered.write(fire(seen("a")))
    assert outcomes(result) == ["deduplicated"]
    assert result.admitted[0][1].run_uuid == triggered.rows("SELECT uuid FROM runs ORDER BY id")[0]["uuid"]
    assert triggered.count("runs") == 2


def test_equal_repeats_share_a_row_in_the_ledger_and_in_the_history(triggered: Server) -> None:
    triggered.write(fire(seen("a")))
    previous = None
    for _ in range(3):
        result = triggered.write(fire(seen("a"), history=line(previous=previous)))
        previous = result.line
    (row,) = triggered.rows("SELECT count FROM requests WHERE outcome = 'deduplicated'")
    assert row["count"] == 3
    assert [(item["outcome"], item["count"]) for item in history(triggered)] == [("deduplicated", 3), ("fired", 1)]


@pytest.mark.parametrize("end", ["succeeded", "failed", "cancelled", "cancelled in the queue", "lost", "restart"])
def test_every_end_releases_the_context(triggered: Server, end: str) -> None:
    triggered.write(fire(seen("a")))
    (uuid,) = [row["uuid"] for row in triggered.rows("SELECT uuid FROM runs")]
    if end == "cancelled in the queue":
        triggered.cancel(uuid)
    else:
        (run,) = triggered.claim()
        if end == "lost":
            for _ in range(3):
                triggered.lose(run)
                (run, *_) = triggered.claim({lane(LOCATION, ISOLATED): 1}) or [run]
        elif end == "restart":
            triggered.cancel(uuid)
            triggered.restart()
        else:
            triggered.finish(finished(run, end))
    assert outcomes(triggered.write(fire(seen("a")))) == ["admitted"]


def test_a_run_that_waits_for_another_attempt_holds_its_context(triggered: Server) -> None:
    triggered.write(fire(seen("a")))
    (run,) = triggered.claim()
    triggered.finish(finished(run, "failed", retry_at=NOON + 10**9))
    assert outcomes(triggered.write(fire(seen("a")))) == ["deduplicated"]


def test_a_restart_forgets_no_context(triggered: Server) -> None:
    triggered.write(fire(seen("a")))
    triggered.restart()
    assert outcomes(triggered.write(fire(seen("a")))) == ["deduplicated"]


# --- history -----------------------------------------------------------------------------------------


def test_equal_lines_are_added_up_and_runs_have_their_own(triggered: Server) -> None:
    first = triggered.write(fire(history=line("skipped", "nothing new", 4))).line
    again = triggered.write(fire(history=line("skipped", "nothing new", 2, previous=first))).line
    assert again == first
    triggered.write(fire(history=line("skipped", "something else", previous=again)))
    fired = triggered.write(fire(seen())).line
    triggered.write(fire(seen(), history=line(previous=fired)))
    found = [(item["outcome"], item["reason"], item["count"]) for item in history(triggered)]
    assert found == [
        ("fired", "1 admitted", 1),
        ("fired", "1 admitted", 1),
        ("skipped", "something else", 1),
        ("skipped", "nothing new", 6),
    ]


def test_a_history_is_trimmed_to_its_newest_lines(triggered: Server) -> None:
    register(triggered, declared(2, "other"))
    for number in range(7):
        triggered.transact(fire(history=line("skipped", str(number))), fire(number=2, history=line("skipped", "same")))
    triggered.write(TrimHistory(1, 3, ignore))
    assert [item["reason"] for item in history(triggered)] == ["6", "5", "4"]
    assert len(history(triggered, 2)) == 7


def test_a_page_of_history_goes_on_where_the_one_before_ended(triggered: Server) -> None:
    for number in range(5):
        triggered.write(fire(history=line("skipped", str(number))))
    page = trigger_history(triggered.connection, 1, Page(2))
    assert [item["reason"] for item in page["items"]] == ["4", "3"]
    rest = trigger_history(triggered.connection, 1, Page(9, page["next"]))
    assert [item["reason"] for item in rest["items"]] == ["2", "1", "0"]
    assert rest["next"] is None


# --- ends that start others --------------------------------------------------------------------------


def ended(server: Server) -> list[tuple[str, str]]:
    return [(flow, state) for _, _, flow, state in ended_runs(server.connection, 100)]


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_an_end_that_is_waited_for_is_noted_with_it(triggered: Server, state: str) -> None:
    register(triggered, watched=("f",))
    (run,) = triggered.begin(seen())
    triggered.finish(finished(run, state))
    assert ended(triggered) == [("f", state)]
    triggered.finish(finished(run, state))  # a second report of the same end
    assert ended(triggered) == [("f", state)]


def test_only_ends_of_watched_flows_are_noted_and_none_of_tests(triggered: Server) -> None:
    register(triggered, watched=("f",))
    for run in triggered.begin(seen(test=True), admit("g")):
        triggered.finish(finished(run))
    assert ended(triggered) == []


def test_an_attempt_that_will_be_followed_by_another_is_no_end(triggered: Server) -> None:
    register(triggered, watched=("f",))
    (run,) = triggered.begin(seen())
    triggered.finish(finished(run, "failed", retry_at=NOON + 10**9))
    assert ended(triggered) == []


def test_a_cancelled_queued_run_and_its_watchers(triggered: Server) -> None:
    register(triggered, watched=("f",))
    triggered.admit(seen())
    triggered.cancel(triggered.rows("SELECT uuid FROM runs")[0]["uuid"])
    assert ended(triggered) == [("f", "cancelled")]


def test_a_server_that_starts_notes_the_runs_it_cancels(triggered: Server) -> None:
    register(triggered, watched=("f",))
    (run,) = triggered.begin(seen())
    triggered.cancel(run.uuid)
    assert ended(triggered) == []
    triggered.restart()
    assert ended(triggered) == [("f", "cancelled")]


def test_a_run_that_lost_its_worker_too_often_has_ended(triggered: Server) -> None:
    register(triggered, watched=("f",))
    (run,) = triggered.begin(seen())
    for _ in range(3):
        assert ended(triggered) == []
        triggered.lose(run)
        (run, *_) = triggered.claim({lane(LOCATION, ISOLATED): 1}) or [run]
    assert ended(triggered) == [("f", "failed")]


def test_who_watches_is_remembered_by_the_next_server(triggered: Server) -> None:
    register(triggered, watched=("f",))
    triggered.restart()
    (run,) = triggered.begin(seen())
    triggered.finish(finished(run))
    assert ended(triggered) == [("f", "succeeded")]
    register(triggered, watched=())
    (run,) = triggered.begin(seen())
    triggered.finish(finished(run))
    assert len(ended(triggered)) == 1


def test_an_end_is_dealt_with_together_with_what_it_starts(triggered: Server) -> None:
    register(triggered, declared(), watched=("f",))
    for run in triggered.begin(seen(), seen()):
        triggered.finish(finished(run))
    first, second = [row[0] for row in ended_runs(triggered.connection, 100)]
    assert triggered.write(fire(admit("g"), endings=[first], generation=9)) is None
    assert len(ended(triggered)) == 2
    assert outcomes(triggered.write(fire(admit("g"), endings=[first]))) == ["admitted"]
    assert [row[0] for row in ended_runs(triggered.connection, 100)] == [second]
    triggered.write(DropEndings([second], ignore))
    assert ended(triggered) == []


# --- the writer --------------------------------------------------------------------------------------


async def test_a_poisoned_fire_harms_neither_its_neighbours_nor_itself_by_halves(
    database: Database, clock: Any
) -> None:
    """What the database refuses is refused whole: no request of it is there, and its cursor stays (rule 12)."""
    import asyncio

    from pullcord.core.errors import StoreError

    store = database.store(clock)
    store.start()
    try:
        items = [declared(number, f"t{number}") for number in (1, 2, 3)]
        await store.write(lambda done: RegisterTriggers(LOCATION, None, items, [], [], [], done))
        commands = [
            fire(seen(), number=1),
            fire(seen(), seen(inputs="a\0b"), number=2),
            fire(seen(), number=3),
        ]
        results = await asyncio.gather(
            *(
                store.write(
                    lambda done, c=command: FireTrigger(
                        c.id, c.generation, c.state, done, c.admits, c.notes, c.history, c.endings
                    )
                )
                for command in commands
            ),
            return_exceptions=True,
        )
        assert outcomes(results[0]) == outcomes(results[2]) == ["admitted"]
        assert isinstance(results[1], StoreError)
        rows = await store.read(stored_triggers)
        assert [row.state.cursor for row in rows] == ["1", None, "1"]
        counted = await store.read(lambda connection: connection.execute("SELECT count(*) FROM runs").fetchone()[0])
        assert counted == 2
    finally:
        await store.stop()


def test_detail_of_a_line_is_json(triggered: Server) -> None:
    triggered.write(fire(seen(), history=line(detail=json.dumps({"run": "x"}))))
    (item,) = history(triggered)
    assert item["detail"]["run"] == "x"
    assert len(item["detail"]["runs"]) == 1
