"""The disk: what a full one does to whom, and how much of it a run takes."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from pullcord.core.errors import StoreError, StoreFullError
from pullcord.core.states import Outcome
from pullcord.store import writer as writer_module
from pullcord.store.commands.catalog import RegisterFlows
from pullcord.store.commands.claim import Claimed
from pullcord.store.commands.journal import FinishRuns, RecordSteps
from pullcord.store.commands.lifecycle import LoseRuns, SetWaiting
from pullcord.store.errors import is_data_error, translate
from pullcord.store.writer import Writer
from tests.store.harness import Server, SQLiteDatabase, admit, finished, note, spec, step

MORE = "x" * 200_000


@dataclass
class Disk:
    """A writer over a disk that can be filled."""

    server: Server
    writer: Writer
    runs: list[Claimed]
    answered: SimpleQueue[tuple[str, Any]] = field(default_factory=SimpleQueue)

    def fill(self) -> None:
        """Allow no further page."""
        (pages,) = self.server.connection.execute("PRAGMA page_count").fetchone()
        self.server.connection.execute(f"PRAGMA max_page_count = {pages}")

    def empty(self) -> None:
        """Allow further pages."""
        self.server.connection.execute("PRAGMA max_page_count = 1000000")

    def done(self, name: str) -> Callable[[Any], None]:
        """Return a callback that queues a result under a name."""
        return lambda result: self.answered.put((name, result))

    def next(self) -> tuple[str, Any]:
        """Wait for the next result."""
        return self.answered.get(timeout=60)


def deliver(answers: list[tuple[Callable[[Any], None], Any]], _: list[Claimed]) -> None:
    """Make the callbacks right on the writer's thread."""
    for done, result in answers:
        done(result)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Start a writer with five active runs."""
    monkeypatch.setattr(writer_module, "RETRY_PAUSE", 0.01)
    server = Server(SQLiteDatabase(tmp_path))
    server.register(spec("free", None))
    runs = server.begin(*[admit("free", limited=False) for _ in range(5)])
    writer = Writer(server.connection, server.clock, server.owner, deliver)
    yield Disk(server, writer, runs)
    server.close()


@pytest.fixture
def writing(disk: Disk) -> Iterator[Disk]:
    """Let the writer's thread run."""
    disk.writer.start()
    yield disk
    disk.empty()
    disk.writer.stop()


def test_a_request_on_a_full_disk_is_refused_at_once(writing: Disk) -> None:
    writing.fill()
    writing.writer.submit(admit(inputs=f'"{MORE}"', done=writing.done("admit")))
    name, result = writing.next()
    assert name == "admit"
    assert isinstance(result, StoreFullError)
    assert "free some space" in result.message
    writing.writer.submit(note(writing.done("note"), note=MORE))
    assert isinstance(writing.next()[1], StoreFullError)
    writing.empty()
    writing.writer.submit(admit(inputs=f'"{MORE}"', done=writing.done("again")))
    assert writing.next()[1].outcome is Outcome.ADMITTED
    assert writing.server.count("runs") == 6


def promised(disk: Disk) -> list[Any]:
    """Return a command of every kind that was promised to a worker, each too big for a full disk."""
    one, two, three, four, _ = disk.runs
    return [
        RecordSteps([step(one, result=f'"{MORE}"')], disk.done("record")),
        FinishRuns([finished(two, result=f'"{MORE}"')], disk.done("finish")),
        SetWaiting(three.id, three.token, f'"{MORE}"', disk.done("wait")),
        LoseRuns([[four.id, four.token, 3, f'"{MORE}"']], disk.done("lose")),
        RegisterFlows("new", [spec("new", location="new", description=MORE)], True, disk.done("register")),
    ]


@pytest.mark.parametrize("index", range(5))
def test_what_was_promised_to_a_worker_is_written_when_there_is_room_again(writing: Disk, index: int) -> None:
    command = promised(writing)[index]
    assert command.keep_trying
    writing.fill()
    writing.writer.submit(command)
    writing.writer.submit(note(writing.done("note"), note=MORE))
    name, result = writing.next()
    assert (name, type(result)) == ("note", StoreFullError), "the promise is not broken meanwhile"
    assert writing.answered.empty()
    writing.empty()
    name, result = writing.next()
    assert name in ("record", "finish", "wait", "lose", "register")
    assert not isinstance(result, StoreError)


