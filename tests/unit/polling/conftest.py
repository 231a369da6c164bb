"""Workers for the tests, ended after each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.polling.harness import ServerEnd


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ServerEnd]]:
    """Start workers for code."""
    started: list[ServerEnd] = []

    def start(code: str, role: str = "control") -> ServerEnd:
        started.append(ServerEnd(tmp_path, code, role))
        return started[-1]

    yield start
    for end in started:
        end.close()
