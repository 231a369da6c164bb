"""Kinds of triggers that other packages bring: one that fails stops no other."""

from __future__ import annotations

import sqlite3
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import pullcord as pc

KINDS = """
calls = []


class Good:
    kind = "good"

    def init(self, deps):
        self.scheduler = deps["scheduler"]
        calls.append("init")

    def start(self):
        calls.append("start")

    async def stop(self):
        calls.append("stop")

    def routes(self):
        return ["/good"]


class BadInit(Good):
    def init(self, deps):
        raise RuntimeError("no init")


class BadStart(Good):
    def start(self):
        raise RuntimeError("no start")


class BadStop(Good):
    def stop(self):
        raise RuntimeError("no stop")


class BadStopLater(Good):
    async def stop(self):
        raise RuntimeError("no stop later")


class BadRoutes(Good):
    def routes(self):
        raise RuntimeError("no routes")


class BadMaking(Good):
    def __init__(self):
        raise RuntimeError("no kind")
"""
POINTS = """
[pullcord.triggers]
bad-init = outside_kinds:BadInit
bad-making = outside_kinds:BadMaking
bad-routes = outside_kinds:BadRoutes
bad-start = outside_kinds:BadStart
bad-stop = outside_kinds:BadStop
bad-stop-later = outside_kinds:BadStopLater
events = outside_kinds:Good
good = outside_kinds:Good
missing = outside_kinds:Missing
nowhere = outside_kinds_nowhere:Good
"""
FLOWS = """
import pullcord as pc


@pc.flow(concurrency=None)
def work() -> None:
    return None


@pc.event(flow=work, every="50ms")
def inbox(cursor: pc.Cursor):
    if cursor.value:
        return pc.Skip("done")
    cursor.value = True
    return pc.Fire()
"""


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    """Write a flow with an event."""
    flows = tmp_path / "flows.py"
    flows.write_text(FLOWS)
    return flows


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package that brings kinds."""
    folder = tmp_path / "site"
    about = folder / "outside_kinds-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-kinds\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(textwrap.dedent(POINTS))
    (folder / "outside_kinds.py").write_text(KINDS)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "outside_kinds", raising=False)


async def test_a_kind_that_fails_is_told_and_stops_no_other(installed: None, flows: Path, tmp_path: Path) -> None:
    app = pc.App([flows], tmp_path / "data", workers=1)
    async with app:
        import outside_kinds  # type: ignore[import-not-found]

        calls: list[str] = outside_kinds.calls
        assert calls.count("start") == 4, "good, and those that fail later"
        routes: list[Any] = app.kinds.routes()
        assert routes.count("/good") == 3
        await app.ready()
        run = await app.run("work", wait=True)
        assert run.state == "succeeded"
        told = dict(app.kinds.failures)
    assert app.kinds.failures.keys() - told.keys() == {"bad-stop", "bad-stop-later"}
    assert calls.count("stop") == 2, "good, and the one whose routes fail"
    assert told.keys() == {"bad-init", "bad-making", "bad-routes", "bad-start", "events", "missing", "nowhere"}
    assert told["bad-init"] == "it could not be set up: RuntimeError: no init"
    assert told["bad-start"] == "it could not be started: RuntimeError: no start"
    assert told["bad-routes"] == "it could not be asked for its routes: RuntimeError: no routes"
    assert "there is a kind 'events' already" in told["events"]
    assert app.kinds.failures["bad-stop-later"] == "it could not be stopped: RuntimeError: no stop later"


async def test_a_trigger_of_a_kind_that_is_gone_keeps_no_server_from_starting(flows: Path, tmp_path: Path) -> None:
    async with pc.App([flows], tmp_path / "data", workers=1) as app:
        await app.ready()
        await app.registry.wait_ready()
        assert app.triggers.get("inbox")["kind"] == "event", "the code says what it is"
    with closing(sqlite3.connect(tmp_path / "data" / "pullcord.db")) as db, db:
        db.execute("UPDATE triggers SET kind = 'martian'")
    async with pc.App([flows], tmp_path / "data", workers=1) as app:
        await app.ready()
        await app.registry.wait_ready()
        assert app.triggers.get("inbox")["kind"] == "event", "the code says what it is"
