"""Repeat the measurements that the decisions refer to.

`python docs/measure.py imports|workers|commits|plans|columns|points`, or all of them without a name. What else the
machine does changes all of them, so the load is printed too.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pullcord import failpoints
from pullcord.engine.template import Template
from pullcord.store import migrate
from pullcord.store.commands import journal
from pullcord.store.statement import dump, rows, to_sqlite

STATEMENTS = {
    "nothing": "pass",
    "pydantic": "import pydantic",
    "a worker (pullcord.worker.main)": "import pullcord.worker.main",
    "the server until it listens (pullcord.api.server)": "import pullcord.api.server",
    "FastAPI": "import fastapi",
    "the other routes (pullcord.api.rest)": "import pullcord.api.rest",
    "SQLAlchemy": "from sqlalchemy import create_engine",
    "Alembic with SQLAlchemy": "from alembic import command; from alembic.config import Config",
}


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")


def imports() -> None:
    """Time of an import in a fresh interpreter, with bytecode in the cache and without, and what it adds to memory."""
    base = _import(STATEMENTS["nothing"], None)[1]
    for name, statement in STATEMENTS.items():
        warm, memory = _import(statement, None)
        with tempfile.TemporaryDirectory() as empty:
            cold, _ = _import(statement, empty, 3)
        say(f"{name:<52}{warm * 1000:6.0f} ms{cold * 1000:7.0f} ms without bytecode{memory - base:7.1f} MB")


def _import(statement: str, cache: str | None, times: int = 7) -> tuple[float, float]:
    program = (
        f"import time; began = time.perf_counter()\n{statement}\ntook = time.perf_counter() - began\n"
        "print(took, next(l for l in open('/proc/self/status') if l.startswith('VmRSS')).split()[1])"
    )
    environment = os.environ | ({"PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": "1"} if cache else {})
    found = [
        subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(times)
    ]
    return statistics.median(float(one[0]) for one in found), statistics.median(int(one[1]) / 1000 for one in found)


def workers() -> None:
    """Time until a worker says hello, and its share of memory: a fresh interpreter, and a fork of the template."""
    times: list[float] = []
    shares: list[float] = []
    for _ in range(7):
        ours, theirs = socket.socketpair()
        program = (
            "import socket; from pullcord.worker.main import Worker; "
            f"Worker(socket.socket(fileno={theirs.fileno()})).run()"
        )
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-c", program], pass_fds=[theirs.fileno()])
        theirs.close()
        ours.recv(100)
        times.append(time.perf_counter() - began)
        shares.append(_share(process.pid))
        ours.close()
        process.wait()
    say(f"fresh interpreter: {statistics.median(times) * 1000:.0f} ms, {statistics.median(shares):.1f} MB each")
    asyncio.run(_forks())


async def _forks() -> None:
    loop = asyncio.get_running_loop()
    folder = tempfile.TemporaryDirectory()
    template = Template(sys.executable, Path.cwd(), Path(folder.name), lambda *_: None, lambda _: None)
    template.attach()
    times, pids, ends = list[float](), list[int](), list[socket.socket]()
    for _ in range(11):
        began = time.perf_counter()
        pid, end = await template.spawn()
        end.setblocking(False)
        await loop.sock_recv(end, 100)
        times.append(time.perf_counter() - began)
        pids.append(pid)
        ends.append(end)
    total = sum(map(_share, pids))
    say(
        f"fork: {statistics.median(times[1:]) * 1000:.0f} ms, {total / len(pids):.1f} MB each "
        f"(the first, with the template: {times[0] * 1000:.0f} ms)"
    )
    template.close()
    for end in ends:
        end.close()
    await template.ended()
    folder.cleanup()


def _share(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    raise RuntimeError("no memory figures")


def commits() -> None:
    """Rows a second by rows in a commit; and a hundred rows beside a busy thread, row by row and as one statement."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for size in (1, 10, 100, 1000):
            with closing(_database(Path(folder) / f"{size}.db")) as connection:
                count, began = 0, time.perf_counter()
                while time.perf_counter() - began < 2.0:
                    _insert(connection, size, "one statement")
                    count += 1
                took = time.perf_counter() - began
            say(f"{size:>5} rows in a commit: {count * size / took:>9,.0f} rows/s, {count / took:>7,.0f} commits/s")
        for interval in (0.005, 0.001):
            sys.setswitchinterval(interval)
            with _busy():
                for way in ("executemany", "one statement"):
                    with closing(_database(Path(folder) / f"{way}{interval}.db")) as connection:
                        times = sorted(_insert(connection, 100, way) * 1000 for _ in range(60))
                    say(
                        f"100 rows beside a busy thread, switch interval {interval * 1000:.0f} ms, {way}: "
                        f"median {times[30]:.1f} ms, nine in ten {times[54]:.1f} ms, worst {times[-1]:.1f} ms"
                    )


def _database(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c TEXT)")
    return connection


