"""Rules of notifications: what can be said, what cannot, and which of them hold."""

from __future__ import annotations

from typing import Any

import pytest

import pullcord as pc
from pullcord.core.errors import DefinitionError, UsageError
from pullcord.core.headlines import title
from pullcord.core.manifest import FlowSpec
from pullcord.core.notify import ASKED, EVENTS, FAILED, LONG, RETRYING, Rule, rule_of
from pullcord.core.rulebook import WINDOW, Book, Change, change_of, read_defaults
from pullcord.notify.compose import LEVELS, LONGEST, compose
from pullcord.notify.message import MOST_DATA, message_of, written
from pullcord.store.queries.outbox import Stored, Told

MAKERS = (
    pc.on_success, pc.on_failure, pc.on_recovery, pc.on_retry, pc.on_cancel, pc.on_long_run, pc.on_missed,
    pc.on_skipped, pc.on_trigger_disabled, pc.on_question, pc.on_suspended,
)  # fmt: skip


def spec(name: str, *rules: Rule, tags: tuple[str, ...] = ()) -> FlowSpec:
    settings = {"notify": [rule.as_json() for rule in rules], "tags": list(tags)}
    return FlowSpec(name, "etl", "v1", "x.py:1", "", {}, settings, False)


def test_there_is_a_rule_for_every_event_and_a_level_and_a_headline() -> None:
    rules = [*(make("ops") for make in MAKERS), pc.on_failures(3, "ops")]
    assert sorted(rule.event for rule in rules) == sorted(EVENTS) == sorted(LEVELS)
    for event in EVENTS:
        assert title(event, "nightly", 1) not in (event, f"nightly {event}")
        assert "12" in title(event, "nightly", 12)
        assert "2th" not in title(event, "nightly", 2)


@pytest.mark.parametrize("rule", [make("a", "b") for make in MAKERS] + [pc.on_failures(2, "a")])
def test_a_rule_survives_the_manifest(rule: Rule) -> None:
    assert rule_of(rule.as_json()) == rule


