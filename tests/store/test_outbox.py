"""What is to be told is in the outbox exactly when it has happened, once, and in few messages; over every store."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from pullcord.clock import rfc3339
from pullcord.core import notify
from pullcord.core.errors import AlreadyDeliveredError, NotFoundError
from pullcord.core.notify import Rule
from pullcord.core.rulebook import Book, Change, read_defaults
from pullcord.core.states import Outcome
from pullcord.notify.compose import composed
from pullcord.notify.message import message_of, written
from pullcord.store.commands.claim import Claimed
from pullcord.store.commands.happenings import DELIVERED, GIVEN_UP, NAMED, PENDING, note_happening
from pullcord.store.commands.outbox import (
    MarkNotification,
    NoteLongRuns,
    RetryNotification,
    SealNotifications,
    TrimOutbox,
)
from pullcord.store.commands.prune import PruneRuns
from pullcord.store.commands.rules import ChangeRules
from pullcord.store.commands.triggers import ChangeTrigger, Declared, HistoryRow, RegisterTriggers
from pullcord.store.connection import Connection
from pullcord.store.queries.durations import begun_runs
from pullcord.store.queries.outbox import (
    NotificationFilter,
    digested,
    gathered,
    get_notification,
    kept_message,
    list_notifications,
    next_pending,
    notification,
    outbox_figures,
    sealed_since,
    stuck_channels,
    told_in,
    waiting_channels,
)
from pullcord.store.queries.page import Page
from pullcord.store.transaction import Transaction, ignore
from tests.store.harness import NOON, SECOND, Server, admit, finished, note, spec

MINUTE = 60 * SECOND
BROKEN = '{"type":"ValueError","message":"no such region\\nmore"}'


def told_of(server: Server, *rules: Rule, flow: str = "free", tags: tuple[str, ...] = ()) -> None:
    """Register a flow without a limit, with rules."""
    settings = {"concurrency": None, "notify": [rule.as_json() for rule in rules], "tags": list(tags)}
    server.register(spec(flow, None, settings=settings), complete=False)


def runs(server: Server, count: int = 1, flow: str = "free", **how: Any) -> list[Claimed]:
    return server.begin(*(admit(flow, limited=False, **how) for _ in range(count)))


def end(server: Server, *ended: Claimed, state: str = "failed") -> None:
    server.finish(*(finished(run, state, error=BROKEN if state == "failed" else None) for run in ended))


def outbox(server: Server) -> list[tuple[str, str, str, int]]:
    """Return channel, event, flow and count of each notification, in order."""
    rows = server.rows("SELECT channel, event, flow, count FROM notifications ORDER BY id")
    return [(row["channel"], row["event"], row["flow"], row["count"]) for row in rows]


def compose(connection: Connection, number: int) -> str:
    """Return the message of a notification as the notifier has it written."""
    return written(composed(connection, number))


def seal(server: Server, channel: str = "ops") -> list[int]:
    """Seal all that is due of a channel, as the notifier does one after the other."""
    due = gathered(server.connection, channel, server.clock.now() + 1)
    return [number for each in due for number in server.write(SealNotifications([each], False, compose, ignore))]


# --- what is told --------------------------------------------------------------------------------


def test_a_failure_is_in_the_outbox_with_the_end_of_its_run(server: Server) -> None:
    told_of(server, notify.on_failure("ops", "boss"))
    (run,) = runs(server)
    end(server, run)
    assert server.hints.noted
    assert outbox(server) == [("ops", "run.failed", "free", 1), ("boss", "run.failed", "free", 1)]
    assert {row["run_id"] for row in server.rows("SELECT run_id FROM happenings")} == {run.id}


def test_a_flow_without_rules_writes_nothing_and_asks_for_nothing(server: Server) -> None:
    end(server, *runs(server))
    assert outbox(server) == []
    assert not server.hints.book.anything
    assert not server.hints.noted


def test_a_test_run_keeps_quiet(server: Server) -> None:
    told_of(server, notify.on_failure("ops"), notify.on_retry("ops"))
    (run,) = runs(server, test=True)
    server.finish(finished(run, "failed", error=BROKEN, retry_at=NOON))
    (other,) = runs(server, test=True)
    end(server, other)
    assert outbox(server) == []


def test_each_end_is_told_to_those_who_asked_for_it(server: Server) -> None:
    told_of(server, notify.on_success("a"), notify.on_failure("b"), notify.on_cancel("c"))
    first, second = runs(server, 2)
    end(server, first, state="succeeded")
    end(server, second)
    (waiting,) = server.admit(admit("free", limited=False))
    server.cancel(str(waiting.run_uuid), "ada", "not today")
    assert outbox(server) == [
        ("a", "run.succeeded", "free", 1), ("b", "run.failed", "free", 1), ("c", "run.cancelled", "free", 1)
    ]  # fmt: skip


def test_an_attempt_that_failed_is_told_apart_from_the_failure_of_the_run(server: Server) -> None:
    told_of(server, notify.on_retry("a"), notify.on_failure("b"))
    (run,) = runs(server)
    server.finish(finished(run, "failed", error=BROKEN, retry_at=server.clock.now() + SECOND))
    assert outbox(server) == [("a", "run.retrying", "free", 1)]
    server.clock.advance(SECOND)
    server.queue_due()
    (again,) = server.claim()
    end(server, again)
    assert outbox(server)[1:] == [("b", "run.failed", "free", 1)]


def test_an_attempt_is_told_with_its_error_although_the_run_has_none_any_more(server: Server) -> None:
    told_of(server, notify.on_retry("ops"))
    (run,) = runs(server)
    due = server.clock.now() + SECOND
    server.finish(finished(run, "failed", error=BROKEN, retry_at=due))
    server.clock.advance(SECOND)
    server.queue_due()
    end(server, *server.claim(), state="succeeded")
    (number,) = seal(server)
    message = message_of(str(kept_message(server.connection, number)))
    assert f"Run {run.uuid} of free, attempt 1 failed; it is succeeded in attempt 2 now." in message.text
    assert "ValueError: no such region\n" in message.text
    assert message.data is not None
    assert message.data["detail"] == {
        "attempt": 1, "error": {"type": "ValueError", "message": "no such region\nmore"}, "next_at": rfc3339(due),
    }  # fmt: skip


def test_a_stale_end_and_one_that_comes_twice_are_not_told(server: Server) -> None:
    told_of(server, notify.on_failure("ops"), notify.on_retry("ops"))
    (run,) = runs(server)
    message = finished(run, "failed", error=BROKEN)
    server.finish(message)
    server.finish(message)
    server.finish(finished(run, "failed", token=run.token - 1, error=BROKEN, retry_at=NOON))
    assert outbox(server) == [("ops", "run.failed", "free", 1)]


def test_a_run_that_lost_its_worker_too_often_is_told_once(server: Server) -> None:
    told_of(server, notify.on_failure("ops"))
    (run,) = runs(server)
    for _ in range(3):
        server.lose(run)
        claimed = server.claim({run.lane: 5, "etl#isolated": 5}) if server.run(run.id)["state"] == "running" else []
        run = claimed[0] if claimed else run
    assert server.run(run.id)["state"] == "failed"
    assert outbox(server) == [("ops", "run.failed", "free", 1)]


def test_a_recovery_is_the_first_success_after_a_failure_that_was_told(server: Server) -> None:
    told_of(server, notify.on_failure("a"), notify.on_recovery("b"))
    end(server, *runs(server), state="succeeded")
    assert outbox(server) == []
    for state in ("failed", "failed", "succeeded", "succeeded"):
        end(server, *runs(server), state=state)
    assert [row for row in outbox(server) if row[0] == "b"] == [("b", "run.recovered", "free", 1)]


def test_a_failure_that_was_muted_needs_no_recovery(server: Server) -> None:
    told_of(server, notify.on_failure("a"), notify.on_recovery("b"))
    server.write(ChangeRules("free", lambda _: Change(muted=True, by="ada", at=NOON), "ada", ignore))
    end(server, *runs(server))
    server.write(ChangeRules("free", lambda _: Change(), "ada", ignore))
    end(server, *runs(server), state="succeeded")
    assert outbox(server) == []


def test_so_many_in_a_row_are_told_once_and_again_after_a_success(server: Server) -> None:
    told_of(server, notify.on_failures(3, "pager"))
    for _ in range(5):
        end(server, *runs(server))
    assert outbox(server) == [("pager", "run.failing", "free", 1)]
    end(server, *runs(server), state="succeeded")
    end(server, *runs(server, 3))
    assert [row[3] for row in outbox(server)] == [2]


def test_failures_from_before_a_rule_was_taken_away_do_not_count_when_it_is_back(server: Server) -> None:
    counted = (notify.on_failures(3, "pager"), notify.on_recovery("boss"))
    told_of(server, *counted)
    end(server, *runs(server, 2))
    told_of(server)
    end(server, *runs(server), state="succeeded")
    told_of(server, *counted)
    end(server, *runs(server, 2))
    assert outbox(server) == []
    end(server, *runs(server))
    assert outbox(server) == [("pager", "run.failing", "free", 1)]


def test_failures_from_before_people_took_a_rule_back_need_no_recovery(server: Server) -> None:
    recovery = Change((notify.on_recovery("boss"),), by="ada", at=NOON)
    server.write(ChangeRules("free", lambda _: recovery, "ada", ignore))
    end(server, *runs(server))
    server.write(ChangeRules("free", lambda _: replace(recovery, muted=True), "ada", ignore))
    assert server.count("failure_series") == 1
    server.write(ChangeRules("free", lambda _: Change(), "ada", ignore))
    end(server, *runs(server), state="succeeded")
    server.write(ChangeRules("free", lambda _: recovery, "ada", ignore))
    end(server, *runs(server), state="succeeded")
    assert outbox(server) == []


def test_a_series_that_several_rules_tell_of_is_told_once(server: Server) -> None:
    tables = [{"events": ["run.failing"], "channels": ["pager", "boss"], "count": 3}]
    server.hints.book = Book(defaults=read_defaults(tables)).ready()
    told_of(server, notify.on_failures(3, "pager"), notify.on_failures(4, "pager"))
    for _ in range(3):
        end(server, *runs(server))
    assert outbox(server) == [("pager", "run.failing", "free", 1), ("boss", "run.failing", "free", 1)]
    end(server, *runs(server))
    assert outbox(server)[0] == ("pager", "run.failing", "free", 2)


def test_missed_and_skipped_requests_are_told_with_how_many_they_stand_for(server: Server) -> None:
    told_of(server, notify.on_missed("a"), notify.on_skipped("b"))
    server.write(note(flow="free", outcome=Outcome.MISSED, reason="no server ran", times=7))
    server.write(note(flow="free", outcome=Outcome.SKIPPED, reason="a blackout"))
    server.write(note(flow="free", outcome=Outcome.REJECTED))
    server.write(note(flow="free", outcome=Outcome.SKIPPED, dry_run=1))
    assert outbox(server) == [("a", "request.missed", "free", 7), ("b", "request.skipped", "free", 1)]


def test_a_trigger_that_is_disabled_is_told_once_to_each_channel_of_its_flows(server: Server) -> None:
    told_of(server, notify.on_trigger_disabled("a"))
    told_of(server, notify.on_trigger_disabled("a", "b"), flow="other")
    trigger = Declared(
        1, "0" * 8, "inbox", "event", "etl", "x.py:1", "", '["free","other"]', True, "{}", "{}", 1, None, None
    )
    server.write(RegisterTriggers("etl", None, [trigger], [], [], [], ignore))
    for outcome in ("changed", "disabled"):
        line = HistoryRow(outcome, "5 polls in a row failed", NOON, NOON, detail="{}")
        server.write(ChangeTrigger(1, None, None, None, 5, line, "pullcord", ignore))
    assert outbox(server) == [("a", "trigger.disabled", "free", 1), ("b", "trigger.disabled", "free", 1)]
    (told,) = told_in(server.connection, 1)
    assert told.detail == {"trigger": "inbox", "text": "5 polls in a row failed"}


def test_what_other_commands_note_goes_by_the_rules(server: Server) -> None:
    told_of(server, notify.on_question("a"), notify.on_suspended("b"))
    (run,) = runs(server)
    server.connection.begin()
    tx = Transaction(server.connection, server.clock.now() + 1, server.owner, server.hints)
    note_happening(tx, notify.ASKED, "free", run=run.id, detail={"text": "may I?"})
    note_happening(tx, notify.SUSPENDED, "free", detail={"text": "5 runs in a row failed"})
    note_happening(tx, notify.SUSPENDED, "g")
    server.connection.commit()
    assert outbox(server) == [("a", "question.asked", "free", 1), ("b", "flow.suspended", "free", 1)]


def test_a_long_run_is_told_once_to_each_channel(server: Server) -> None:
    told_of(server, notify.on_long_run("a"))
    first, second = runs(server, 2)
    text = {"text": "it takes long"}
    server.write(NoteLongRuns([(first.id, "free", ["a"], text), (first.id, "free", ["a"], text)], ignore))
    server.write(NoteLongRuns([(first.id, "free", ["a", "b"], text), (second.id, "free", ["a"], text)], ignore))
    end(server, *runs(server), state="succeeded")
    told = Counter((row["run_id"], row["channel"]) for row in server.rows("SELECT run_id, channel FROM happenings"))
    assert told == {(first.id, "a"): 1, (first.id, "b"): 1, (second.id, "a"): 1}
    end(server, second)
    server.write(NoteLongRuns([(second.id, "free", ["c"], text)], ignore))
    assert server.count("happenings") == 3


def test_a_run_that_waits_is_long_too(server: Server) -> None:
    told_of(server, notify.on_long_run("a"))
    waits, ended = runs(server, 2)
    runs(server, test=True)
    server.wait(waits, '{"kind":"answer","text":"may I?"}')
    end(server, ended)
    assert server.run(waits.id)["state"] == "waiting"
    ((number, flow, began),) = begun_runs(server.connection)
    assert (number, flow, began) == (waits.id, "free", server.run(waits.id)["started_at"])
    server.write(NoteLongRuns([(number, flow, ["a"], {"text": "it takes long"})], ignore))
    (each,) = seal(server, "a")
    assert "waiting, begun at" in message_of(str(kept_message(server.connection, each))).text


def test_rules_of_the_settings_count_for_flows_by_name_and_tag(server: Server) -> None:
    tables = [
        {"events": ["run.failed"], "channels": ["all"], "flows": "f*"},
        {"events": ["run.failed"], "channels": ["money"], "tags": ["finance"]},
    ]
    server.hints.book = Book(defaults=read_defaults(tables)).ready()
    told_of(server, tags=("finance",), flow="free")
    told_of(server, flow="first")
    told_of(server, flow="other")
    for flow in ("free", "first", "other"):
        end(server, *runs(server, flow=flow))
    assert {row[:3] for row in outbox(server)} == {
        ("all", "run.failed", "free"), ("money", "run.failed", "free"), ("all", "run.failed", "first")
    }  # fmt: skip


def test_rules_and_what_people_changed_outlive_the_server(server: Server) -> None:
    told_of(server, notify.on_failure("ops"))
    added = Change((notify.on_failure("ada"),), by="ada", at=NOON, reason="I look after it this week")
    server.write(ChangeRules("free", lambda _: added, "ada", ignore))
    server.restart()
    assert server.hints.book.changes == {"free": added}
    end(server, *runs(server))
    assert {row[0] for row in outbox(server)} == {"ops", "ada"}
    (entry,) = server.rows("SELECT invoker, detail FROM audit WHERE action = 'notifications.change'")
    assert entry["invoker"] == "ada"
    assert "this week" in entry["detail"]


def test_a_mute_ends_by_itself(server: Server) -> None:
    told_of(server, notify.on_failure("ops"))
    until = server.clock.now() + MINUTE
    muted = Change(muted=True, until=until, by="ada", at=NOON)
    server.write(ChangeRules("free", lambda _: muted, "ada", ignore))
    end(server, *runs(server))
    assert outbox(server) == []
    server.clock.advance(MINUTE)
    end(server, *runs(server))
    assert outbox(server) == [("ops", "run.failed", "free", 1)]


def test_code_that_asks_for_nothing_any_more_is_told_of_no_more(server: Server) -> None:
    told_of(server, notify.on_failure("ops"))
    told_of(server)
    assert not server.hints.book.anything
    end(server, *runs(server))
    assert outbox(server) == []


# --- grouping ------------------------------------------------------------------------------------


def test_the_first_goes_at_once_and_all_that_follow_in_the_window_go_together(server: Server) -> None:
    told_of(server, notify.on_failure("ops"))
    end(server, *runs(server))
    (first,) = seal(server)
    for _ in range(4):
        end(server, *runs(server, 3))
    assert [row[3] for row in outbox(server)] == [1, 12]
    assert seal(server) == []
    (due,) = server.rows("SELECT due_at - created_at AS wait FROM notifications WHERE state = 'gathering'")
    assert 4 * MINUTE < due["wait"] <= 5 * MINUTE
    server.clock.advance(5 * MINUTE)
    (second,) = seal(server)
    assert second != first
    told = told_in(server.connection, second)
    assert len(told) == 10
    assert all(each.run is not None and each.run["state"] == "failed" for each in told)
    server.clock.advance(5 * MINUTE)
    end(server, *runs(server))
    assert len(seal(server)) == 1


def test_what_is_sealed_does_not_grow(server: Server) -> None:
    told_of(server, notify.on_failure("ops"))
    end(server, *runs(server))
    (number,) = seal(server)
    end(server, *runs(server))
    stored = notification(server.connection, number)
    assert stored is not None
    assert (stored.state, stored.count) == (PENDING, 1)
    assert len(told_in(server.connection, number)) == 1


def test_what_is_sealed_is_the_same_message_whatever_becomes_of_its_run(server: Server) -> None:
    told_of(server, notify.on_long_run("ops"), notify.on_retry("ops"), notify.on_failure("ops"))
    (run,) = runs(server)
    server.write(NoteLongRuns([(run.id, "free", ["ops"], {"text": "it takes long"})], ignore))
    server.finish(finished(run, "failed", error=BROKEN, retry_at=server.clock.now() + SECOND))
    sealed = {number: kept_message(server.connection, number) for number in seal(server)}
    assert {message_of(text).event for text in sealed.values() if text} == {"run.long", "run.retrying"}
    server.clock.advance(SECOND)
    server.queue_due()
    end(server, *server.claim(), state="succeeded")
    end(server, *runs(server))
    server.write(PruneRuns([run.id], server.clock.now() + 1, ignore))
    assert server.rows("SELECT id FROM runs WHERE id = :id", id=run.id) == []
    assert {number: kept_message(server.connection, number) for number in sealed} == sealed
    (third,) = seal(server)
    assert {number: kept_message(server.connection, number) for number in sealed} == sealed
    assert kept_message(server.connection, third) is not None


def test_a_digest_takes_the_place_of_what_it_tells(server: Server) -> None:
    flows = ["a", "b", "c"]
    for flow in flows:
        told_of(server, notify.on_failure("ops"), flow=flow)
        end(server, *runs(server, 2, flow=flow))
    end(server, *runs(server, 1, flow="c"))
    due = gathered(server.connection, "ops", server.clock.now())
    assert len(due) == 3
    (number,) = server.write(SealNotifications(due, True, compose, ignore))
    assert outbox(server) == [("ops", "digest", "", 7)]
    assert digested(server.connection, number) == [
        ("run.failed", "c", 3), ("run.failed", "a", 2), ("run.failed", "b", 2)
    ]  # fmt: skip
    assert len(sealed_since(server.connection, "ops", NOON)) == 1
    assert message_of(str(kept_message(server.connection, number))).event == "digest"


def test_repeats_of_a_request_share_a_row_and_all_are_counted(server: Server) -> None:
    told_of(server, notify.on_skipped("a", "b"))
    for number in range(50):
        skipped: dict[str, Any] = {
            "flow": "free",
            "outcome": Outcome.SKIPPED,
            "repeat_key": f"k{number % 20}",
            "times": 2,
        }
        server.transact(*(note(reason=f"no. {number % 20} of them", **skipped) for _ in range(3)))
    assert outbox(server) == [("a", "request.skipped", "free", 300), ("b", "request.skipped", "free", 300)]
    assert server.rows("SELECT channel, count(*) AS lines, sum(count) AS times FROM happenings GROUP BY channel") == [
        {"channel": "a", "lines": NAMED + 1, "times": 300}, {"channel": "b", "lines": NAMED + 1, "times": 300}
    ]  # fmt: skip
    (number,) = seal(server, "a")
    told = told_in(server.connection, number)
    assert [each.detail["text"] for each in told if each.detail] == [f"no. {rank} of them" for rank in range(10)]
    assert {each.count for each in told} == {18}
    server.clock.advance(5 * MINUTE)
    server.write(note(flow="free", outcome=Outcome.SKIPPED, reason="no. 0 of them"))
    (number,) = seal(server, "a")
    assert [(each.count, each.detail) for each in told_in(server.connection, number)] == [
        (1, {"text": "no. 0 of them", "trigger": None})
    ]


# --- delivery ------------------------------------------------------------------------------------


def test_a_notification_is_due_until_it_is_marked(server: Server) -> None:
    told_of(server, notify.on_failure("ops"))
    end(server, *runs(server))
    assert waiting_channels(server.connection)["ops"].keys() == {"gathering"}
    (number,) = seal(server)
    now = server.clock.now()
    stored = next_pending(server.connection, "ops", now, [])
    assert stored is not None
    assert stored.id == number
    assert next_pending(server.connection, "ops", now, [number]) is None
    server.write(MarkNotification(number, PENDING, "500", now + MINUTE, ignore))
    assert next_pending(server.connection, "ops", now, []) is None
    assert stuck_channels(server.connection) == [("ops", 1, "500")]
    assert outbox_figures(server.connection) | {"oldest": 0} == {"pending": 1, "failed": 0, "oldest": 0}
    server.write(MarkNotification(number, DELIVERED, None, None, ignore))
    assert waiting_channels(server.connection) == {}
    assert stuck_channels(server.connection) == []
    found = get_notification(server.connection, stored.uuid)
    assert found is not None
    item = found[1]
    assert (item["state"], item["tries"], item["last_error"], item["next_try_at"]) == ("delivered", 2, None, None)
    assert item["delivered_at"] is not None
    server.write(MarkNotification(number, GIVEN_UP, "late", None, ignore))
    again = notification(server.connection, number)
    assert again is not None
    assert again.state == DELIVERED


def test_people_can_have_it_sent_again_unless_it_arrived(server: Server) -> None:
    told_of(server, notify.on_failure("ops"))
    end(server, *runs(server))
    (number,) = seal(server)
    server.write(MarkNotification(number, GIVEN_UP, "no such address", None, ignore))
    stored = notification(server.connection, number)
    assert stored is not None
    assert outbox_figures(server.connection)["failed"] == 1
    assert server.write(RetryNotification(stored.uuid, "ada", ignore)) == "ops"
    assert next_pending(server.connection, "ops", server.clock.now(), []) is not None
    server.write(MarkNotification(number, DELIVERED, None, None, ignore))
    assert isinstance(server.write(RetryNotification(stored.uuid, "ada", ignore)), AlreadyDeliveredError)
    assert isinstance(server.write(RetryNotification("0" * 36, "ada", ignore)), NotFoundError)
    assert server.rows("SELECT invoker FROM audit WHERE action = 'notification.retry'") == [{"invoker": "ada"}]


def test_what_gathers_can_be_sent_before_its_time(server: Server) -> None:
    told_of(server, notify.on_failure("ops"))
    end(server, *runs(server))
    seal(server)
    end(server, *runs(server))
    (row,) = server.rows("SELECT uuid FROM notifications WHERE state = 'gathering'")
    assert server.write(RetryNotification(row["uuid"], "ada", ignore)) == "ops"
    assert len(seal(server)) == 1


def test_lists_are_filtered_and_paged(server: Server) -> None:
    for flow in ("a", "b"):
        told_of(server, notify.on_failure("ops", "boss"), flow=flow)
        end(server, *runs(server, flow=flow))
    (number,) = server.write(SealNotifications([1], False, compose, ignore))
    server.write(MarkNotification(number, DELIVERED, None, None, ignore))

    def listed(**which: str) -> list[tuple[str, str]]:
        found = list_notifications(server.connection, NotificationFilter(**which), Page())
        return [(item["channel"], item["flow"]) for item in found["items"]]

    assert len(listed()) == 4
    assert listed(state="delivered") == [("ops", "a")]
    assert len(listed(state="pending")) == 3
    assert listed(channel="boss", flow="b") == [("boss", "b")]
    assert listed(event="run.succeeded") == []
    assert listed(state="failed") == []
    first = list_notifications(server.connection, NotificationFilter(), Page(3))
    rest = list_notifications(server.connection, NotificationFilter(), Page(3, first["next"]))
    assert len(first["items"]) == 3
    assert len(rest["items"]) == 1
    assert first["items"][0]["run_id"] is not None


def test_what_waits_keeps_nothing_from_being_deleted(server: Server) -> None:
    told_of(server, notify.on_failure("gone"), flow="other")
    told_of(server, notify.on_failure("ops"))
    end(server, *runs(server, flow="other"))
    end(server, *runs(server))
    (number,) = seal(server)
    server.write(MarkNotification(number, DELIVERED, None, None, ignore))
    assert server.write(TrimOutbox(server.clock.now() + 1, 1, ignore)) == 1
    assert outbox(server) == [("gone", "run.failed", "other", 1)]


def test_what_ended_long_ago_is_deleted_and_nothing_else(server: Server) -> None:
    told_of(server, notify.on_failure("ops"))
    end(server, *runs(server))
    (number,) = seal(server)
    server.write(MarkNotification(number, DELIVERED, None, None, ignore))
    end(server, *runs(server, 2))
    assert server.write(TrimOutbox(server.clock.now(), 100, ignore)) == 1
    assert server.write(TrimOutbox(server.clock.now(), 100, ignore)) == 0
    assert [row[3] for row in outbox(server)] == [2]
    assert server.count("happenings") == 2


# --- every end, exactly once ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_every_end_that_matches_is_told_exactly_once(server: Server, seed: int) -> None:
    """Whatever order runs begin, fail, are tried again, lost, cancelled and reported twice in, over restarts too."""
    dice = random.Random(seed)
    told_of(server, notify.on_failure("a", "b"), notify.on_cancel("a"))
    told_of(server, notify.on_success("a"), flow="other")
    live: list[Claimed] = []
    for _ in range(120):
        server.clock.advance(dice.randrange(2 * MINUTE))
        what = dice.randrange(8)
        if what <= 2 or not live:
            live += runs(server, dice.randrange(1, 5), dice.choice(["free", "other"]), test=dice.random() < 0.1)
        elif what <= 4:
            some = dice.sample(live, min(len(live), dice.randrange(1, 4)))
            state = dice.choice(["failed", "succeeded"])
            end(server, *some, *dice.sample(some, 1), state=state)
            live = [run for run in live if run not in some]
        elif what == 5:
            server.cancel(dice.choice(live).uuid)
        elif what == 6:
            seal(server, dice.choice("ab"))
        else:
            server.restart()
            live = server.claim()
    expected = Counter[tuple[str, int]]()
    for row in server.rows("SELECT id, flow, state, test FROM runs WHERE test = 0"):
        key = {("free", "failed"): "ab", ("free", "cancelled"): "a", ("other", "succeeded"): "a"}
        expected.update((channel, row["id"]) for channel in key.get((row["flow"], row["state"]), ""))
    told = Counter((row["channel"], row["run_id"]) for row in server.rows("SELECT channel, run_id FROM happenings"))
    assert told == expected
    assert expected
    counts = server.rows(
        "SELECT n.count AS said, sum(h.count) AS told FROM notifications n JOIN happenings h "
        "ON h.notification_id = n.id GROUP BY n.id, n.count"
    )
    assert all(row["said"] == row["told"] for row in counts)
