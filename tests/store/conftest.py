"""Fixtures of the conformance suite: every test runs over every kind of store."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from pullcord.store import postgres
from pullcord.store.store import Store
from tests.postgres import FAST, PostgresServer
from tests.store.harness import KINDS, Database, DrivenClock, PostgresTestDatabase, Server, SQLiteDatabase, spec


class Servers:
    """PostgreSQL servers, started when the first test wants one."""

    def __init__(self) -> None:
        self._servers: dict[str, tuple[PostgresServer, str]] = {}

    def empty_database(self, kind: str) -> str:
        """Return the address of a database without rows; the one before it is gone."""
        if kind not in self._servers:
            server = PostgresServer(kind, FAST)
            self._servers[kind] = (server, server.prepare())
        server, name = self._servers[kind]
        server.empty(name)
        return server.url(name)

    def remove(self) -> None:
        for server, _ in self._servers.values():
            server.remove()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Keep the servers for all tests."""
    servers = Servers()
    yield servers
    servers.remove()


@pytest.fixture(autouse=True)
def patient() -> Iterator[None]:
    """Wait longer for the lock of a connection that was closed: on a slow machine PostgreSQL notices it late."""
    with pytest.MonkeyPatch.context() as patched:  # of its own: some tests undo what they have patched half-way
        patched.setattr(postgres, "LOCK_PATIENCE", 60.0)
        yield


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Say which kind of store it is."""
    kind: str = request.param
    return kind


@pytest.fixture
def empty(kind: str, tmp_path: Path, servers: Servers) -> Callable[[], Database]:
    """Make empty databases of a kind; the one before is gone or left behind."""
    numbers = itertools.count(1)

    def make_empty() -> Database:
        if kind == "sqlite":
            return SQLiteDatabase(tmp_path / f"data{next(numbers)}")
        return PostgresTestDatabase(tmp_path / "data", servers.empty_database(kind.removeprefix("postgres-")))

    return make_empty


@pytest.fixture
def database(empty: Callable[[], Database]) -> Database:
    """Make an empty database."""
    return empty()


@pytest.fixture
def clock() -> DrivenClock:
    """Make a clock that the test moves."""
    return DrivenClock()


@pytest.fixture
def server(database: Database, clock: DrivenClock) -> Iterator[Server]:
    """Start a server with three flows: `f` and `g` one run at a time, `free` without a limit."""
    server = Server(database, clock)
    server.register(spec("f"), spec("g"), spec("free", None))
    yield server
    server.close()


@pytest.fixture
async def store(database: Database, clock: DrivenClock) -> AsyncIterator[Store]:
    """Open a store with its writer's thread."""
    store = database.store(clock)
    store.start()
    yield store
    await store.stop()
