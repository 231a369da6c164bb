"""What only PostgreSQL has: a server that goes away in mid-sentence, others on the same database, notifications."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from uuid_utils import uuid7

from pullcord.core.errors import (
    StoreError,
    StoreLockedError,
    StoreReadOnlyError,
    StoreVersionError,
    UsageError,
)
from pullcord.store import postgres
from pullcord.store import store as store_module
from pullcord.store.commands.claim import Claimed
from pullcord.store.commands.journal import FinishRuns
from pullcord.store.commands.lifecycle import Start
from pullcord.store.commands.probe import Probe
from pullcord.store.database import database_of
from pullcord.store.hints import Hints
from pullcord.store.listener import Listener
from pullcord.store.migrate import HEAD
from pullcord.store.notification import hints_of, notification
from pullcord.store.postgres import PostgresDatabase, PostgresWriter
from pullcord.store.queries.runs import load_runs
from pullcord.store.store import Store
from pullcord.store.transaction import ignore
from tests.postgres import FAST, PostgresServer
from tests.store.conftest import Servers
from tests.store.harness import LANE, ROOM, DrivenClock, PostgresTestDatabase, Server, admit, finished, spec
from tests.system.processes import poll

T = TypeVar("T")


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server that these tests may stop."""
    server = PostgresServer("wheel", FAST)
    yield server
    server.remove()


@pytest.fixture
def database(tmp_path: Path, servers: Servers) -> PostgresTestDatabase:
    """Make an empty database."""
    return PostgresTestDatabase(tmp_path / "data", servers.empty_database("wheel"))


@pytest.fixture
async def store(database: PostgresTestDatabase, clock: DrivenClock) -> AsyncIterator[Store]:
    """Open a store with its writer's thread and its listener."""
    store = await opened(database, clock)
    yield store
    await store.stop()


async def opened(database: PostgresTestDatabase, clock: DrivenClock) -> Store:
    """Open a store, and wait for the commit that the arrival of its listener causes: tests break the next one."""
    store = database.store(clock)
    store.start()
    listener = store._listener
    assert listener is not None
    await asyncio.to_thread(poll, lambda: listener._connection is not None)
    await store.write(Probe)  # what the listener has said is in the queue before it
    return store


async def soon(what: Awaitable[T]) -> T:
    """Wait for what comes unless something is broken."""
    async with asyncio.timeout(60):
        return await what


def sabotage(url: str, *, but: int = 0) -> None:
    """End all connections to a database but one, as a restart of the server does."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), %s)",
            [but],
        )


# --- one server a database -------------------------------------------------------------------------------------------


def test_a_second_server_is_refused_and_told_who_is_there(
    database: PostgresTestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = database.writer()
    with (
        monkeypatch.context() as impatient,
        pytest.raises(StoreLockedError, match=r"in use by another Pullcord \(process \d+ on .+\); stop it"),
    ):
        impatient.setattr(postgres, "LOCK_PATIENCE", 0)
        database.writer()
    first.close()
    database.writer().close()


def test_another_schema_is_another_database(database: PostgresTestDatabase) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS other CASCADE")
        connection.execute("CREATE SCHEMA other")
    first = database.writer()
    second = PostgresDatabase(f"{database.url}&options=-csearch_path%3Dother").writer()
    assert second.execute("SELECT count(*) FROM runs").fetchone() == (0,)
    assert second.execute("SELECT version_num FROM alembic_version").fetchone() == (HEAD,)
    first.close()
    second.close()


def test_a_schema_of_a_newer_version_is_refused(database: PostgresTestDatabase) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        try:
            with pytest.raises(StoreVersionError, match="schema 9999, written by a newer Pullcord"):
                database.writer()
        finally:
            connection.execute("UPDATE alembic_version SET version_num = %s", [HEAD])


# --- addresses -------------------------------------------------------------------------------------------------------


def test_other_addresses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must begin with postgresql://"):
        database_of(tmp_path, "mysql://somewhere/pullcord")


@pytest.mark.parametrize(
    ("old", "new", "kind", "message"),
    [
        ("@/p1?", "@/missing?", StoreError, "look at PULLCORD_DATABASE_URL .+ does not exist"),
        ("pullcord@", "stranger@", StoreError, "look at PULLCORD_DATABASE_URL .+ does not exist"),
        ("?host=", "?host=/nowhere", StoreError, "PostgreSQL cannot be reached"),
        ("?", "?options=-cdefault_transaction_read_only%3Don&", StoreReadOnlyError, "connect to the primary server"),
    ],
)
def test_an_address_that_does_not_work_says_what_to_do(
    database: PostgresTestDatabase, old: str, new: str, kind: type[StoreError], message: str
) -> None:
    assert old in database.url
    with pytest.raises(kind, match=message):
        PostgresDatabase(database.url.replace(old, new)).writer()


# --- a server that goes away -----------------------------------------------------------------------------------------


async def test_writing_goes_on_after_the_connection_broke(database: PostgresTestDatabase, store: Store) -> None:
    first = await store.write(lambda done: admit(done=done))
    sabotage(database.url)
    second = await store.write(lambda done: admit(done=done))
    assert len(await store.read(load_runs, [first.run_uuid, second.run_uuid])) == 2


async def test_reading_goes_on_after_the_connection_broke(database: PostgresTestDatabase, store: Store) -> None:
    decision = await store.write(lambda done: admit(done=done))
    await store.read(load_runs, [decision.run_uuid])
    sabotage(database.url)
    assert await store.read(load_runs, [decision.run_uuid])


class Cut(psycopg.OperationalError):
    """The connection broke."""


async def test_a_commit_whose_answer_was_lost_is_found_out(
    database: PostgresTestDatabase, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has committed, and the connection broke before it could say so."""
    whole = postgres.PostgresConnection.commit

    def commit(self: Any) -> None:
        whole(self)
        monkeypatch.undo()
        self.close()
        raise Cut("server closed the connection unexpectedly")

    monkeypatch.setattr(postgres.PostgresConnection, "commit", commit)
    decision = await store.write(lambda done: admit(done=done))
    assert await store.read(load_runs, [decision.run_uuid])
    assert (await store.write(lambda done: admit(done=done))).id == decision.id + 1


