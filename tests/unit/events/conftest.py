"""Real counterparts for events."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

import pullcord as pc
from tests.unit.events.site import Site, served


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
