"""Real counterparts for events."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pullcord as pc
from tests.postgres import FAST, PostgresServer
from tests.unit.events.site import Site, served
from tests.unit.events.tables import Tables
from tests.unit.polling.harness import ServerEnd


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine says about proxies is not for this machine's own addresses."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def site() -> Iterator[Site]:
    with served() as site:
        yield site


@pytest.fixture
def other_site() -> Iterator[Site]:
    with served() as site:
        yield site


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that nobody listens on, and nobody else can take."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def state() -> pc.Cursor:
    return pc.Cursor()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer("wheel", FAST) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def tables(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tables]:
    """A database of each kind, which the test fills."""
    if request.param == "sqlite":
        address = f"sqlite:///{tmp_path / 'orders.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        address = server.url(server.create()).replace("postgresql://", "postgresql+psycopg://")
    tables = Tables(address)
    yield tables
    tables.close()


@pytest.fixture
def serve_code(tmp_path: Path) -> Iterator[Callable[[str], ServerEnd]]:
    """Load code in a worker."""
    ends: list[ServerEnd] = []

    def serve(code: str) -> ServerEnd:
        ends.append(ServerEnd(tmp_path, code))
        return ends[-1]

    yield serve
    for end in ends:
        end.close()