async def test_a_commit_that_never_came_is_found_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection broke before the server heard of the commit."""

    def commit(self: Any) -> None:
        monkeypatch.undo()
        self.close()
        raise Cut("server closed the connection unexpectedly")

    monkeypatch.setattr(postgres.PostgresConnection, "commit", commit)
    run = str(uuid7())
    with pytest.raises(StoreError, match="lost before this was written; ask again"):
        await store.write(lambda done: admit(uuid=run, done=done))
    assert await store.read(load_runs, [run]) == {}
    assert (await store.write(lambda done: admit(uuid=run, done=done))).run_uuid == run


async def test_a_commit_that_a_crash_undid_is_not_taken_for_a_strangers(
    postgres_server: PostgresServer, tmp_path: Path, clock: DrivenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash PostgreSQL gives the number of a transaction that left no trace to another one."""
    url = postgres_server.url(postgres_server.create())
    store = PostgresTestDatabase(tmp_path, url).store(clock)
    store.start()
    await store.write(lambda done: admit(done=done))
    run = str(uuid7())
    whole = postgres.PostgresConnection.commit

    def commit(self: Any) -> None:
        if self.execute("SELECT id FROM runs WHERE uuid = :run", {"run": run}).fetchone() is None:
            return whole(self)
        monkeypatch.undo()
        self.close()
        postgres_server.stop("immediate")
        postgres_server.start()
        with postgres_server.administrator() as stranger:
            for _ in range(20):
                stranger.execute("SELECT pg_current_xact_id()")
        raise Cut("server closed the connection unexpectedly")

    monkeypatch.setattr(postgres.PostgresConnection, "commit", commit)
    try:
        with pytest.raises(StoreError, match="lost before this was written; ask again"):
            await store.write(lambda done: admit(uuid=run, done=done))
        assert await store.read(load_runs, [run]) == {}
        assert (await store.write(lambda done: admit(uuid=run, done=done))).run_uuid == run
    finally:
        await store.stop()