def test_all_of_it_in_one_batch(disk: Disk) -> None:
    disk.fill()
    for command in [*promised(disk), admit(inputs=f'"{MORE}"', done=disk.done("admit"))]:
        disk.writer.submit(command)
    disk.writer.start()
    assert isinstance(disk.next()[1], StoreFullError)
    disk.empty()
    results = dict(disk.next() for _ in range(5))
    disk.writer.stop()
    assert set(results) == {"record", "finish", "wait", "lose", "register"}
    states = disk.server.states()
    assert [states[run.id] for run in disk.runs] == ["running", "succeeded", "waiting", "failed", "running"]
    assert disk.server.rows("SELECT length(result) AS n FROM steps") == [{"n": len(MORE) + 2}]


def test_later_words_of_a_run_stay_behind_earlier_ones(writing: Disk) -> None:
    run = writing.runs[0]
    writing.fill()
    writing.writer.submit(RecordSteps([step(run, result=f'"{MORE}"')], writing.done("record")))
    writing.writer.submit(FinishRuns([finished(run)], writing.done("finish")))
    writing.empty()
    results = dict(writing.next() for _ in range(2))
    assert results["record"].stale == set()
    assert results["record"].error is None
    assert results["finish"][0].state == "succeeded"


def test_the_writer_can_be_stopped_on_a_full_disk(disk: Disk) -> None:
    disk.fill()
    disk.writer.submit(RecordSteps([step(disk.runs[0], result=f'"{MORE}"')], disk.done("record")))
    disk.writer.start()
    stopping = threading.Thread(target=disk.writer.stop)
    stopping.start()
    stopping.join(60)
    assert not stopping.is_alive()


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("SQLITE_FULL", False, "store_full"),
        ("SQLITE_IOERR", False, "store_error"),
        ("SQLITE_IOERR_FSYNC", False, "store_error"),
        ("SQLITE_BUSY", False, "store_locked"),
        ("SQLITE_LOCKED", False, "store_locked"),
        ("SQLITE_READONLY", False, "store_read_only"),
        ("SQLITE_READONLY_DBMOVED", False, "store_read_only"),
        ("SQLITE_CANTOPEN", False, "store_read_only"),
        ("SQLITE_CORRUPT", False, "store_corrupt"),
        ("SQLITE_NOTADB", False, "store_corrupt"),
        ("SQLITE_TOOBIG", True, "store_error"),
        ("SQLITE_CONSTRAINT_UNIQUE", True, "store_error"),
        ("SQLITE_CONSTRAINT_NOTNULL", True, "store_error"),
        ("SQLITE_MISMATCH", True, "store_error"),
        ("SQLITE_ERROR", True, "store_error"),
    ],
)
def test_what_the_driver_says_is_the_fault_of_the_values_or_not(name: str, data: bool, code: str) -> None:
    """A batch is divided for its values alone: a disk that fails would fail every part, one after the other."""
    kinds: dict[str, type[sqlite3.Error]] = {
        "SQLITE_CORRUPT": sqlite3.DatabaseError, "SQLITE_NOTADB": sqlite3.DatabaseError,
        "SQLITE_TOOBIG": sqlite3.DataError, "SQLITE_MISMATCH": sqlite3.IntegrityError,
        "SQLITE_CONSTRAINT_UNIQUE": sqlite3.IntegrityError, "SQLITE_CONSTRAINT_NOTNULL": sqlite3.IntegrityError,
    }  # fmt: skip
    error = kinds.get(name, sqlite3.OperationalError)("what happened")
    error.sqlite_errorcode = getattr(sqlite3, name)
    assert is_data_error(error) is data
    assert translate(error).code == code
    assert "what happened" in translate(error).message


def test_a_run_with_one_step_takes_at_most_a_kilobyte(tmp_path: Path) -> None:
    database = SQLiteDatabase(tmp_path)
    server = Server(database)
    server.register(spec("nightly-report", None))
    inputs = '{"day":"2026-02-28","region":"DE"}'
    for _ in range(10):
        runs = server.begin(
            *[
                admit("nightly-report", limited=False, inputs=inputs, ledger={"inputs": inputs, "source": "http"})
                for _ in range(500)
            ]
        )
        server.record(*[step(run, f"{run.id:024x}", name="load", result="42") for run in runs])
        server.finish(*[finished(run, result='{"rows":42}') for run in runs])
    assert set(server.states().values()) == {"succeeded"}
    assert server.count("runs") == server.count("steps") == 5000
    server.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    server.close()
    assert database.path.stat().st_size / 5000 <= 1024
