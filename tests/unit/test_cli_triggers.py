"""What people read of triggers: cadences, decisions, what is ahead, and what a change is read as."""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from pullcord.cli import output
from pullcord.cli.cadence import cadence
from pullcord.cli.changes import changes
from pullcord.cli.ledger import decision
from pullcord.cli.moments import ahead, moment
from pullcord.cli.outlook import draw_outlook
from pullcord.cli.output import local
from pullcord.cli.triggerview import draw_history, draw_list, draw_preview, draw_trigger
from pullcord.core.durations import span
from pullcord.core.errors import UsageError

SOON = (datetime.now(UTC) + timedelta(days=300)).isoformat()
TRIGGER: dict[str, Any] = {
    "id": "01a1fcf9-8618-71b3-a917-e9235aee4931", "name": "nightly", "kind": "cron", "flow": "report",
    "flows": ["report", "other"], "location": "flows.py", "place": "flows.py:3", "description": "", "enabled": True,
    "health": "ok", "settings": {"expression": "0 2 * * *", "tz": "Europe/Berlin"}, "parameters": {"region": "DE"},
    "declared": {
        "enabled": True, "settings": {"expression": "0 2 * * *", "tz": "Europe/Berlin"}, "parameters": {"region": "DE"},
    },
    "override": None, "next_due": SOON, "last_poll_at": None, "last_fired_at": None, "consecutive_errors": 0,
    "error": None, "cursor": "2026-11-21T01:00:00.000000Z", "registered_at": "2026-11-20T01:00:00.000000Z",
    "removed_at": None,
}  # fmt: skip
OVERRIDE: dict[str, Any] = {
    "enabled": None, "until": None, "parameters": None, "settings": None, "by": "ada",
    "at": "2026-11-20T01:00:00.000000Z", "reason": "less traffic",
}  # fmt: skip
ROW: dict[str, Any] = {
    "outcome": "admitted", "reason": "admitted", "state": "succeeded", "dry_run": False, "note": None, "count": 1,
    "scheduled_for": None, "origin": None, "at": "2026-11-21T12:00:00.000000Z",
    "last_at": "2026-11-21T12:00:09.000000Z",
}  # fmt: skip


def clock(at: str) -> str:
    """Return a time as it is here."""
    return f"{datetime.fromisoformat(at).astimezone():%H:%M}"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.05, "50 ms"), (5, "5 s"), (2.5, "2.5 s"), (60, "1 min"), (5400, "1 h 30 min"), (90_061, "1 d 1 h 1 min 1 s")],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("kind", "settings", "text"),
    [
        ("cron", {"expression": "0 2 * * *", "tz": "Europe/Berlin"}, "at 02:00 every day, Europe/Berlin"),
        ("cron", {"expression": "@daily", "tz": "UTC"}, "at 00:00 every day, UTC"),
        ("cron", {"expression": "0 9 L * *", "tz": "UTC"}, "at 09:00 on the last day of every month, UTC"),
        ("interval", {"every": 3600.0}, "every 1 h"),
        ("at", {"when": "2030-01-01T12:00", "tz": "Asia/Tokyo"}, "once, 2030-01-01T12:00 Asia/Tokyo"),
        ("at", {"when": "2030-01-01T12:00+01:00", "tz": "UTC"}, "once, 2030-01-01T12:00+01:00"),
        ("event", {"every": 0.5}, "polled every 500 ms"),
        ("completion", {"of": ["a", "b"], "on": ["failed", "cancelled"]}, "when a or b failed or cancelled"),
        ("webhook", {"scheme": "github", "secrets": []}, "when a delivery comes, signed the github way"),
        ("weather", {"station": 3}, ""),
    ],
)
def test_cadences(kind: str, settings: dict[str, Any], text: str) -> None:
    assert cadence(kind, settings) == text