def test_a_long_run_is_twice_the_usual_unless_something_else_is_said() -> None:
    assert (pc.on_long_run("a").factor, pc.on_long_run("a").after) == (2.0, None)
    assert (pc.on_long_run("a", after="1h").factor, pc.on_long_run("a", after="1h").after) == (None, 3600.0)
    assert pc.on_long_run("a", factor=3, after=60).as_json()["factor"] == 3.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pc.on_failure(), "name the channels"),
        (lambda: pc.on_failure("a b"), "name the channels"),
        (lambda: pc.on_failures(1, "a"), "from 2 to 1000"),
        (lambda: pc.on_failures(True, "a"), "from 2 to 1000"),
        (lambda: pc.on_long_run("a", factor=0.5), "at least 1"),
        (lambda: pc.on_long_run("a", after="soon"), "after: "),
        (lambda: rule_of({"event": "run.exploded", "channels": ["a"]}), "nothing that can be told"),
        (lambda: rule_of({"event": FAILED, "channels": "a"}), "name the channels"),
        (lambda: rule_of({"event": FAILED, "channels": ["a"], "count": 3}), "takes a count"),
        (lambda: rule_of({"event": FAILED, "channels": ["a"], "after": 3}), "only run.long"),
        (lambda: rule_of({"event": FAILED, "channels": [{}]}), "name the channels"),
        (lambda: rule_of({"event": FAILED, "channels": ["a", ["b"]]}), "name the channels"),
        (lambda: rule_of({"event": LONG, "channels": ["a"], "factor": "2"}), "at least 1 and at most"),
        (lambda: rule_of({"event": LONG, "channels": ["a"], "factor": 10**400}), "at least 1 and at most"),
        (lambda: rule_of({"event": FAILED, "channels": ["a"], "colour": 3}), "has no colour"),
        (lambda: rule_of("run.failed"), "a rule is an object"),
        (lambda: pc.flow(notify="ops"), "notify is a list"),  # type: ignore[call-overload]
        (lambda: pc.flow(notify=["ops"]), "notify is a list"),  # type: ignore[list-item]
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(make: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        make()


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ("run.failed", "is a list of tables"),
        ([{"channels": ["a"]}], "events of notify"),
        ([{"events": ["run.exploded"], "channels": ["a"]}], "nothing that can be told"),
        ([{"events": ["run.failed"], "channels": ["a"], "tags": "finance"}], "tags a list"),
        ([{"events": ["run.failed"], "channels": ["a"], "when": "always"}], "and nothing else"),
        ([{"events": ["run.failing"], "channels": ["a"]}], "takes a count"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tables: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_defaults(tables)


def test_options_of_a_table_go_to_the_events_that_take_them() -> None:
    (failed, long) = read_defaults([{"events": [FAILED, LONG], "channels": ["a"], "after": "1m"}])
    assert failed.rule == pc.on_failure("a")
    assert long.rule == pc.on_long_run("a", after=60)


def test_a_book_knows_who_is_told_and_where_that_is_said() -> None:
    defaults = read_defaults([{"events": [FAILED], "channels": ["all"], "flows": "n*", "tags": ["money"]}])
    book = Book(defaults, {"all": 1}).ready().with_flows([spec("nightly", pc.on_failure("ops"), tags=("money",))])
    book = book.with_change("nightly", Change((pc.on_failure("ada", "ops"),), by="ada"))
    assert book.anything
    assert book.channels("nightly", FAILED, 0) == ["ops", "all", "ada"]
    assert [source for source, _ in book.sourced("nightly")] == ["code", "settings", "people"]
    assert book.channels("other", FAILED, 0) == []
    assert book.named() == {"all": "the settings", "ops": "flow nightly", "ada": "flow nightly"}
    assert (book.window("all"), book.window("ops")) == (1, WINDOW)
    assert book.mentions(FAILED)
    assert not book.mentions(LONG)
    assert not Book().anything


def test_a_mute_holds_until_its_end() -> None:
    book = Book().ready().with_flows([spec("f", pc.on_failure("ops"))])
    book = book.with_change("f", Change(muted=True, until=10))
    assert [book.channels("f", FAILED, now) for now in (9, 10)] == [[], ["ops"]]
    change = Change((pc.on_failure("a"),), True, 5, "ada", 1, "why")
    assert change_of(change.as_json()) == change


def run_item(**changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "id": "0198", "state": "failed", "attempt": 1, "error": {"type": "ValueError", "message": "bad\nworse"},
        "invoker": {"id": "ada", "on_behalf_of": ["bob"]}, "trigger": {"kind": "cron", "name": "hourly"},
        "reason": "month end", "cancel": None, "partial": None, "started_at": "t", "not_before": None,
    }  # fmt: skip
    return facts | changes


def stored(event: str = FAILED, count: int = 1, flow: str = "f") -> Stored:
    return Stored(1, "0198", "ops", event, flow, "pending", count, 0, 1, 0, 0, 0, None, None)


def test_a_message_says_what_happened_who_asked_and_what_to_do() -> None:
    message = compose(stored(), [Told(FAILED, "f", 0, 1, None, run_item())], [], "https://p.example.org/")
    lines = message.text.split("\n")
    assert lines[:3] == [
        "Run 0198 of f, failed.", "ValueError: bad", "Asked for by ada for bob, cron hourly: month end"
    ]  # fmt: skip
    assert lines[-3:] == ["  pullcord runs show 0198", "  pullcord runs logs 0198", "  pullcord runs resume 0198"]
    assert message.link == "https://p.example.org/v1/runs/0198"
    assert message.data is not None
    assert message.data["id"] == "0198"
    assert compose(stored(), [Told(FAILED, "f", 0, 1, None, run_item())], []).link is None


def test_a_run_that_stopped_half_way_says_so_and_a_long_error_is_cut() -> None:
    partial = {"steps": ["write"], "text": "write may have left orders.parquet half-written"}
    error = {"type": "E", "message": "x" * 1000}
    message = compose(stored(), [Told(FAILED, "f", 0, 1, None, run_item(partial=partial, error=error))], [])
    assert "Beware, it stopped half-way: write may have left orders.parquet half-written" in message.text
    assert max(map(len, message.text.split("\n"))) == LONGEST


def test_a_run_that_is_gone_is_told_of_all_the_same() -> None:
    message = compose(stored(), [Told(FAILED, "f", 0, 1, None, None)], [])
    assert message.title == "f failed"
    assert "pullcord runs list --flow f --state failed" in message.text


def test_a_question_is_told_with_the_command_that_answers_it_however_long_it_is() -> None:
    detail = {"text": "May I delete " + "x" * 1000 + "?", "question_id": "0199"}
    one = Told(ASKED, "f", 0, 1, detail, run_item(state="waiting", error=None))
    message = compose(stored(ASKED), [one], [])
    assert max(map(len, message.text.split("\n"))) == LONGEST
    assert message.text.endswith("What to do next:\n  pullcord questions answer 0199")
    assert message.data is not None
    assert message.data["detail"] == detail
    many = compose(stored(ASKED, 2), [one, one], [])
    assert many.text.endswith("What to do next:\n  pullcord questions list --flow f")


def test_a_question_that_is_over_does_not_ask_for_an_answer() -> None:
    detail = {"text": "Release?", "question_id": "0199"}
    for run, is_open, line, command in [
        (run_item(state="waiting", error=None), True, "waits for an answer", "questions answer 0199"),
        (run_item(state="running", error=None), True, "waits for an answer", "questions answer 0199"),
        (run_item(state="waiting", error=None), False, "waiting, and no longer waits", "runs show 0198"),
        (run_item(state="cancelled", error=None), False, "cancelled, and no longer waits", "runs show 0198"),
    ]:
        text = compose(stored(ASKED), [Told(ASKED, "f", 0, 1, detail, run, is_open)], []).text
        assert text.startswith(f"Run 0198 of f, {line}")
        assert text.endswith(f"  pullcord {command}")
    over = run_item(state="succeeded", error=None)
    old = compose(stored(ASKED), [Told(ASKED, "f", 0, 1, {"text": "Release?"}, over)], []).text
    assert old.startswith("Run 0198 of f, succeeded, and no longer waits for this answer.")
    assert "What to do next" not in compose(stored(ASKED), [Told(ASKED, "f", 0, 1, detail, None, False)], []).text


def test_an_attempt_is_told_with_its_own_error_and_with_what_the_run_does_by_then() -> None:
    error = {"type": "OSError", "message": "closed\nmore"}
    detail = {"attempt": 1, "error": error, "next_at": "noon"}
    for run, line in [
        (run_item(state="scheduled", attempt=2, not_before="noon", error=error), "attempt 2 begins at noon."),
        (run_item(state="succeeded", attempt=2, error=None), "it is succeeded in attempt 2 now."),
        (run_item(state="scheduled", attempt=3, not_before="one"), "it is scheduled in attempt 3 now."),
    ]:
        told = Told(RETRYING, "f", 0, 1, detail, run)
        assert compose(stored(RETRYING), [told], []).text.split("\n")[:2] == [
            f"Run 0198 of f, attempt 1 failed; {line}", "OSError: closed"
        ]  # fmt: skip
        assert "  0198 OSError: closed" in compose(stored(RETRYING, 2), [told, told], []).text
    old = run_item(state="scheduled", attempt=3, not_before="one")
    text = compose(stored(RETRYING), [Told(RETRYING, "f", 0, 1, None, old)], []).text
    assert text.startswith("Run 0198 of f, attempt 2 failed; attempt 3 begins at one.\nValueError: bad\n")


def test_a_question_that_an_earlier_version_noted_is_told_with_what_it_noted() -> None:
    detail = {"text": "Release?\nAnswer with `pullcord questions answer 0199`"}
    message = compose(stored(ASKED), [Told(ASKED, "f", 0, 1, detail, run_item(state="waiting", error=None))], [])
    assert detail["text"] in message.text
    assert message.text.endswith("What to do next:\n  pullcord questions list --flow f")


def test_many_are_told_with_their_number_and_the_first() -> None:
    told = [Told(FAILED, "f", 0, 1, None, run_item(id=f"r{number}")) for number in range(10)]
    message = compose(stored(count=1234), told, [])
    assert message.title == "f: 1,234 runs failed"
    assert "  r0 ValueError: bad" in message.text
    assert "  and 1,224 more" in message.text
    assert message.data is not None
    assert (message.count, len(message.data["first"])) == (1234, 10)


def test_a_digest_is_as_bad_as_the_worst_in_it() -> None:
    kinds = [("run.succeeded", "a", 5), (FAILED, "b", 2)]
    message = compose(stored("digest", 9, ""), [], kinds)
    assert message.level == "error"
    assert "a: 5 runs succeeded" in message.text
    assert "and 2 more of other kinds" in message.text


def test_a_message_that_is_kept_is_the_same_again_and_not_too_long() -> None:
    message = compose(stored(), [Told(FAILED, "f", 0, 1, {"n": 2**63}, run_item())], [], "https://p.example.org/")
    assert message_of(written(message)) == message
    long = compose(stored(), [Told(FAILED, "f", 0, 1, {"text": "ü" * MOST_DATA}, run_item())], [])
    kept = message_of(written(long))
    assert (kept.data, kept.text) == (None, long.text)
