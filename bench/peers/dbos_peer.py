"""Measure DBOS on SQLite. Runs inside the DBOS environment and prints one JSON report.

Everything is at its defaults but for quieter logs and a second queue polled every 10 ms: throughput uses that one, and
its latency is reported beside the default queue's. Throughput is the better of one caller and `--concurrency` callers.
"""

# mypy: disable-error-code="import-not-found, untyped-decorator, no-any-return"

import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from dbos import DBOS

from bench.peers.shape import Latency, arguments, check_rows, emit, latency

STEPS = 10
LONG_RUNS = 60
DEFAULT_QUEUE, FAST_QUEUE = "default_poll", "fast_poll"
DRAIN_SECONDS = 60.0

started: list[float] = []


@DBOS.step()
def step(number: int) -> int:
    """One trivial recorded step."""
    return number + 1


@DBOS.workflow()
def one_step(triggered: float) -> int:
    """Note how long it took to get here, then do one step."""
    started.append(time.perf_counter() - triggered)
    return step(1)


@DBOS.workflow()
def ten_steps() -> None:
    """Ten steps, one after the other."""
    for number in range(STEPS):
        step(number)


def count(database: Path, table: str, where: str = "1") -> int:
    """Count rows through a read-only connection of our own."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0])


def finished(database: Path) -> int:
    """Count workflows recorded as successful."""
    return count(database, "workflow_status", "status = 'SUCCESS'")


def wait_finished(database: Path, expected: int) -> None:
    """Wait until that many workflows are recorded as successful."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while (done := finished(database)) < expected:
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {done} of {expected} workflows finished within {DRAIN_SECONDS:.0f} s")
        time.sleep(0.02)


def calls_per_s(call: Callable[[], object], runs: int, callers: int) -> float:
    """Rate of `runs` blocking calls made by that many callers."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        for future in [pool.submit(call) for _ in range(runs)]:
            future.result()
    return runs / (time.perf_counter() - begin)


def queued_per_s(database: Path, runs: int, callers: int) -> float:
    """Rate from the first enqueue to the last workflow recorded as successful."""
    expected = finished(database) + runs
    begin = time.perf_counter()
    calls_per_s(lambda: DBOS.enqueue_workflow(FAST_QUEUE, one_step, time.perf_counter()), runs, callers)
    wait_finished(database, expected)
    return runs / (time.perf_counter() - begin)


def queue_latency(database: Path, queue: str, samples: int, per_second: float) -> Latency:
    """Enqueue at random moments, so that no sample is in step with the poll."""
    started.clear()
    expected = finished(database) + samples
    for _ in range(samples):
        DBOS.enqueue_workflow(queue, one_step, time.perf_counter())
        time.sleep(random.expovariate(per_second))
    wait_finished(database, expected)
    return latency(started)


def direct_latency(samples: int) -> Latency:
    """Call one workflow after another with a pause between."""
    started.clear()
    for _ in range(samples):
        one_step(time.perf_counter())
        time.sleep(0.01)
    return latency(started)


def main() -> None:
    """Measure, check the rows, report."""
    options = arguments(runs=600, concurrency=8)
    runs, callers = options.runs, (1, options.concurrency)
    with tempfile.TemporaryDirectory(prefix="bench-dbos-") as folder:
        database = Path(folder) / "dbos.sqlite"
        DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{database}", "log_level": "WARNING"})
        DBOS.launch()
        DBOS.register_queue(DEFAULT_QUEUE)
        DBOS.register_queue(FAST_QUEUE, polling_interval_sec=0.01)
        one_step(time.perf_counter())
        direct = max(calls_per_s(lambda: one_step(time.perf_counter()), runs, each) for each in callers)
        queued = queued_per_s(database, runs, options.concurrency)
        long = max(calls_per_s(ten_steps, LONG_RUNS, each) for each in callers)
        latencies = {
            "trigger_to_code_ms": direct_latency(100),
            "queue_trigger_to_code_ms": queue_latency(database, DEFAULT_QUEUE, 60, per_second=5),
            "queue_tuned_trigger_to_code_ms": queue_latency(database, FAST_QUEUE, 100, per_second=20),
        }
        short = 1 + 3 * runs + 100 + 60 + 100
        check_rows("DBOS workflows", finished(database), short + 2 * LONG_RUNS)
        check_rows("DBOS steps", count(database, "operation_outputs"), short + 2 * LONG_RUNS * STEPS)
        DBOS.destroy()
    rates = {"one_step_runs_per_s": direct, "queue_runs_per_s": queued, "steps_per_s": long * STEPS}
    notes = ["rollback journal, synchronous FULL (its defaults)", "queue rate and fastest poll: polled every 10 ms"]
    emit(
        {
            "system": "DBOS",
            "version": version("dbos"),
            "store": "SQLite",
            "figures": {**rates, **latencies},
            "notes": notes,
        }
    )


if __name__ == "__main__":
    main()
