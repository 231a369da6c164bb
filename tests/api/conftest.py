"""One server for all API tests of a session; each test has flows, keys or a clock reading of its own."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from pullcord.api import exposition, readiness
from tests.api.server import PATIENCE, Api, Hold, Server


@pytest.fixture(scope="module", autouse=True)
def patient() -> Iterator[None]:
    """Servers wait for their stores: on a slow machine two seconds are no sign of one that hangs.

    For one module at a time: the reference, which other tests compare, names these figures.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readiness, "PATIENCE", PATIENCE)
        patch.setattr(exposition, "PATIENCE", PATIENCE)
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server with the flows of `flows/`."""
    with Server(tmp_path_factory.mktemp("api") / "data") as running:
        yield running


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    """A client with the owner's token."""
    with server.client() as client:
        yield client


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Where flows report and wait."""
    held = Hold()
    yield held
    held.close()


@pytest.fixture
def key() -> str:
    """An idempotency key that nobody else has."""
    return f"key-{uuid4()}"
