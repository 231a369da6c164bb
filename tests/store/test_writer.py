"""Group commit: one transaction for what arrives together, answers after it, and a bad command harms only itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
from uuid_utils import uuid7

from pullcord.core.errors import PullcordRuntimeError, StoreError, StoreFullError, StoreReadOnlyError
from pullcord.core.states import Outcome
from pullcord.store import writer as writer_module
from pullcord.store.commands.claim import Claimed
from pullcord.store.commands.journal import FinishRuns, Recorded, RecordSteps
from pullcord.store.commands.lifecycle import LoseRuns, Start
from pullcord.store.connection import Connection
from pullcord.store.queries.page import Page
from pullcord.store.queries.requests import RequestFilter, list_requests
from pullcord.store.queries.runs import RunFilter, list_runs, run_number
from pullcord.store.store import Store
from pullcord.store.transaction import ignore
from pullcord.store.writer import Writer
from tests.store.harness import (
    LANE,
    ROOM,
    SECOND,
    Database,
    DrivenClock,
    Server,
    admit,
    finished,
    note,
    spec,
    step,
)


class Answers:
    """Takes what the writer delivers, on the writer's thread."""

    def __init__(self) -> None:
        self.claimed: list[Claimed] = []
        self.deliveries = 0
        self.arrived = threading.Event()

    def __call__(self, answers: list[tuple[Callable[[Any], None], Any]], claimed: list[Claimed]) -> None:
        self.deliveries += bool(answers or claimed)
        self.claimed += claimed
        for done, result in answers:
            done(result)
        if answers or claimed:
            self.arrived.set()


class Room:
    """Has room, and may fail for a while, as a full disk does in a transaction that only claims."""

    floor = 0

    def __init__(self, room: Mapping[str, int] = ROOM, failures: int = 0) -> None:
        self._room = dict(room)
        self._failures = failures
        self.reserved: list[Claimed] = []

    def room(self) -> Mapping[str, int]:
        if self._failures:
            self._failures -= 1
            raise StoreFullError("the disk is full")
        return self._room

    def reserve(self, claimed: Sequence[Claimed]) -> None:
        self.reserved += claimed
        for run in claimed:
            self._room[run.lane] -= 1


@pytest.fixture
def prepared(database: Database, clock: DrivenClock) -> Iterator[Server]:
    """Prepare flows, to write to with a real writer."""
    server = Server(database, clock)
    server.register(spec("f"), spec("free", None))
    yield server
    server.close()


@pytest.fixture
def answers() -> Answers:
    """Make a taker of answers."""
    return Answers()


@pytest.fixture
def writer(prepared: Server, answers: Answers) -> Writer:
    """Make a writer that was not started yet: what is submitted to it becomes one batch."""
    return Writer(prepared.connection, prepared.clock, prepared.owner, answers)


def write_at_once(writer: Writer, *commands: Any) -> None:
    """Let a writer find all commands in its queue when it starts."""
    for command in commands:
        writer.submit(command)
    writer.start()
    writer.stop()


def test_what_is_there_together_is_one_transaction(prepared: Server, writer: Writer, answers: Answers) -> None:
    decisions: list[Any] = []
    write_at_once(writer, *[admit(done=decisions.append) for _ in range(500)], *[note() for _ in range(20)])
    assert answers.deliveries == 1
    assert len({decision.id for decision in decisions}) == 500
    assert len({row["at"] for row in prepared.rows("SELECT at FROM requests")}) == 1


def test_answers_come_after_the_commit(database: Database, prepared: Server, writer: Writer) -> None:
    seen: list[Any] = []
    reader = database.reader()
    run = str(uuid7())
    write_at_once(
        writer,
        admit(uuid=run, done=lambda _: seen.append((prepared.connection.in_transaction, run_number(reader, run)))),
    )
    reader.close()
    assert seen == [(False, (1, "queued", "f"))]


def test_records_go_before_ends_and_ends_before_admissions(prepared: Server, writer: Writer, answers: Answers) -> None:
    (run,) = prepared.begin(admit())
    results: dict[str, Any] = {}
    writer.serve(Room())
    write_at_once(
        writer,
        admit(done=lambda result: results.update(admitted=result)),
        FinishRuns([finished(run)], lambda result: results.update(ended=result)),
        RecordSteps([step(run)], lambda result: results.update(recorded=result)),
    )
    assert results["recorded"].stale == set()
    assert results["ended"][0].state == "succeeded"
    assert results["admitted"].state == "running", "the slot was free by then"
    assert [claimed.id for claimed in answers.claimed] == [results["admitted"].id]
    assert answers.deliveries == 1


