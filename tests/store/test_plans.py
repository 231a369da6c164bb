"""Every query that lists, looks up or claims begins at an index: no table is scanned, and no order is sorted.

The statements are those that the queries and commands really send: a recorder stands between them and the database.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from pullcord.core.figures import windows_of
from pullcord.store.commands.admit import Admit
from pullcord.store.commands.artifacts import DropContents, StoreArtifacts
from pullcord.store.commands.cancelling import CancelRun
from pullcord.store.commands.claim import Claimed, claim
from pullcord.store.commands.deadlocks import fail_deadlocked_of
from pullcord.store.commands.journal import FinishRuns, RecordSteps
from pullcord.store.commands.keys import REQUEST_ID, Identity
from pullcord.store.commands.ledger import Note
from pullcord.store.commands.lifecycle import LoseRuns, QueueDue, SetWaiting, Start
from pullcord.store.commands.overlap import place
from pullcord.store.commands.progress import SaveProgress
from pullcord.store.commands.prune import PruneArtifacts, PruneRequests, PruneRuns
from pullcord.store.connection import Connection
from pullcord.store.hints import Hints
from pullcord.store.queries.failed import find_failed
from pullcord.store.queries.figures import flow_figures
from pullcord.store.queries.flows import counts, last_runs
from pullcord.store.queries.limits import explain_waiting
from pullcord.store.queries.origins import find_origin, inherited_child
from pullcord.store.queries.page import Page
from pullcord.store.queries.requests import RequestFilter, find_originals, get_request, list_requests
from pullcord.store.queries.retention import (
    Kept,
    beyond,
    flows_with_runs,
    prunable_artifacts,
    prunable_history,
    prunable_requests,
    prunable_runs,
    runs_of_logs,
    spared_runs,
)
from pullcord.store.queries.runs import RunFilter, list_runs, load_runs, run_number
from pullcord.store.sqlite import SQLiteConnection
from pullcord.store.transaction import Transaction, ignore
from pullcord.wire import messages as kinds
from tests.store.harness import LANE, NOON, Server, SQLiteDatabase, admit, claimed, finished, note, step

TABLES = "runs|requests|steps|keys|slots|audit|artifacts|trigger_history|attempts"
SCAN = re.compile(r"^SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?")


class Recorder:
    """Stands for a connection and remembers the statements."""

    contended = False

    keeps_statistics = False

    def __init__(self, connection: SQLiteConnection) -> None:
        self._connection = connection
        self.statements: list[tuple[str, Any]] = []

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        self.statements.append((sql, parameters))
        return self._connection.execute(sql, parameters)

    def array(self, sql: str, parameters: Any = ()) -> list[Any]:
        self.statements.append((sql, parameters))
        return self._connection.array(sql, parameters)

    def lock(self, sql: str, parameters: Any = ()) -> None:
        self._connection.lock(sql, parameters)

    def plans(self) -> dict[str, list[str]]:
        """Return the steps of each statement's plan."""
        result: dict[str, list[str]] = {}
        for sql, parameters in self.statements:
            rows = self._connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
            result[sql] = [row[3] for row in rows]
        return result


def names_of_tables(sql: str) -> dict[str, str]:
    """Return which table each alias of a statement stands for."""
    found = re.findall(rf"\b(?:FROM|JOIN|UPDATE|INTO) ({TABLES})(?: (?:AS )?([a-z]\w*))?", sql)
    aliases = {alias: table for table, alias in found if alias}
    return aliases | {table: table for table, _ in found}


