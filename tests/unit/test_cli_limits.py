"""`pullcord limits`: what it shows of limits, and what it takes as one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pullcord.cli.limits import app as limits
from pullcord.client import Client
from tests.api.server import Server

CROWDED = Path(__file__).parent.parent / "api" / "crowded"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("limits") / "data", CROWDED) as running:
        yield running


@pytest.fixture(autouse=True)
def found(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the commands find the server."""
    monkeypatch.setenv("PULLCORD_URL", server.url)
    monkeypatch.setenv("PULLCORD_API_KEY", server.token)


def said(*arguments: str) -> str:
    result = CliRunner().invoke(limits, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_limits_are_listed_changed_and_given_back(server: Server) -> None:
    lines = [line.split() for line in said("list").splitlines()]
    assert lines[0] == ["limit", "at", "once", "active", "queued", "for", "each", "said", "by"]
    assert ["each-region", "1", "0", "0", "{region}", "code"] in lines
    assert said("set", "skipping", "4", "--reason", "a test") == (
        "skipping: 4 at once (owner: a test); 0 active, 0 queued\n"
    )
    assert said("set", "skipping", "none") == "skipping: no limit at once (owner); 0 active, 0 queued\n"
    assert said("reset", "skipping") == "skipping: 1 at once (code); 0 active, 0 queued\n"
    with Client(server.url, server.token) as client:
        assert client.limits.get("skipping")["override"] is None


@pytest.mark.parametrize("limit", ["0", "-1", "many", "1.5", "²", str(2**31)])
def test_what_is_no_limit_is_refused(limit: str) -> None:
    result = CliRunner().invoke(limits, ["set", "skipping", "--", limit])
    assert result.exit_code == 2
    assert "a limit is a whole number" in result.output