def _insert(connection: sqlite3.Connection, size: int, way: str) -> float:
    values = [[None, "a" * 60, number, "c" * 100] for number in range(size)]
    text = json.dumps(values)
    began = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    if way == "executemany":
        connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", values)
    else:
        sql = to_sqlite(f"INSERT INTO t SELECT id, a, b, c FROM {rows('id a b c')}")
        connection.execute(sql, {"rows": text})
    connection.execute("COMMIT")
    return time.perf_counter() - began


@contextmanager
def _busy() -> Iterator[None]:
    stop = threading.Event()

    def work() -> None:
        table: dict[int, str] = {}
        while not stop.is_set():
            for number in range(2000):
                table[number % 50] = str(number)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def plans() -> None:
    """What SQLite makes of the hot statements, and of what one would write first: 200,000 runs, 1,000 active."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    migrate.migrate(connection)
    columns = (
        "id, uuid, flow, flow_version, state, inputs, trigger_kind, invoker, lane, priority, token, attempt, "
        "takeovers, losses, test"
    )
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) "
        f"INSERT INTO runs ({columns}) "
        "SELECT i, i, 'f', 'v', CASE WHEN i > 199000 THEN 'running' ELSE 'succeeded' END, "
        "'{}', 'manual', 'o', 'l', 0, 1, 1, 0, 0, 0 FROM n"
    )
    held = "r.id = s.run AND r.token = s.token AND r.state IN ('running', 'waiting', 'cancelling')"
    record = journal._RECORD
    ends = dump([["finished", number, 1, "succeeded", "1", None, None] for number in range(199901, 200001)])
    step = ["s", 1, "succeeded", 1, 2, "1", None]
    steps = dump([["step", number, 1, 1, str(number), 1, *step] for number in range(199901, 200001)])
    joined = record.replace(f"WHERE EXISTS (SELECT 1 FROM runs r WHERE {held})", f"JOIN runs r ON {held} WHERE true")
    if joined == record:
        raise SystemExit("the statement that records steps has changed; correct this measurement")
    for name, sql, parameters in (
        ("100 ends, as it is", journal._FINISH, {"rows": ends, "now": 1}),
        (
            "100 ends, without || ''",
            journal._FINISH.replace("runs.state || ''", "runs.state"),
            {"rows": ends, "now": 1},
        ),
        ("100 records, as it is", record, {"rows": steps}),
        ("100 records, with JOIN", joined, {"rows": steps}),
    ):
        times = []
        for _ in range(7):
            connection.execute("BEGIN")
            began = time.perf_counter()
            connection.execute(to_sqlite(sql), parameters)
            times.append(time.perf_counter() - began)
            connection.execute("ROLLBACK")
        say(f"{name}: {statistics.median(times) * 1000:.2f} ms")
        for row in connection.execute(f"EXPLAIN QUERY PLAN {to_sqlite(sql)}", parameters):
            say(f"    {row[3]}")
    connection.close()


def columns() -> None:
    """Time of taking the columns of a hundred rows from a JSON parameter, as `rows` does and as one would first."""
    for count in (4, 12, 22):
        names = [f"c{number}" for number in range(count)]
        text = dump([[f"{number}/{name}" for name in names] for number in range(100)])
        kept = to_sqlite(f"INSERT INTO t SELECT * FROM {rows(' '.join(names))} AS s")
        straight = kept.replace("WITH each_row AS MATERIALIZED (SELECT value FROM json_each(:rows)) ", "")
        straight = straight.replace("FROM each_row", "FROM json_each(:rows)")
        if "each_row" in straight or straight == kept:
            raise SystemExit("the table that rows makes has changed; correct this measurement")
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.execute(f"CREATE TABLE t ({', '.join(names)})")
            for way, sql in (("materialized", kept), ("right from json_each", straight)):
                times = []
                for _ in range(200):
                    connection.execute("DELETE FROM t")
                    began = time.perf_counter()
                    connection.execute(sql, {"rows": text})
                    times.append(time.perf_counter() - began)
                say(f"{count:>2} columns, {way}: {statistics.median(times) * 10_000:.1f} us a row")


def points() -> None:
    """Time of passing a fail point that is not armed, and of the ways to do without the call."""
    names = {"hit": failpoints.hit, "ARMED": failpoints.ARMED, "look": failpoints.ARMED.get}
    for what, statement in (
        ("a call of the function that does nothing", "hit('gate.before_write')"),
        ("an `if` around the call", "if ARMED: hit('gate.before_write')"),
        ("a look at the empty dictionary", "look('gate.before_write')"),
    ):
        best = min(timeit.repeat(statement, globals=names, number=1_000_000, repeat=7))
        say(f"{what}: {best * 1000:.0f} ns")


WHAT: dict[str, Callable[[], None]] = {
    "imports": imports, "workers": workers, "commits": commits, "plans": plans, "columns": columns,
    "points": points,
}  # fmt: skip


def main() -> None:
    """Measure what was asked for."""
    say(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    for name in sys.argv[1:] or WHAT:
        WHAT[name]()


if __name__ == "__main__":
    main()
