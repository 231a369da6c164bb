"""A database that fails at any statement in any way: every command gets one answer, and none is half done."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pullcord.core.errors import StoreError
from pullcord.core.states import Outcome
from pullcord.store import sqlite
from pullcord.store import writer as writer_module
from pullcord.store.commands.cancelling import CancelRun
from pullcord.store.commands.claim import Claimed
from pullcord.store.commands.journal import FinishRuns, RecordSteps
from pullcord.store.commands.lifecycle import LoseRuns, SetWaiting
from pullcord.store.writer import Writer
from tests.store.harness import Server, SQLiteDatabase, admit, finished, note, spec, step

KINDS: dict[str, type[sqlite3.Error]] = {
    "SQLITE_IOERR_WRITE": sqlite3.OperationalError,
    "SQLITE_IOERR_FSYNC": sqlite3.OperationalError,
    "SQLITE_FULL": sqlite3.OperationalError,
    "SQLITE_BUSY": sqlite3.OperationalError,
    "SQLITE_CORRUPT": sqlite3.DatabaseError,
    "SQLITE_CONSTRAINT_UNIQUE": sqlite3.IntegrityError,
    "SQLITE_TOOBIG": sqlite3.DataError,
    "SQLITE_NOMEM": sqlite3.OperationalError,
}


class FaultyConnection(sqlite.SQLiteConnection):
    """Raises what is planned for its next statements; None lets one pass. At the end of the plan all is well."""

    plan: Iterator[str | None] = iter(())

    def execute(self, sql: str, parameters: Any = sqlite.NOTHING, /) -> sqlite3.Cursor:
        name = None if sql == "ROLLBACK" else next(self.plan, None)
        if name is not None:
            error = KINDS[name](f"{name} was planned")
            error.sqlite_errorcode = getattr(sqlite3, name)
            if name == "SQLITE_FULL" and self.in_transaction:
                super().execute("ROLLBACK")  # as SQLite itself does, unasked
            raise error
        return super().execute(sql, parameters)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "RETRY_PAUSE", 0.001)
    monkeypatch.setattr(sqlite, "SQLiteConnection", FaultyConnection)


class Answers:
    """Counts the answers of each command."""

    def __init__(self) -> None:
        self.results: dict[str, list[Any]] = {}

    def __call__(self, name: str) -> Callable[[Any], None]:
        self.results[name] = []
        return self.results[name].append


def deliver(answers: list[tuple[Callable[[Any], None], Any]], _: list[Claimed]) -> None:
    for done, result in answers:
        done(result)


def failed(result: Any) -> bool:
    """Say whether an answer is an error, in whatever way its command says so."""
    return isinstance(result, StoreError) or getattr(result, "error", None) is not None


FAULTS = st.lists(st.one_of(st.none(), st.none(), st.sampled_from(sorted(KINDS))), max_size=60)


@settings(max_examples=150)
@given(plan=FAULTS, poisoned=st.booleans(), order=st.randoms(use_true_random=False))
def test_each_command_is_answered_once_and_done_as_answered(plan: list[str | None], poisoned: bool, order: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = Server(SQLiteDatabase(Path(folder)))
        connection = server.connection
        assert isinstance(connection, FaultyConnection)
        server.register(spec("free", None), spec("f"))
        one, two, three, four = server.begin(*[admit("free", limited=False) for _ in range(4)])
        before = server.count("requests")
        answers = Answers()
        commands: list[Any] = [
            admit("free", limited=False, done=answers("admit"), request_id="00000000-0000-4000-8000-000000000001"),
            admit("f", key="k", done=answers("keyed")),
            admit("f", key="k", done=answers("same")),
            note(answers("note")),
            RecordSteps([step(one, "a"), step(two, "b")], answers("record")),
            FinishRuns([finished(two)], answers("finish")),
            SetWaiting(three.id, three.token, '{"kind":"time","text":"x"}', answers("wait")),
            LoseRuns([[four.id, four.token, 0, "{}"]], answers("lose")),
            CancelRun(one.uuid, "owner", None, False, "2026-01-01T00:00:00Z", answers("cancel")),
        ]
        if poisoned:
            commands.append(note(answers("poison"), note="a\0b"))
        order.shuffle(commands)
        writer = Writer(connection, server.clock, server.owner, deliver)
        connection.plan = iter(plan)
        for command in commands:
            writer.submit(command)
        writer.start()
        writer.submit(note(answers("late")))
        promised = [name for name, command in zip(answers.results, commands, strict=False) if command]
        assert promised
        writer.stop()
        connection.plan = iter(())
        check(server, answers, before, one, two)
        server.close()


def check(server: Server, answers: Answers, before: int, one: Claimed, two: Claimed) -> None:
    """Compare what was answered with what the tables hold."""
    results = answers.results
    counts = {name: len(got) for name, got in results.items()}
    # Stopping gives up what was promised to a worker and could not be written: the next server takes those runs over.
    unanswered = {name for name, count in counts.items() if count == 0}
    assert unanswered <= {"record", "finish", "wait", "lose"}
    assert max(counts.values()) <= (2 if counts["record"] == 2 else 1), "a divided record answers for each part"
    good = {name: got[0] for name, got in results.items() if got and not failed(got[0])}

    decisions = [good[name] for name in ("admit", "keyed", "same") if name in good]
    admitted = [decision for decision in decisions if decision.outcome is Outcome.ADMITTED]
    notes = sum(name in good for name in ("note", "late"))
    replays = len(decisions) - len(admitted)
    assert server.count("requests") == before + len(admitted) + notes + (1 if replays else 0)
    runs = {row["uuid"]: row for row in server.rows("SELECT * FROM runs")}
    assert len(runs) == 4 + len(admitted)
    for decision in admitted:
        assert decision.run_uuid in runs
    assert Counter(row["scope"] for row in server.rows("SELECT scope FROM keys"))["f"] <= 1
    assert server.count("audit") == len(runs) + ("cancel" in good)

    steps = {row["identity"] for row in server.rows("SELECT identity FROM steps")}
    recorded = [got for got in results["record"] if not failed(got)]
    assert len(steps) <= 2
    if len(recorded) == len(results["record"]) == 1 and not recorded[0].stale:
        assert steps == {"a", "b"}
    assert (runs[two.uuid]["state"] == "succeeded") == ("finish" in good)
    assert (runs[one.uuid]["state"] == "cancelling") == ("cancel" in good)
    if "poison" in results:
        assert failed(results["poison"][0])
    assert server.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