def test_a_local_time_has_its_zone() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+ \(in 300 d\)", local(SOON))
    assert local(None) == ""


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({}, "admitted, its run succeeded"),
        ({"state": "running"}, "admitted, its run is running"),
        ({"state": "cancelled"}, "admitted, its run was cancelled"),
        (
            {"outcome": "deduplicated", "reason": "run 1 has the same context and has not ended", "count": 14},
            f"deduplicated 14 times since {clock(ROW['at'])}:00: run 1 has the same context and has not ended",
        ),
        ({"outcome": "rejected", "reason": "a: wrong", "state": None}, "rejected: a: wrong"),
        ({"note": "to see"}, "admitted, its run succeeded, because “to see”"),
        ({"dry_run": True, "state": None}, "dry run: admitted"),
        ({"outcome": "awaiting_approval", "reason": "of bob", "state": None}, "awaiting approval: of bob"),
        ({"origin": {"resumed_from": "r1"}}, "admitted, to go on with run r1, its run succeeded"),
        (
            {"origin": {"rerun_of": "r1", "changes": {"n": {"before": 1, "after": "ü"}}}},
            'admitted, again from the beginning of run r1 with n: 1 → "ü", its run succeeded',
        ),
        (
            {"origin": {"rerun_of": "r1", "changes": {}}},
            "admitted, again from the beginning of run r1, its run succeeded",
        ),
    ],
)
def test_decisions_in_words(changed: dict[str, Any], text: str) -> None:
    assert decision(ROW | changed).plain == text


def test_a_decision_that_was_repeated_on_another_day_has_the_first_day() -> None:
    first = datetime(2026, 11, 18, 12, tzinfo=UTC)
    repeated = ROW | {"outcome": "rejected", "reason": "a: wrong", "count": 2, "at": first.isoformat()}
    assert decision(repeated).plain == f"rejected 2 times since {first.astimezone():%Y-%m-%d %H:%M:%S}: a: wrong"


def test_a_decision_on_a_tick_begins_with_its_time() -> None:
    missed = ROW | {"outcome": "missed", "reason": "its time passed while no server ran", "state": None}
    at = "2026-11-21T11:45:00.000000Z"
    assert decision(missed | {"scheduled_for": at}).plain == (
        f"{clock(at)} missed: its time passed while no server ran"
    )
    assert decision(ROW | {"scheduled_for": "2026-11-21T11:45:30.000000Z"}).plain.startswith(f"{clock(at)}:30 admitted")
    assert re.match(r"2026-11-1\d \d\d:\d\d admitted", decision(ROW | {"scheduled_for": "2026-11-18T12:00:00Z"}).plain)


def test_what_a_request_says_cannot_play_tricks() -> None:
    assert "\x1b" not in decision(ROW | {"reason": "\x1b[31mred", "note": "\x1b]0;title\x07"}).plain


def test_a_trigger_as_in_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    draw_trigger(TRIGGER)
    shown = capsys.readouterr().out
    assert "at 02:00 every day, Europe/Berlin" in shown
    assert "report, other" in shown
    assert "changed" not in shown
    assert "in the code:" not in shown


def test_a_changed_trigger_shows_the_codes_value_and_who_changed_it(capsys: pytest.CaptureFixture[str]) -> None:
    override = OVERRIDE | {"enabled": False, "parameters": {"region": "IT"}, "until": SOON}
    draw_trigger(
        TRIGGER | {"enabled": False, "health": "disabled", "override": override, "parameters": {"region": "IT"}}
    )
    shown = capsys.readouterr().out
    assert re.search(r"^enabled +no, until .* \(in 300 d\) \(in the code: yes\)$", shown, re.MULTILINE)
    assert re.search(r'^ +region +"IT" +"DE"$', shown, re.MULTILINE)
    assert re.search(r"^changed +by ada, .*: less traffic$", shown, re.MULTILINE)


def test_an_orphan_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    draw_trigger(TRIGGER | {"health": "orphaned", "removed_at": "2026-11-20T01:00:00.000000Z", "next_due": None})
    shown = capsys.readouterr().out
    assert "orphaned" in shown
    assert "it does nothing any more" in shown


def test_a_list_marks_what_was_changed(capsys: pytest.CaptureFixture[str]) -> None:
    changed = TRIGGER | {"name": "other", "override": OVERRIDE | {"settings": {"tz": "Europe/Berlin"}}}
    draw_list([TRIGGER, changed])
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["trigger", "kind", "flows", "asks", "next", "last", "fired", "health"]
    assert "at 02:00 every day, Europe/Berlin  " in first
    assert "at 02:00 every day, Europe/Berlin (changed)" in second