class Away:
    """A server that goes away over a commit that it has made, and comes back when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patched = monkeypatch
        whole = postgres.PostgresConnection.commit

        def commit(connection: Any) -> None:
            whole(connection)
            connection.close()
            raise Cut("server closed the connection unexpectedly")

        def reconnect(_: Any) -> None:
            raise Cut("connection refused")

        monkeypatch.setattr(PostgresWriter, "_reconnect", reconnect)
        monkeypatch.setattr(postgres.PostgresConnection, "commit", commit)

    def come_back(self) -> None:
        """Answer again."""
        self._patched.undo()


async def test_while_a_commit_is_in_doubt_others_are_refused_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(monkeypatch)
    doubtful = asyncio.ensure_future(store.write(lambda done: admit(done=done)))
    await in_doubt(store)
    with pytest.raises(StoreError, match="PostgreSQL cannot be reached"):
        await store.write(lambda done: admit(done=done))
    assert not doubtful.done(), "nobody knows what became of the first"
    away.come_back()
    decision = await soon(doubtful)
    assert await store.read(load_runs, [decision.run_uuid])


async def in_doubt(store: Store) -> None:
    """Wait until the writer does not know what became of a commit."""
    await asyncio.to_thread(poll, lambda: store._writer._doubtful is not None)


async def test_runs_that_were_claimed_in_doubt_are_dispatched(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    dispatched: asyncio.Queue[Any] = asyncio.Queue()
    await store.write(Start)
    store.serve(Room(), lambda claimed: dispatched.put_nowait([run.id for run in claimed]))
    await store.write(lambda done: admit("free", limited=False, not_before=2**60, done=done))
    away = Away(monkeypatch)
    doubtful = asyncio.ensure_future(store.write(lambda done: admit("free", limited=False, done=done)))
    await in_doubt(store)
    away.come_back()
    assert await soon(dispatched.get()) == [(await soon(doubtful)).id]


async def test_a_server_that_stops_in_doubt_says_so(
    database: PostgresTestDatabase, clock: DrivenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(database, clock)
    away = Away(monkeypatch)
    doubtful = asyncio.ensure_future(store.write(lambda done: admit(done=done)))
    await in_doubt(store)
    await store.stop()
    with pytest.raises(StoreError, match="stopped before the database could say"):
        await soon(doubtful)
    away.come_back()


def test_the_place_of_a_connection_that_postgresql_believes_in_is_waited_for(
    database: PostgresTestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own dead session still holds the lock: that is no other server."""
    writer = database.writer()
    assert isinstance(writer, PostgresWriter)
    monkeypatch.setattr(postgres, "LOCK_PATIENCE", 0)
    old, writer._connection = writer._connection, writer._connect()
    with pytest.raises(StoreError, match="has not noticed yet"):
        writer._reconnect()
    old.close()
    poll(lambda: comes_back(writer))
    writer.close()


def comes_back(writer: PostgresWriter) -> bool:
    """Try to reconnect."""
    with contextlib.suppress(StoreError):
        writer._reconnect()
        return True
    return False


async def test_a_store_stops_although_postgresql_does_not_answer(
    postgres_server: PostgresServer, tmp_path: Path, clock: DrivenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "STOP_PATIENCE", 0.1)
    store = PostgresTestDatabase(tmp_path, postgres_server.url(postgres_server.create())).store(clock)
    store.start()
    await store.read(load_runs, [])
    with postgres_server.frozen():
        asking = asyncio.ensure_future(store.write(lambda done: admit(done=done)))
        reading = asyncio.ensure_future(store.read(load_runs, []))
        await asyncio.sleep(0)
        await store.stop()
    results = await asyncio.gather(asking, reading, return_exceptions=True)
    assert [type(result) for result in results] == [StoreError, StoreError]


async def test_what_a_worker_reported_waits_for_the_server(
    postgres_server: PostgresServer, tmp_path: Path, clock: DrivenClock
) -> None:
    """A result is not lost because the database is away when it comes."""
    database = PostgresTestDatabase(tmp_path, postgres_server.url(postgres_server.create()))
    server = Server(database, clock)
    server.register(spec("f"))
    (run,) = server.begin(admit())
    server.close()
    store = database.store(clock)
    store.start()
    try:
        postgres_server.stop("immediate")
        ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        store.submit(FinishRuns([finished(run)], ended.set_result))
        with pytest.raises(StoreError, match="PostgreSQL cannot be reached"):
            await store.write(lambda done: admit(done=done))
        assert not ended.done()
        postgres_server.start()
        assert [end.state for end in await soon(ended)] == ["succeeded"]
    finally:
        await store.stop()


def test_a_server_that_lost_its_place_does_not_come_back(database: PostgresTestDatabase) -> None:
    first = PostgresDatabase(database.url).writer()
    sabotage(database.url)
    database.writer().close()
    with pytest.raises(StoreLockedError, match=r"another Pullcord .+ has used the database since"):
        first.begin()


# --- slots -----------------------------------------------------------------------------------------------------------


def test_two_transactions_do_not_count_the_same_free_slot(database: PostgresTestDatabase, clock: DrivenClock) -> None:
    """The second waits at the slot's row until the first has committed, and then counts what it took (rule 8)."""
    server = Server(database, clock)
    server.register(spec("f", 1))
    server.admit(admit(), admit())
    other = PostgresWriterWithoutLock(database.url)
    rival = Server.__new__(Server)
    rival.connection, rival.clock, rival.owner, rival.hints = other, DrivenClock(), 2, Hints(fresh={"f": LANE})
    claimed: list[list[Claimed]] = []
    server.connection.begin()
    server.connection.lock("SELECT key FROM slots WHERE key = 'f' FOR UPDATE")
    thread = threading.Thread(target=lambda: claimed.append(rival.claim()))
    thread.start()
    with psycopg.connect(database.url, autocommit=True) as watcher:
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while watcher.execute(waiting).fetchone() == (0,):
            assert thread.is_alive(), "it did not wait for the slot"
    server.connection.execute("UPDATE runs SET state = 'running' WHERE id = 1")
    server.connection.commit()
    thread.join()
    assert claimed == [[]]
    other.close()
    server.close()