def test_what_was_claimed_takes_its_room(prepared: Server, writer: Writer, answers: Answers) -> None:
    room = Room({LANE: 2})
    writer.serve(room)
    write_at_once(writer, *[admit("free", limited=False) for _ in range(3)])
    assert [run.id for run in room.reserved] == [run.id for run in answers.claimed] == [1, 2]


@pytest.mark.parametrize("position", [0, 3, 7])
def test_a_command_that_the_database_refuses_fails_alone(prepared: Server, writer: Writer, position: int) -> None:
    taken = admit()
    prepared.admit(taken)
    results: dict[int, Any] = {}
    commands = [admit(key=f"k{n}", done=partial(results.__setitem__, n)) for n in range(8)]
    commands[position] = admit(uuid=taken.run.uuid, done=partial(results.__setitem__, position))
    write_at_once(writer, *commands)
    assert isinstance(results[position], StoreError)
    assert [results[n].outcome for n in range(8) if n != position] == [Outcome.ADMITTED] * 7
    assert prepared.count("runs") == 8
    assert prepared.count("requests") == 8


def test_a_command_that_cannot_even_be_put_into_words_fails_alone(
    prepared: Server, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    results: list[Any] = []
    write_at_once(
        writer, admit(done=results.append), note(results.append, note="lone \ud800"), admit(done=results.append),
        note(results.append),
    )  # fmt: skip
    assert sum(isinstance(result, StoreError) for result in results) == 1
    assert len(results) == 4
    assert (prepared.count("runs"), prepared.count("requests")) == (2, 3)


def test_a_record_that_the_database_refuses_fails_alone(prepared: Server, writer: Writer) -> None:
    one, two = prepared.begin(*[admit("free", limited=False) for _ in range(2)])
    results: list[Recorded] = []
    bad = step(one, "bad")
    bad[8] = None
    write_at_once(
        writer,
        RecordSteps([step(one, "a"), bad, step(two, "b")], results.append),
        RecordSteps([step(two, "c")], results.append),
    )
    (failed,) = [result for result in results if result.error is not None]
    assert failed.messages == [bad]
    assert sum(len(result.messages) for result in results) == 4
    assert {row["identity"] for row in prepared.rows("SELECT identity FROM steps")} == {"a", "b", "c"}


def test_a_bad_end_or_loss_fails_alone(prepared: Server, writer: Writer) -> None:
    runs = prepared.begin(*[admit("free", limited=False) for _ in range(4)])
    ends: list[Any] = []
    losses: list[Any] = []
    unwritable: Any = {"\ud800"}
    write_at_once(
        writer,
        FinishRuns([finished(runs[0]), finished(runs[1], result=unwritable)], ends.append),
        LoseRuns([[runs[2].id, 1, 0, unwritable], [runs[3].id, 1, 0, None]], losses.append),
    )
    for results, good in ((ends, runs[0]), (losses, runs[3])):
        assert sum(isinstance(result, StoreError) for result in results) == 1
        assert [[end.id for end in result] for result in results if not isinstance(result, StoreError)] == [[good.id]]


def test_a_claim_that_failed_for_want_of_disk_is_tried_again(
    prepared: Server, writer: Writer, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else may have anything to write, so the writer must come back by itself."""
    monkeypatch.setattr(writer_module, "RETRY_PAUSE", 0.01)
    (decision,) = prepared.admit(admit())
    writer.submit(Start(ignore))
    writer.start()
    try:
        assert answers.arrived.wait(60)
        answers.arrived.clear()
        writer.serve(room := Room(failures=2))
        assert answers.arrived.wait(60)
    finally:
        writer.stop()
    assert [run.id for run in room.reserved] == [decision.id]


def test_time_never_goes_back_within_the_ledger(prepared: Server, answers: Answers) -> None:
    for _ in range(3):
        prepared.clock.advance(-3600 * SECOND)
        write_at_once(Writer(prepared.connection, prepared.clock, 1, answers), note(), admit())
    times = [row["at"] for row in prepared.rows("SELECT at FROM requests ORDER BY id")]
    assert times == sorted(times)
    assert len(set(times)) == 3


def test_stopping_writes_what_was_submitted_and_takes_no_more(prepared: Server, writer: Writer) -> None:
    decisions: list[Any] = []
    write_at_once(writer, *[admit(done=decisions.append) for _ in range(10)])
    assert len(decisions) == 10
    with pytest.raises(PullcordRuntimeError, match="closed"):
        writer.submit(admit())
    writer.nudge()


# --- through the store, on an event loop -----------------------------------------------------------------------------


async def test_many_callers_are_answered_each_with_their_own(store: Store) -> None:
    commands = [admit(ledger={"note": str(n)}) for n in range(200)]

    async def ask(number: int) -> Any:
        return await store.write(lambda done: admit(uuid=commands[number].run.uuid, done=done))

    decisions = await asyncio.gather(*[ask(number) for number in range(200)])
    assert [decision.run_uuid for decision in decisions] == [command.run.uuid for command in commands]
    assert store.commits < 200


async def test_a_refusal_of_the_database_reaches_its_caller_as_a_store_error(store: Store) -> None:
    first = await store.write(lambda done: admit(done=done))
    with pytest.raises(StoreError):
        await store.write(lambda done: admit(uuid=first.run_uuid, done=done))
    assert (await store.write(lambda done: admit(done=done))).outcome is Outcome.ADMITTED


async def test_a_caller_who_went_away_disturbs_nobody(store: Store) -> None:
    tasks = [asyncio.create_task(store.write(lambda done: admit(done=done))) for _ in range(10)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [True, False] * 5
    page = await store.read(list_runs, RunFilter(), Page())
    assert len(page["items"]) == 10, "it was asked for, so it is there"


async def test_one_callback_that_fails_keeps_no_answer_from_the_others(store: Store) -> None:
    loop = asyncio.get_running_loop()
    noticed: list[Any] = []
    loop.set_exception_handler(lambda _, context: noticed.append(context["exception"]))
    answered: asyncio.Future[Any] = loop.create_future()

    def fail(_: Any) -> None:
        raise RuntimeError("a bad callback")

    blocker = threading.Event()
    store.serve(Blocking(blocker), lambda _: None)
    store.submit(note(fail))
    store.submit(note(answered.set_result))
    blocker.set()
    async with asyncio.timeout(60):
        await answered
    assert [str(error) for error in noticed] == ["a bad callback"]


class Blocking(Room):
    """Holds the writer up until an event is set, so that what is submitted meanwhile becomes one batch."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__({})
        self._event = event

    def room(self) -> Mapping[str, int]:
        assert self._event.wait(60)
        return {}


async def test_what_arrives_during_a_commit_waits_for_the_next(store: Store) -> None:
    blocker = threading.Event()
    store.serve(Blocking(blocker), lambda _: None)
    tasks = [asyncio.create_task(store.write(lambda done: admit(done=done))) for _ in range(100)]
    await asyncio.sleep(0)
    blocker.set()
    await asyncio.gather(*tasks)
    page = await store.read(list_requests, RequestFilter(), Page(limit=100))
    assert len({item["at"] for item in page["items"]}) <= 2, "a commit has one time"


async def test_claimed_runs_are_dispatched_before_their_askers_hear_of_it(prepared: Server, database: Database) -> None:
    prepared.close()
    store = database.store(prepared.clock)
    store.start()
    events: list[str] = []
    store.serve(Room(), lambda runs: events.extend(f"dispatch {run.id}" for run in runs))
    answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def answer(decision: Any) -> None:
        events.append(f"answer {decision.id}")
        answered.set_result(None)

    store.submit(admit(done=answer))
    await answered
    await store.stop()
    assert events == ["dispatch 1", "answer 1"]
    prepared.connection = database.writer()


async def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(StoreReadOnlyError):
        await store.read(lambda connection: connection.execute("DELETE FROM runs"))


async def test_a_query_that_fails_is_a_store_error(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.read(lambda connection: connection.execute("SELECT * FROM nowhere"))


async def test_readers_work_at_the_same_time(store: Store) -> None:
    barrier = threading.Barrier(3)

    def meet(_: Connection) -> int:
        return barrier.wait(60)

    assert sorted(await asyncio.gather(*[store.read(meet) for _ in range(3)])) == [0, 1, 2]


async def test_nothing_works_before_the_start_or_after_the_stop(database: Database, clock: DrivenClock) -> None:
    store = database.store(clock)
    with pytest.raises(PullcordRuntimeError):
        await store.read(lambda _: None)
    store.start()
    assert await store.write(lambda done: note(done, uuid="u")) == "u"
    await store.stop()
    with pytest.raises(PullcordRuntimeError):
        await store.write(lambda done: note(done))
    with pytest.raises(PullcordRuntimeError):
        await store.read(lambda _: None)


async def test_every_start_is_another_incarnation(database: Database, clock: DrivenClock) -> None:
    owners: list[int] = []
    floors: list[int] = []
    for _ in range(3):
        store = database.store(clock)
        store.start()
        owners.append(store.owner)
        floors.append(store.floor)
        await store.write(lambda done: admit(done=done))
        await store.stop()
    assert owners == [1, 2, 3]
    assert floors == [0, 1, 2]