def complaints(recorder: Recorder, partial: set[str], sorting: bool = False) -> list[str]:
    """Return the steps that walk through a table, or through an index that holds all of it, or that sort.

    Args:
        partial: indexes over a few rows only, which may be walked through.
        sorting: whether the few rows that are found may be sorted.
    """
    wrong: list[str] = []
    for sql, plan in recorder.plans().items():
        tables = names_of_tables(sql)
        for line in plan:
            scan = SCAN.match(line)
            if scan and scan[1] in tables and scan[2] not in partial:
                wrong.append(f"{line} in {' '.join(sql.split())}")
            if "TEMP B-TREE" in line and not sorting:
                wrong.append(f"{line} in {' '.join(sql.split())}")
    return wrong


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Fill a database a little; there are no statistics, as in production."""
    server = Server(SQLiteDatabase(tmp_path_factory.mktemp("plans")))
    server.begin(*[admit("free", limited=False, key=str(number)) for number in range(50)])
    server.admit(*[admit("free", limited=False, not_before=NOON * 2) for _ in range(5)])
    yield server
    server.close()


@pytest.fixture(scope="module")
def partial(filled: Server) -> set[str]:
    """Return the indexes that hold the rows of a few states only."""
    rows = filled.rows("SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE '%WHERE%state%'")
    names = {row["name"] for row in rows}
    assert "runs_queue" in names
    return names


@pytest.fixture
def recorder(filled: Server) -> Iterator[Recorder]:
    """Record statements; what they change is undone."""
    filled.connection.execute("BEGIN")
    yield Recorder(filled.connection)
    filled.connection.execute("ROLLBACK")


def connection_of(recorder: Recorder) -> Connection:
    """Return a recorder as what it stands for."""
    return cast(Connection, recorder)


PAGES = [Page(50), Page(50, "40")]
RUN_FILTERS = [
    RunFilter(),
    RunFilter(flow="f"),
    RunFilter(state="running"),
    RunFilter(trigger="manual"),
    RunFilter(invoker="owner"),
    RunFilter(since=NOON, until=NOON * 2),
    RunFilter(since=NOON),
    RunFilter(until=NOON),
    RunFilter(flow="f", state="failed", since=NOON),
    RunFilter(flow="f", state="failed", trigger="manual", invoker="owner", since=NOON, until=NOON * 2),
    RunFilter(flows=("f", "g", "h")),
    RunFilter(flows=("f", "g", "h"), state="failed"),
]
REQUEST_FILTERS = [
    RequestFilter(),
    RequestFilter(flow="f"),
    RequestFilter(outcome="rejected"),
    RequestFilter(trigger="manual"),
    RequestFilter(invoker="owner"),
    RequestFilter(since=NOON, until=NOON * 2),
    RequestFilter(flow="f", outcome="rejected", trigger="manual", invoker="owner", since=NOON, until=NOON * 2),
]


@pytest.mark.parametrize("page", PAGES, ids=["first page", "later page"])
@pytest.mark.parametrize("which", RUN_FILTERS, ids=repr)
def test_runs_are_listed_in_the_order_of_an_index(
    recorder: Recorder, partial: set[str], which: RunFilter, page: Page
) -> None:
    list_runs(connection_of(recorder), which, page)
    # The runs of several flows are sorted by number where they are few.
    assert complaints(recorder, partial, sorting=which.flows is not None) == []


@pytest.mark.parametrize("page", PAGES, ids=["first page", "later page"])
@pytest.mark.parametrize("which", REQUEST_FILTERS, ids=repr)
def test_requests_are_listed_in_the_order_of_an_index(
    recorder: Recorder, partial: set[str], which: RequestFilter, page: Page
) -> None:
    list_requests(connection_of(recorder), which, page)
    assert complaints(recorder, partial) == []


@pytest.mark.parametrize(
    ("which", "index"),
    [
        (RunFilter(flow="f"), "runs_flow"),
        (RunFilter(state="running"), "runs_state"),
        (RunFilter(trigger="cron"), "requests_trigger_kind"),
        (RunFilter(invoker="ada"), "requests_invoker"),
        (RequestFilter(flow="f"), "requests_flow"),
        (RequestFilter(outcome="denied"), "requests_outcome"),
        (RequestFilter(trigger="cron"), "requests_trigger_kind"),
        (RequestFilter(invoker="ada"), "requests_invoker"),
    ],
    ids=repr,
)
def test_a_filter_is_answered_by_its_own_index(
    recorder: Recorder, which: RunFilter | RequestFilter, index: str
) -> None:
    if isinstance(which, RunFilter):
        list_runs(connection_of(recorder), which, Page())
    else:
        list_requests(connection_of(recorder), which, Page())
    assert any(f"INDEX {index} " in line for plan in recorder.plans().values() for line in plan)


LOOK_UPS: dict[str, Callable[[sqlite3.Connection, str], Any]] = {
    "items of runs": lambda connection, uuid: load_runs(connection, [uuid, "x"]),
    "number of a run": run_number,
    "place in the queue": lambda connection, uuid: explain_waiting(
        connection, [{"id": uuid, "state": "queued", "waiting_for": None}]
    ),
    "originals": lambda connection, uuid: find_originals(
        connection, [Identity("f", "owner", "k", "s"), Identity(REQUEST_ID, "owner", uuid, "s")], NOON
    ),
    "a request": lambda connection, uuid: get_request(connection, uuid, "owner"),
    "a run that is wanted again": find_origin,
    "a child of an origin": lambda connection, _: inherited_child(connection, 7, "i"),
    "newest run of a flow": lambda connection, _: last_runs(connection, ["f", "free"]),
}


@pytest.mark.parametrize("name", LOOK_UPS)
def test_look_ups_begin_at_an_index(recorder: Recorder, filled: Server, partial: set[str], name: str) -> None:
    (row,) = filled.rows("SELECT uuid FROM runs WHERE id = 7")
    LOOK_UPS[name](connection_of(recorder), row["uuid"])
    assert recorder.statements
    assert complaints(recorder, partial, sorting=name == "a request") == [], "a request id has a handful of rows"


def test_failed_runs_are_found_by_their_state(recorder: Recorder, filled: Server, partial: set[str]) -> None:
    filled.connection.execute('UPDATE runs SET state = \'failed\', error = \'{"type":"E","message":""}\' WHERE id < 9')
    filled.connection.execute("UPDATE runs SET ended_at = 5")
    assert len(find_failed(connection_of(recorder), 0, 9, None, None).runs) == 8
    used = [line for plan in recorder.plans().values() for line in plan]
    for index in ("runs_state", "runs_resumed_from", "runs_rerun_of", "runs_flow"):
        assert any(f"INDEX {index} " in line for line in used), index
    assert complaints(recorder, partial) == []


def transaction(recorder: Recorder, filled: Server) -> Transaction:
    """Make a transaction over a recorder."""
    return Transaction(
        connection_of(recorder), NOON * 3, filled.owner, Hints(lanes={LANE}, fresh={"f": LANE}, orphans=True)
    )


@pytest.mark.parametrize("floor", [0, 10])
def test_claims_begin_at_an_index_in_the_order_of_the_queue(
    recorder: Recorder, filled: Server, partial: set[str], floor: int
) -> None:
    filled.connection.execute("UPDATE runs SET owner = NULL WHERE id IN (3, 20)")
    filled.connection.execute("UPDATE runs SET state = 'queued' WHERE id IN (4, 21)")
    filled.connection.execute("UPDATE runs SET state = 'queued', slot = 'f' WHERE id = 22")
    filled.connection.execute("INSERT INTO slots (key, capacity) VALUES ('f', 1)")
    runs = claim(transaction(recorder, filled), {LANE: 10}, floor)
    assert {20, 21, 22} <= {run.id for run in runs}
    used = " ".join(line for plan in recorder.plans().values() for line in plan)
    wanted = {"runs_orphaned", "runs_queue", "runs_slot_queue", "runs_slot_held"}
    assert {name for name in partial if name in used} >= wanted
    assert complaints(recorder, partial) == []


def test_due_runs_are_found_by_their_time(recorder: Recorder, filled: Server, partial: set[str]) -> None:
    tx = transaction(recorder, filled)
    assert QueueDue.apply(tx, [QueueDue(tx.now, 1, ignore)]) == [None]
    _, due, _, following = recorder.plans().values()
    assert any("INDEX runs_due" in line for line in due)
    assert any("INDEX runs_due" in line for line in following)
    assert complaints(recorder, partial) == []


UUID_OF_21 = "SELECT uuid FROM runs WHERE id = 21 AND state = 'failed'"


def held(filled: Server) -> list[Claimed]:
    """Return some runs that are active."""
    rows = filled.rows("SELECT id, token, uuid FROM runs WHERE state = 'running' LIMIT 3")
    return [claimed(row["id"], row["token"], row["uuid"], "free") for row in rows]


@pytest.mark.parametrize(
    "kind",
    [
        "admit",
        "child",
        "deadlock",
        "place",
        "dry run",
        "note",
        "record",
        "stale",
        "finish",
        "retry",
        "unsettled",
        "anew",
        "resume",
        "progress",
        "lose",
        "lose for good",
        "wait",
        "cancel",
        "start",
    ],
)
def test_writes_begin_at_an_index(recorder: Recorder, filled: Server, partial: set[str], kind: str) -> None:
    tx = transaction(recorder, filled)
    runs = held(filled)
    if kind == "admit":
        Admit.apply(tx, [admit(key="a", request_id="r"), admit(key="a", request_id="q"), admit("free", limited=False)])
    elif kind == "child":
        filled.connection.execute("INSERT INTO slots (key, capacity) VALUES ('f', 9)")
        filled.connection.execute("UPDATE runs SET slot = 'f' WHERE id = :id", {"id": runs[0].id})
        Admit.apply(tx, [admit(parent_id=runs[0].id)])
        assert not any("runs_state" in line for plan in recorder.plans().values() for line in plan)
    elif kind == "deadlock":
        filled.connection.execute("INSERT INTO slots (key, capacity) VALUES ('f', 1)")
        filled.connection.execute("UPDATE runs SET slot = 'f' WHERE id = :id", {"id": runs[0].id})
        filled.connection.execute("UPDATE runs SET slot = 'f', parent_id = :id WHERE id = 21", {"id": runs[0].id})
        filled.connection.execute("UPDATE runs SET state = 'queued' WHERE id = 21")
        fail_deadlocked_of(tx, [21])
        assert [uuid for uuid, _ in tx.hints.failed] == [row["uuid"] for row in filled.rows(UUID_OF_21)]
    elif kind == "place":
        place(tx, runs[0].id, "f", "group:db", 0)
        explain_waiting(connection_of(recorder), [{"id": runs[0].uuid, "state": "queued", "waiting_for": None}])
        assert not any("runs_state" in line for plan in recorder.plans().values() for line in plan)
    elif kind == "dry run":
        Admit.apply(tx, [admit(dry_run=True, key="a")])
    elif kind == "note":
        Note.apply(tx, [note(repeat_key="m"), note(repeat_key="m"), note()])
    elif kind == "record":
        RecordSteps.apply(tx, [RecordSteps([step(run, token=2) for run in runs], ignore)])
    elif kind == "stale":
        RecordSteps.apply(tx, [RecordSteps([step(run, token=0) for run in runs], ignore)])
    elif kind == "finish":
        FinishRuns.apply(tx, [FinishRuns([finished(run) for run in runs] + [finished(runs[0], token=0)], ignore)])
    elif kind == "retry":
        FinishRuns.apply(tx, [FinishRuns([finished(run, "failed", retry_at=NOON) for run in runs], ignore)])
    elif kind == "unsettled":
        RecordSteps.apply(tx, [RecordSteps([step(run, "s0", "running", writes='["a"]') for run in runs], ignore)])
        ends = [finished(run, "failed", error="{}") for run in runs]
        FinishRuns.apply(tx, [FinishRuns(ends, ignore, frozenset(run.id for run in runs))])
        assert filled.run(runs[0].id)["partial"] is not None
    elif kind == "lose for good":
        CancelRun.apply(tx, [CancelRun(runs[0].uuid, "owner", None, False, "", ignore)])
        RecordSteps.apply(tx, [RecordSteps([step(runs[0], "s0", "running")], ignore)])
        LoseRuns.apply(tx, [LoseRuns([[runs[0].id, runs[0].token, 1, None]], ignore)])
        assert filled.run(runs[0].id)["partial"] is not None
    elif kind == "anew":
        FinishRuns.apply(tx, [FinishRuns([finished(run, "failed", retry_at=NOON, anew=True) for run in runs], ignore)])
    elif kind == "resume":
        Admit.apply(tx, [admit("free", limited=False, resumed_from=run.id) for run in runs])
    elif kind == "progress":
        SaveProgress.apply(tx, [SaveProgress([[run.id, run.token, 1.0, None, "x"] for run in runs], ignore)])
    elif kind == "lose":
        LoseRuns.apply(tx, [LoseRuns([[run.id, run.token, 1, None] for run in runs], ignore)])
    elif kind == "wait":
        SetWaiting.apply(tx, [SetWaiting(run.id, run.token, "x", ignore) for run in runs])
    elif kind == "cancel":
        CancelRun.apply(tx, [CancelRun(runs[0].uuid, "owner", None, False, "", ignore)])
    else:
        Start.apply(tx, [Start(ignore)])
    assert recorder.statements
    assert complaints(recorder, partial, sorting=kind == "start") == [], "a start gathers the lanes of all that wait"


@pytest.mark.parametrize("kind", ["runs", "requests", "artifacts", "contents", "store"])
def test_pruning_begins_at_an_index(
    recorder: Recorder, filled: Server, partial: set[str], kind: str, tmp_path: Path
) -> None:
    tx = transaction(recorder, filled)
    filled.connection.execute("UPDATE runs SET state = 'succeeded', ended_at = 1 WHERE state = 'running' AND id < 9")
    if kind == "runs":
        assert PruneRuns.apply(tx, [PruneRuns([1, 2, 3], NOON * 2, ignore)])[0].rows == 3
    elif kind == "requests":
        PruneRequests.apply(tx, [PruneRequests([1, 2, 3], NOON * 2, ignore)])
    elif kind == "artifacts":
        PruneArtifacts.apply(tx, [PruneArtifacts([1, 2, 3], ignore)])
    elif kind == "contents":
        DropContents.apply(tx, [DropContents(tmp_path, ["0a" * 32], 0.0, ignore)])
    else:
        (run, *_) = held(filled)
        (tmp_path / "0a").mkdir()
        (tmp_path / "0a" / ("0a" * 31)).touch()
        message = [kinds.ARTIFACT, run.id, run.token, "s", None, "a", "0a" * 32, 0, None, None]
        StoreArtifacts.apply(tx, [StoreArtifacts(tmp_path, [message], ignore)])
    assert recorder.statements
    # The newest request is looked up at the end of its table's own index.
    wrong = [line for line in complaints(recorder, partial) if not line.startswith("SEARCH")]
    assert wrong == []


@pytest.mark.parametrize("name", ["runs", "requests", "history", "artifacts", "logs", "spared", "beyond", "flows"])
def test_what_may_be_pruned_is_found_along_an_index(recorder: Recorder, partial: set[str], name: str) -> None:
    connection = connection_of(recorder)
    rule = Kept(NOON, NOON, NOON, 3, frozenset())
    if name == "runs":
        prunable_runs(connection, "free", rule, 0)
    elif name == "requests":
        prunable_requests(connection, NOON, 0, 0)
    elif name == "history":
        prunable_history(connection, NOON, 0)
    elif name == "artifacts":
        prunable_artifacts(connection, {"free": rule}, 0)
    elif name == "logs":
        runs_of_logs(connection, ["u"], NOON)
    elif name == "spared":
        spared_runs(connection, "free")
    elif name == "beyond":
        beyond(connection, "free", 10)
    else:
        flows_with_runs(connection)
    assert recorder.statements
    assert complaints(recorder, partial) == []


def test_counting_runs_that_have_not_ended_looks_at_no_others(recorder: Recorder, partial: set[str]) -> None:
    counts(connection_of(recorder))
    assert complaints(recorder, partial) == []


def test_figures_are_read_from_their_index_alone(recorder: Recorder, partial: set[str]) -> None:
    flow_figures(connection_of(recorder), "free", windows_of(None), NOON * 2)
    plans = recorder.plans()
    (below,) = (plans.pop(sql) for sql in list(plans) if "pruned_flows" in sql)
    assert all(line.startswith("SEARCH pruned_flows") for line in below)
    found = [line for plan in plans.values() for line in plan if " r " in line]
    assert len(found) >= len(plans)
    assert all("INDEX runs_ended (flow=? AND state=?" in line for line in found)
    assert complaints(recorder, partial) == []
    # Only the last run is looked up, for its id.
    rows = [line for sql, plan in plans.items() for line in plan if " r " in line and "r.uuid" not in sql]
    assert all("COVERING INDEX runs_ended" in line for line in rows)


def test_a_bad_plan_is_noticed(recorder: Recorder, partial: set[str]) -> None:
    """The test of the test."""
    for sql in ("SELECT * FROM runs WHERE flow_version = 'v'", "SELECT id FROM runs ORDER BY flow_version",
                "SELECT count(*) FROM requests t WHERE t.note = ''", "SELECT flow FROM runs"):  # fmt: skip
        recorder.statements.clear()
        recorder.execute(sql)
        assert complaints(recorder, partial), sql
