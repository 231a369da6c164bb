"""What must be true of a data folder after any crash, checked against what the flows themselves noted."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.system.witnessed import executions, lines_of

Done = frozenset[tuple[str, int]]
"""Steps that were on disk at some moment: the run's id and the step's number."""

LIMITS: Mapping[str, int] = {"narrow": 3, "single": 1}
"""The concurrency of the flows in `flows/steady.py` that have one."""

STEP_NAMES = ("work", "work_async")


@contextmanager
def opened(data_dir: Path) -> Iterator[sqlite3.Connection]:
    """Open a copy of a dead server's database, so that the original stays as the crash has left it."""
    with tempfile.TemporaryDirectory() as folder:
        for file in data_dir.glob("pullcord.db*"):
            shutil.copy(file, folder)
        with closing(sqlite3.connect(Path(folder) / "pullcord.db")) as connection:
            connection.row_factory = sqlite3.Row
            assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            yield connection


def recorded(data_dir: Path) -> Done:
    """Return the steps whose results a dead server has left on disk. A step's result is its number."""
    with opened(data_dir) as db:
        rows = db.execute(
            "SELECT r.uuid, s.result FROM steps s JOIN runs r ON r.id = s.run_id "
            f"WHERE s.state = 'succeeded' AND s.name IN {STEP_NAMES}"
        ).fetchall()
    return frozenset((row[0], int(row[1])) for row in rows)


def check_invariants(
    data_dir: Path, receipts: Iterable[Mapping[str, Any]], step_log: Path, *crashes: tuple[Done, int]
) -> None:
    """Check the folder of a stopped server in which every run of `flows/steady.py` has had its time.

    Args:
        data_dir: the data folder.
        receipts: every receipt that a caller was given.
        step_log: what the flows noted.
        crashes: for each death of the server, the steps that were on disk and how many lines the log had.
    """
    with opened(data_dir) as db:
        requests = {row["id"]: row for row in db.execute("SELECT * FROM requests")}
        runs = {row["id"]: row for row in db.execute("SELECT * FROM runs")}
        audit = Counter(row[0] for row in db.execute("SELECT subject_id FROM audit WHERE action = 'run.admit'"))
        steps = [tuple(row) for row in db.execute("SELECT run_id, name, state FROM steps")]
    _every_receipt_is_found(requests, runs, receipts)
    assert {run["uuid"]: run["state"] for run in runs.values() if run["state"] != "succeeded"} == {}
    for number, run in runs.items():
        _is_sane(run)
        assert requests[number]["outcome"] == "admitted"
        assert audit[number] == 1
    admitted = [number for number, request in requests.items() if request["outcome"] == "admitted"]
    assert sorted(admitted) == sorted(runs) == sorted(audit)
    assert {step[2] for step in steps} <= {"succeeded"}

    lines = lines_of(step_log)
    _steps_follow_each_other(lines)
    for done, length in crashes:
        again = {(line["run"], line["what"]) for line in lines[length:] if line["kind"] == "step"}
        assert not done & again, "a step that had a record ran again"
    counts = executions(lines)
    for run in runs.values():
        expected = json.loads(run["inputs"])["steps"] if run["flow"] != "family" else 2
        assert set(counts[run["uuid"]]) == set(range(expected)), f"run {run['uuid']} has not run all of its steps"
    _limits_were_kept(runs.values(), lines)


def _every_receipt_is_found(
    requests: Mapping[int, sqlite3.Row], runs: Mapping[int, sqlite3.Row], receipts: Iterable[Mapping[str, Any]]
) -> None:
    found = {(request["uuid"], runs[number]["uuid"]) for number, request in requests.items() if number in runs}
    for receipt in receipts:
        assert (receipt["request_id"], receipt["run_id"]) in found, f"an acknowledged request is lost: {receipt}"


def _is_sane(run: sqlite3.Row) -> None:
    """Each claim takes the next token, and only a take-over or a new attempt leads to another claim."""
    assert run["token"] == run["takeovers"] + run["attempt"] + run["parks"], dict(run)
    assert run["attempt"] == 1
    assert 0 <= run["losses"] < 3
    assert run["queued_at"] <= run["started_at"] <= run["ended_at"]
    assert run["waiting_for"] is None and run["error"] is None


def _steps_follow_each_other(lines: Iterable[dict[str, Any]]) -> None:
    """A later step began, so the earlier one had a record: it must not be seen again in that run."""
    latest: dict[str, int] = {}
    for line in lines:
        if line["kind"] == "step":
            before = latest.get(line["run"], -1)
            assert line["what"] in (before, before + 1), f"step {line['what']} after step {before}: {line}"
            latest[line["run"]] = line["what"]


def _limits_were_kept(runs: Iterable[sqlite3.Row], lines: list[dict[str, Any]]) -> None:
    """Check by the rows and by what the flows saw: a run holds its slot from its first line to its last."""
    for flow, limit in LIMITS.items():
        rows = [(run["started_at"], run["ended_at"]) for run in runs if run["flow"] == flow]
        assert _most_at_once(rows) <= limit
        seen: dict[str, list[float]] = {}
        for line in lines:
            if line["flow"] == flow:
                seen.setdefault(line["run"], []).append(line["at"])
        assert _most_at_once([(min(times), max(times)) for times in seen.values()]) <= limit


def _most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    changes = sorted(change for start, end in spans for change in ((start, 1), (end, -1)))
    count = most = 0
    for _, change in changes:
        count += change
        most = max(most, count)
    return most
