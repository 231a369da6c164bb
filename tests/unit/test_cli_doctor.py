"""`pullcord doctor --deep`: beside a server and without one, for people and for programs."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import pullcord as pc
from pullcord.cli.deep import LOGS
from pullcord.cli.main import app

runner = CliRunner()


FLOWS = """
import pullcord as pc

@pc.flow
def greet() -> str:
    return "hello"
"""


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("PULLCORD_"):
            monkeypatch.delenv(name)


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """Make a data folder with two ended runs."""
    Path("flows.py").write_text(FLOWS)
    async with pc.App(["flows.py"], tmp_path / "data", workers=1) as server:
        for _ in range(2):
            await server.run("greet", wait=True)
    return tmp_path / "data"


def deep(data_dir: Path) -> tuple[int, dict[str, Any]]:
    done = runner.invoke(app, ["doctor", "--deep", "--json", "--data-dir", str(data_dir)])
    return done.exit_code, json.loads(done.stdout)


@pytest.fixture
def damaged(data: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(data / "pullcord.db", isolation_level=None)) as connection:
        yield connection


def test_a_sound_store_keeps_every_rule(data: Path) -> None:
    status, answer = deep(data)
    assert (status, answer["healthy"]) == (0, True)
    assert {verdict["state"] for verdict in answer["invariants"]} == {"ok"}
    assert [it["rule"] for it in answer["invariants"]] == sorted(it["rule"] for it in answer["invariants"])
    found = {verdict["name"]: verdict["checked"] for verdict in answer["invariants"]}
    assert found["every admitted request has its run"] == 2


async def test_it_works_beside_a_server(data: Path) -> None:
    async with pc.App(["flows.py"], data, workers=1) as server:
        await server.run("greet", wait=True)
        status, answer = deep(data)
    assert status == 0
    assert next(it["checked"] for it in answer["invariants"] if it["rule"] == 1) == 3


def test_without_deep_no_rule_is_checked(data: Path) -> None:
    done = runner.invoke(app, ["doctor", "--json", "--data-dir", str(data)])
    assert "invariants" not in json.loads(done.stdout)


def test_what_is_broken_is_a_finding_with_advice_and_exit_status_1(data: Path, damaged: sqlite3.Connection) -> None:
    damaged.execute("UPDATE runs SET ended_at = NULL")
    status, answer = deep(data)
    assert (status, answer["healthy"]) == (1, False)
    (finding,) = [finding for finding in answer["findings"] if finding["state"] == "wrong"]
    assert finding["name"] == "rule 8"
    assert "a run has an end when it has ended: run " in finding["text"]
    assert finding["advice"]
    shown = runner.invoke(app, ["doctor", "--deep", "--data-dir", str(data)])
    assert shown.exit_code == 1
    assert "2 break it" in shown.stdout and "1 thing is wrong" in shown.stdout


def test_a_note_leaves_the_exit_status_alone(data: Path, damaged: sqlite3.Connection) -> None:
    damaged.execute("UPDATE runs SET ended_at = 1")
    status, answer = deep(data)
    assert (status, answer["healthy"]) == (0, True)
    assert "rule 8" in {finding["name"] for finding in answer["findings"] if finding["state"] == "note"}


def test_a_log_without_a_run_is_a_note(data: Path) -> None:
    (data / "logs" / "01a1fc").mkdir(parents=True)
    (data / "logs" / "01a1fc" / "01a1fc24-42c6-7152-a07f-0fa50dd7491b.jsonl").touch()
    status, answer = deep(data)
    (verdict,) = [verdict for verdict in answer["invariants"] if verdict["name"] == LOGS]
    assert (status, verdict["state"], verdict["broken"]) == (0, "note", 1)


def test_an_index_that_lacks_a_row_is_found(data: Path, damaged: sqlite3.Connection) -> None:
    damaged.execute("PRAGMA writable_schema = ON")
    damaged.execute(
        "UPDATE sqlite_master SET sql = 'CREATE INDEX requests_flow ON requests (uuid)' WHERE name = 'requests_flow'"
    )
    status, answer = deep(data)
    assert status == 1
    assert "damaged" in next(it["text"] for it in answer["findings"] if it["name"] == "database")


def test_where_there_is_no_database_nothing_is_checked(tmp_path: Path) -> None:
    status, answer = deep(tmp_path / "nothing")
    assert (status, answer["invariants"]) == (0, [])


def test_a_database_of_another_schema_is_not_judged_by_these_rules(data: Path, damaged: sqlite3.Connection) -> None:
    damaged.execute("UPDATE alembic_version SET version_num = '0000'")
    assert deep(data)[1]["invariants"] == []


def test_rules_that_cannot_be_checked_are_wrong(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "pullcord.db").write_text("this is no database")
    status, answer = deep(tmp_path / "data")
    assert (status, answer["invariants"]) == (1, [])
    assert {it["name"] for it in answer["findings"] if it["state"] == "wrong"} == {"database", "rules"}


def test_a_server_elsewhere_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULLCORD_URL", "http://127.0.0.1:9")
    answer = json.loads(runner.invoke(app, ["doctor", "--deep", "--json"]).stdout)
    assert answer["invariants"] == []
    assert "elsewhere" in next(it["text"] for it in answer["findings"] if it["name"] == "rules")
