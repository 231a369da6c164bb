"""Fixtures of the conformance suite: every test runs over every kind of store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pullcord.store.store import Store
from tests.store.harness import KINDS, Database, DrivenClock, Server, spec


@pytest.fixture(params=sorted(KINDS))
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """Make an empty database."""
    return KINDS[request.param](tmp_path / "data")


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
