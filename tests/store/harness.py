"""The conformance suite's tools: kinds of store, a driven clock, a server that works step by step, and builders.

A store of another kind joins the suite with one entry in `KINDS` and a way to make a `Database` of that kind.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from uuid_utils import uuid7

from pullcord.core.manifest import SHARED_SYNC, FlowSpec, lane
from pullcord.core.states import Outcome
from pullcord.store import sqlite
from pullcord.store.commands.admit import Admit, Decision, NewRun
from pullcord.store.commands.cancelling import CancelRun
from pullcord.store.commands.catalog import RegisterFlows
from pullcord.store.commands.claim import Claimed, claim
from pullcord.store.commands.journal import Ended, FinishRuns, Recorded, RecordSteps
from pullcord.store.commands.keys import REQUEST_ID, Identity
from pullcord.store.commands.ledger import LedgerEntry, Note
from pullcord.store.commands.lifecycle import LoseRuns, QueueDue, SetWaiting, Start
from pullcord.store.connection import Connection
from pullcord.store.hints import Hints
from pullcord.store.migrate import migrate
from pullcord.store.postgres import PostgresDatabase
from pullcord.store.store import Store
from pullcord.store.transaction import Transaction, ignore
from pullcord.store.writer import ORDER
from pullcord.wire import messages as kinds

NOON = 1_800_000_000_000_000
SECOND = 1_000_000
DAY = 86_400 * SECOND
LOCATION = "etl"
LANE = lane(LOCATION, SHARED_SYNC)
ROOM: Mapping[str, int] = {LANE: 1000}


@dataclass
class DrivenClock:
    """A clock that stands still until it is moved."""

    at: int = NOON

    def now(self) -> int:
        return self.at

    def advance(self, microseconds: int) -> None:
        self.at += microseconds


class Database(Protocol):
    """One database of some kind."""

    def writer(self) -> Connection:
        """Open the writing connection; the schema is there."""

    def reader(self) -> Connection:
        """Open a connection that cannot write."""

    def store(self, clock: DrivenClock) -> Store:
        """Open the store over it."""


@dataclass(frozen=True)
class SQLiteDatabase:
    """A file in a folder."""

    folder: Path
    synced: bool = False

    @property
    def path(self) -> Path:
        return self.folder / "pullcord.db"

    def writer(self) -> Connection:
        self.folder.mkdir(exist_ok=True)
        connection = sqlite.writer(self.path)
        if not self.synced:
            connection.execute("PRAGMA synchronous = OFF")
        migrate(connection)
        return connection

    def reader(self) -> Connection:
        return sqlite.reader(self.path)

    def store(self, clock: DrivenClock) -> Store:
        return Store(self.folder, clock)


@dataclass(frozen=True)
class PostgresTestDatabase:
    """A database on a server."""

    folder: Path
    url: str

    def writer(self) -> Connection:
        return PostgresDatabase(self.url).writer()

    def reader(self) -> Connection:
        return PostgresDatabase(self.url).reader()

    def store(self, clock: DrivenClock) -> Store:
        return Store(self.folder, clock, self.url)


KINDS = ("sqlite", "postgres-wheel", "postgres-debian")
"""All that the conformance suite runs over."""


@dataclass
class Server:
    """A server that does one transaction at a time, when it is told to: commands in their order, then a claim."""

    database: Database
    clock: DrivenClock = field(default_factory=DrivenClock)
    owner: int = 0
    hints: Hints = field(default_factory=Hints)

    def __post_init__(self) -> None:
        self.connection = self.database.writer()
        self.start()

    def start(self) -> int | None:
        """Begin an incarnation; return the next due time."""
        self.owner += 1
        self.hints = Hints()
        due: int | None = self.write(Start(ignore))
        return due

    def restart(self) -> int | None:
        """Be killed and start again."""
        self.connection.close()
        self.connection = self.database.writer()
        return self.start()

    def close(self) -> None:
        self.connection.close()

    def transact(
        self, *commands: Any, room: Mapping[str, int] | None = None, floor: int = 0
    ) -> tuple[list[Any], list[Claimed]]:
        """Write commands and claim in one transaction; return their results in the order given, and the claim."""
        self.clock.advance(1)
        tx = Transaction(self.connection, self.clock.now(), self.owner, self.hints.copy())
        results: dict[int, Any] = {}
        self.connection.begin()
        try:
            for kind in ORDER:
                batch = [command for command in commands if type(command) is kind]
                if batch:
                    results |= zip(map(id, batch), kind.apply(tx, batch), strict=True)
            claimed = [] if room is None else claim(tx, room, floor)
            self.connection.commit()
        except BaseException:
            self.connection.rollback()
            raise
        self.hints = tx.hints
        return [results[id(command)] for command in commands], claimed

    def write(self, command: Any) -> Any:
        """Write one command and return its result."""
        return self.transact(command)[0][0]

    def admit(self, *commands: Admit) -> list[Decision]:
        """Admit requests in one transaction."""
        return self.transact(*commands)[0]

    def claim(self, room: Mapping[str, int] = ROOM, floor: int = 0) -> list[Claimed]:
        """Claim what may start."""
        return self.transact(room=room, floor=floor)[1]

    def begin(self, *commands: Admit) -> list[Claimed]:
        """Admit requests and claim their runs."""
        return self.transact(*commands, room=ROOM)[1]

    def record(self, *messages: list[Any]) -> Recorded:
        """Record steps."""
        result: Recorded = self.write(RecordSteps(list(messages), ignore))
        return result

    def finish(self, *messages: list[Any]) -> list[Ended]:
        """Finish runs, any of which may have steps without an end."""
        unsettled = frozenset(message[1] for message in messages)
        result: list[Ended] = self.write(FinishRuns(list(messages), ignore, unsettled))
        return result

    def lose(self, *runs: Claimed, blame: int = 1) -> list[Ended]:
        """Lose the worker of runs."""
        rows = [[run.id, run.token, blame, '{"type":"worker_lost","message":"gone"}'] for run in runs]
        result: list[Ended] = self.write(LoseRuns(rows, ignore))
        return result

    def wait(self, run: Claimed, text: str | None) -> None:
        """Say what a run waits for."""
        self.write(SetWaiting(run.id, run.token, text, ignore))

    def cancel(self, uuid: str, invoker: str = "owner", reason: str | None = None, force: bool = False) -> Any:
        """Cancel a run and its children."""
        return self.write(CancelRun(uuid, invoker, reason, force, "2026-01-01T00:00:00Z", ignore))

    def queue_due(self, back: int = 0) -> int | None:
        """Queue what is due; return the next due time."""
        due: int | None = self.write(QueueDue(self.clock.now() + 1, back, ignore))
        return due

    def register(self, *specs: FlowSpec, complete: bool = True, location: str = LOCATION) -> None:
        """Register flows."""
        self.write(RegisterFlows(location, list(specs), complete, ignore))

    def rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """Return rows as dictionaries."""
        cursor = self.connection.execute(sql, parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def run(self, number: int) -> dict[str, Any]:
        """Return a run's row."""
        (row,) = self.rows("SELECT * FROM runs WHERE id = :id", id=number)
        return row

    def states(self) -> dict[int, str]:
        """Return the state of every run by its number."""
        return {row["id"]: row["state"] for row in self.rows("SELECT id, state FROM runs ORDER BY id")}

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        return int(self.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"])


def spec(name: str = "f", concurrency: int | None = 1, location: str = LOCATION, **changes: Any) -> FlowSpec:
    """Make a flow."""
    facts: dict[str, Any] = {
        "name": name, "location": location, "version": "v1", "place": f"/code/{name}.py:1", "description": "",
        "input_schema": {}, "settings": {"concurrency": concurrency}, "is_async": False,
    }  # fmt: skip
    return FlowSpec(**facts | changes)


def entry(flow: str | None = "f", **changes: Any) -> LedgerEntry:
    """Make a ledger row."""
    facts: dict[str, Any] = {
        "uuid": str(uuid7()), "flow": flow, "inputs": "{}", "trigger_kind": "manual", "trigger_name": None,
        "invoker": "owner", "invoker_kind": "local", "source": "test",
    }  # fmt: skip
    return LedgerEntry(**facts | changes)


def admit(
    flow: str = "f",
    *,
    limited: bool = True,
    key: str | None = None,
    request_id: str | None = None,
    sent: str = "sent",
    validated: str = "validated",
    invoker: str = "owner",
    dry_run: bool = False,
    done: Callable[[Any], None] = ignore,
    ledger: Mapping[str, Any] = {},
    **run: Any,
) -> Admit:
    """Make an admission; `key` and `request_id` carry the two fingerprints."""
    identities = []
    if request_id is not None:
        identities.append(Identity(REQUEST_ID, invoker, request_id, sent, validated))
    if key is not None:
        identities.append(Identity(flow, invoker, key, sent, validated))
    facts: dict[str, Any] = {
        "uuid": str(uuid7()), "flow_version": "v1", "inputs": "{}", "lane": LANE, "slot": flow if limited else None,
    }  # fmt: skip
    row = entry(flow, invoker=invoker, idempotency_key=key, dry_run=int(dry_run))
    if request_id is not None:
        row = row.become(Outcome.ADMITTED, uuid=request_id)
    return Admit(row.become(Outcome.ADMITTED, **ledger), NewRun(**facts | run), done, tuple(identities), dry_run)


def note(done: Callable[[Any], None] = ignore, **changes: Any) -> Note:
    """Make a ledger row for a request that became no run."""
    row = entry(**changes)
    return Note(row.become(Outcome.REJECTED) if "outcome" not in changes else row, done)


_numbers = itertools.count(1)


def claimed(number: int, token: int, uuid: str, flow: str) -> Claimed:
    """Make what somebody may believe to have claimed."""
    return Claimed(
        number, token, uuid, flow, "{}", 1, LANE, "v1", None, 0, "", "owner", "user", None, "manual", None, NOON, NOON,
        1, None,
    )  # fmt: skip


def step(
    run: Claimed,
    identity: str = "s1",
    state: str = "succeeded",
    *,
    seq: int = 1,
    attempt: int = 1,
    token: int | None = None,
    result: str | None = '"done"',
    error: str | None = None,
    name: str = "step",
    writes: str | None = None,
) -> list[Any]:
    """Make a `step` message."""
    ended = None if state == "running" else NOON + 1
    held = run.token if token is None else token
    return [
        kinds.STEP, run.id, held, next(_numbers), identity, seq, name, attempt, state, NOON, ended,
        result if state == "succeeded" else None, error, writes,
    ]  # fmt: skip


def finished(
    run: Claimed,
    state: str = "succeeded",
    *,
    token: int | None = None,
    result: str | None = "1",
    error: str | None = None,
    retry_at: int | None = None,
    why: str | None = None,
    anew: bool = False,
) -> list[Any]:
    """Make a `finished` message with what `FinishRuns` is to know of the next attempt."""
    held = run.token if token is None else token
    message = [kinds.FINISHED, run.id, held, state, result if state == "succeeded" else None, error, retry_at]
    return message if retry_at is None else [*message, why, int(anew)]
