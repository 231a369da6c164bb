"""What the system tests share: servers that are gone after their test, and places to meet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pullcord
from tests.system.harness import Server, Start
from tests.system.meeting import Meeting

PACKAGE = str(pullcord.__path__[0])
LINKED = "/lib/pullcord/"
"""How workers see the package: through the link in their data folder."""


@pytest.fixture
def serve(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Start]:
    servers: list[Server] = []

    def start(*flows: Path, data_dir: Path | None = None, started: bool = True, **how: Any) -> Server:
        server = Server(data_dir or tmp_path / "data", *flows, **how)
        servers.append(server)
        if started:
            server.start()
        return server

    yield start
    for server in servers:
        server.clean_up()
        said = server.says if server.log.exists() else ""
        print(f"--- {server.log}\n{said}")
        # A traceback through the server's own code is a bug, whatever the test was about.
        assert PACKAGE not in said, said
        assert LINKED not in said, said


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    with Meeting() as place:
        yield place


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "steps.jsonl"
    path.touch()
    return path