def test_health_has_colours_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_list([TRIGGER | {"health": "failing"}])
    assert "\x1b" not in capsys.readouterr().out
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, color_system="standard", width=200, _environ={})
    monkeypatch.setattr(output, "console", lambda stderr=False: terminal)
    draw_list([TRIGGER | {"health": "failing"}])
    assert "\x1b[31mfailing" in screen.getvalue()


def test_a_history_names_runs_counts_and_who(capsys: pytest.CaptureFixture[str]) -> None:
    line = {"id": 1, "at": "2026-11-20T01:00:00Z", "last_at": "2026-11-20T02:00:00Z", "count": 1, "detail": None}
    draw_history(
        [
            line | {"outcome": "fired", "reason": "1 admitted", "detail": {"runs": ["01a1"]}},
            line | {"outcome": "skipped", "reason": "nothing new", "count": 7},
            line | {"outcome": "changed", "reason": "disabled: x", "detail": {"by": "ada", "override": None}},
            line | {"outcome": "failed", "reason": None, "detail": "of another kind"},
        ]
    )
    shown = capsys.readouterr().out
    assert "run 01a1" in shown
    assert re.search(r"skipped +nothing new \(7 times since 2026-11-\d\d \d\d:00:00\)", shown)
    assert "disabled: x (by ada)" in shown


def test_a_preview_marks_ticks_that_do_not_fire(capsys: pytest.CaptureFixture[str]) -> None:
    tick = {"at": "2026-03-29T01:00:00Z", "due": "2026-03-29T01:00:00Z", "local": "2026-03-29 03:00:00+02:00"}
    ticks = [tick | {"fires": True, "notes": ["02:00 does not exist"]}, tick | {"fires": False, "notes": ["blackout"]}]
    draw_preview({"trigger": "a", "kind": "cron", "ticks": ticks})
    _, first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"2026-03-29 03:00:00\+02:00 +fires +02:00 does not exist", first)
    assert re.fullmatch(r"2026-03-29 03:00:00\+02:00 +skipped +blackout", second)
    draw_preview({"trigger": "a", "kind": "at", "ticks": []})
    assert capsys.readouterr().out == "it asks no more\n"


def test_a_preview_shows_a_traceback_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"type": "KeyError", "message": "'x'", "traceback": "line [red]1[/red]\n"}
    draw_preview({"outcome": "failed", "fires": [], "reason": None, "error": error, "cursor": None, "took_ms": 1.5})
    shown = capsys.readouterr().out
    assert "KeyError: 'x'" in shown
    assert "line [red]1[/red]" in shown