class PostgresWriterWithoutLock(PostgresWriter):
    """A second writer, as several servers on one database will have."""

    def _take_lock(self) -> None:
        """Share the database."""


# --- notifications ---------------------------------------------------------------------------------------------------


class Heard:
    """Collects notifications."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[str] = asyncio.Queue()

    def __call__(self, payload: str) -> None:
        self.said.put_nowait(payload)


async def test_a_listener_hears_and_comes_back_after_a_break(database: PostgresTestDatabase) -> None:
    heard = Heard()
    listener = Listener(database.url, heard)
    listener.start()
    try:
        assert await soon(heard.said.get()) == "", "something may have been said before it listened"
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute("SELECT pg_notify('pullcord', 'one'), pg_notify('pullcord', 'two')")
        assert [await soon(heard.said.get()), await soon(heard.said.get())] == ["one", "two"]
        sabotage(database.url)
        assert await soon(heard.said.get()) == "", "or while it was away"
    finally:
        await listener.stop()


class Room:
    """A claimant with room."""

    floor = 0

    def room(self) -> Any:
        return ROOM

    def reserve(self, claimed: Any) -> None:
        """Have room for ever."""


async def test_a_notification_wakes_the_writer(database: PostgresTestDatabase, store: Store) -> None:
    """What another writer made claimable is claimed without anything else happening here."""
    dispatched: asyncio.Queue[Any] = asyncio.Queue()
    await store.write(lambda done: Start(done))
    store.serve(Room(), lambda claimed: dispatched.put_nowait([run.id for run in claimed]))
    decision = await store.write(lambda done: admit("free", limited=False, not_before=2**60, done=done))
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("UPDATE runs SET state = 'queued', not_before = NULL")
        connection.execute("SELECT pg_notify('pullcord', %s)", [json.dumps({"owner": 0, "lanes": [LANE], "slots": []})])
    assert await soon(dispatched.get()) == [decision.id]


async def test_the_writer_says_what_it_has_no_room_for(database: PostgresTestDatabase, store: Store) -> None:
    class Full(Room):
        def room(self) -> Any:
            return {LANE: 0}

    heard = Heard()
    listener = Listener(database.url, heard)
    listener.start()
    try:
        assert await soon(heard.said.get()) == ""
        await store.write(lambda done: Start(done))
        store.serve(Full(), ignore)
        await store.write(lambda done: admit("free", limited=False, done=done))
        told = {"owner": store.owner, "lanes": [LANE], "slots": [], "groups": []}
        assert json.loads(await soon(heard.said.get())) == told
    finally:
        await listener.stop()


def test_what_is_told_is_understood() -> None:
    assert hints_of(notification(1, {"l"}, [("l", "s")], {"g"}), 2) == Hints(
        lanes={"l"}, fresh={"s": "l"}, released={"g"}
    )
    assert hints_of(notification(1, {"l"}, [], set()), 1) is None, "one's own words"


@pytest.mark.parametrize(
    "payload", ["", "{", "[]", "null", '{"owner": 1}', '{"owner": 1, "lanes": 3, "slots": []}', "\N{SNOWMAN}"]
)
def test_what_is_not_understood_says_to_look_everywhere(payload: str) -> None:
    assert hints_of(payload, 2) == Hints(anything=True)


def test_too_much_to_tell_is_told_in_short() -> None:
    told = notification(1, set(), [("lane", f"slot-{number}") for number in range(2000)], set())
    assert len(told.encode()) < 8000
    assert hints_of(told, 2) == Hints(anything=True)


def test_a_user_who_may_not_make_tables_is_told(postgres_server: PostgresServer) -> None:
    url = postgres_server.url(postgres_server.create())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS poor")
        connection.execute("CREATE ROLE poor LOGIN")
    with pytest.raises(StoreReadOnlyError, match="GRANT CREATE ON SCHEMA"):
        PostgresDatabase(url.replace("pullcord@", "poor@")).writer()


def test_a_query_that_takes_too_long_says_so(database: PostgresTestDatabase) -> None:
    reader = database.reader()
    reader.execute("SET statement_timeout = 1")
    with pytest.raises(psycopg.Error) as cancelled:
        reader.execute("SELECT pg_sleep(10)")
    failure = reader.failure(cancelled.value)
    assert failure is not None and "took too long" in failure.error.message
    reader.close()