AHEAD: dict[str, Any] = {
    "next_runs": [], "paused": None, "settings": {}, "triggers": [], "queued": 0, "running": 0,
}  # fmt: skip
"""What is ahead of a flow that nobody asks for."""


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({}, r"asks next .* \(in 300 d\) \(cron, at 02:00 every day, Europe/Berlin\)"),
        ({"health": "unserved", "next_due": None}, r"does nothing: flows\.py is not served"),
        ({"health": "disabled", "next_due": None}, r"does nothing: it is not enabled in the code"),
        (
            {"health": "disabled", "next_due": None, "override": OVERRIDE | {"enabled": False, "until": SOON}},
            r"does nothing: ada disabled it until .* \(in 300 d\): less traffic",
        ),
        (
            {"health": "failing", "error": "OSError: away", "consecutive_errors": 3},
            r"is failing: 3 polls in a row failed, OSError: away; it is tried again .* \(in 300 d\)",
        ),
        ({"next_due": None}, "waits"),
    ],
)
def test_what_is_ahead(changed: dict[str, Any], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    draw_outlook(AHEAD | {"triggers": [TRIGGER | changed], "queued": 3, "running": 100})
    shown = capsys.readouterr().out
    assert re.search(f"^nightly +{text}", shown, re.MULTILINE), shown
    assert re.search("^runs +3 queued, 100 or more running$", shown, re.MULTILINE)


def test_nothing_is_ahead(capsys: pytest.CaptureFixture[str]) -> None:
    draw_outlook(AHEAD)
    assert capsys.readouterr().out == ""


def test_what_is_ahead_of_a_flow_that_is_paused_and_limited(capsys: pytest.CaptureFixture[str]) -> None:
    pause = {"by": "ada", "at": "2026-01-01T00:00:00Z", "reason": "a test", "until": None}
    rate = {"limit": 10, "per": 60.0, "by": "invoker", "on_limit": "reject"}
    limits = {"rate": rate, "max_queued": 5, "queue_ttl": 90.0, "suspend_after": 3}
    draw_outlook(AHEAD | {"paused": pause, "settings": limits, "triggers": [TRIGGER]})
    shown = " ".join(capsys.readouterr().out.split())
    assert "flow paused until it is resumed, by ada at 2026-01-01" in shown and ": a test " in shown
    assert "limits 10 requests of each invoker in 1 min 0 s, more are refused, at most 5 wait," in shown
    assert "none waits longer than 1 min 30 s, paused after 3 failures in a row" in shown
    assert "and is skipped while the flow is paused (cron, at 02:00 every day, Europe/Berlin)" in shown


def test_changes_keep_what_is_not_named() -> None:
    item = TRIGGER | {"override": OVERRIDE | {"settings": {"jitter": 5}}}
    assert changes(item, "@daily", ["n=3", "text=a=b"], ["tz=UTC", "blackout=[]"], None) == {
        "schedule": "@daily",
        "parameters": {"region": "DE", "n": 3, "text": "a=b"},
        "settings": {"jitter": 5, "tz": "UTC", "blackout": []},
    }
    assert changes(item, None, None, None, None) == {}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("cron", "now", "now"),
        ("interval", "2026-11-20T01:00:00+01:00", "2026-11-20T00:00:00+00:00"),
        ("event", "now", "now"),
        ("event", '{"line": 3}', {"line": 3}),
        ("event", "null", None),
        ("event", "2026-11-20", "2026-11-20"),
    ],
)
def test_cursors(kind: str, text: str, value: Any) -> None:
    assert changes(TRIGGER | {"kind": kind}, None, None, None, text) == {"cursor": value}


def test_the_cursor_of_a_schedule_may_be_a_duration_ago() -> None:
    before = datetime.now(UTC)
    found = datetime.fromisoformat(changes(TRIGGER, None, None, None, "2h")["cursor"])
    assert before - timedelta(hours=2) <= found <= datetime.now(UTC) - timedelta(hours=2)


def test_the_end_of_a_pause_may_be_a_duration_from_now() -> None:
    before = datetime.now(UTC)
    found = datetime.fromisoformat(ahead("2h") or "")
    assert before + timedelta(hours=2) <= found <= datetime.now(UTC) + timedelta(hours=2)
    assert ahead("2030-01-01T00:00:00+01:00") == "2029-12-31T23:00:00+00:00"
    assert ahead(None) is None


@pytest.mark.parametrize("read", [moment, ahead])
@pytest.mark.parametrize("text", ["soon", "2026-13-01", "2026-01-01T25:00:00Z", "-2h", "101w 9999w", "nan"])
def test_what_is_no_time_is_told_of_both_forms(read: Callable[[str], str], text: str) -> None:
    with pytest.raises(UsageError, match=r"neither a time nor a duration .* like 2026-12-24T18:00:00Z .* like 30s, 2h"):
        read(text)


@pytest.mark.parametrize("read", [moment, ahead])
def test_a_time_may_lie_beyond_the_calendar(read: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"):
        with pytest.raises(UsageError, match="beyond the calendar"):
            read(text)
    try:
        for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            for text in ("0001-01-01", "9999-12-31T23:59:59"):
                with contextlib.suppress(UsageError):
                    read(text)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("pair", ["x", "=3", ""])
def test_a_pair_needs_a_name(pair: str) -> None:
    with pytest.raises(UsageError, match="NAME=VALUE"):
        changes(TRIGGER, None, [pair], None, None)
