"""Measure Prefect on SQLite. Runs inside the Prefect environment and prints one JSON report.

Everything is at its defaults but for telemetry (off), logs (quieter) and the poll of the served deployment: a second,
its minimum, not ten; the last two favour Prefect. In-process rates are the better of one and `--concurrency` callers.
"""

# Prefect is imported inside functions, once its server is up: it reads its settings when imported.
# mypy: disable-error-code="import-not-found"

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path

from bench.peers.prefect_server import completed, module_running, server, wait_for
from bench.peers.shape import Figures, Latency, arguments, check_rows, emit, latency

LONG_RUNS = 5
SERVED_RUNS = 4
DIRECT_SAMPLES, SERVED_SAMPLES = 15, 3
DRAIN_SECONDS = 60.0


async def calls_per_s(call: Callable[[], Awaitable[object]], runs: int, callers: int) -> float:
    """Rate of `runs` awaited calls, that many at a time."""
    gate = asyncio.Semaphore(callers)

    async def one() -> None:
        async with gate:
            await call()

    begin = time.monotonic()
    await asyncio.gather(*(one() for _ in range(runs)))
    return runs / (time.monotonic() - begin)


async def in_process(runs: int, concurrency: int) -> tuple[float, float, Latency]:
    """Call flows in this process: one-step runs a second, steps a second, latency when idle."""
    from bench.peers import prefect_flows as flows

    await flows.one_step(time.monotonic())
    flows.started.clear()
    for _ in range(DIRECT_SAMPLES):
        await flows.one_step(time.monotonic())
        await asyncio.sleep(0.3)
    idle = latency(flows.started)
    callers = (1, concurrency)
    short = [await calls_per_s(lambda: flows.one_step(time.monotonic()), runs, each) for each in callers]
    long = [await calls_per_s(flows.ten_steps, LONG_RUNS, each) for each in callers]
    return max(short), max(long) * flows.STEPS, idle


def served(log: Path) -> tuple[float, Latency]:
    """Trigger a served deployment, a process a run, through the API: runs a second, latency when idle."""
    from prefect.deployments import run_deployment

    from bench.peers.prefect_flows import DEPLOYMENT, served_flow

    def trigger() -> None:
        run_deployment(DEPLOYMENT, parameters={"triggered": time.monotonic(), "log": str(log)}, timeout=0)

    def drain(expected: int) -> None:
        wait_for("served runs", lambda: completed("flow_runs", served_flow.name) >= expected, DRAIN_SECONDS)

    trigger()  # not counted: it also connects
    drain(1)
    log.unlink()
    for number in range(SERVED_SAMPLES):
        trigger()
        drain(number + 2)
    idle = latency([float(line) for line in log.read_text(encoding="utf-8").split()])
    begin = time.monotonic()
    for _ in range(SERVED_RUNS):
        trigger()
    drain(1 + SERVED_SAMPLES + SERVED_RUNS)
    return SERVED_RUNS / (time.monotonic() - begin), idle


def check(short: int, long: int) -> None:
    """Compare the server's records with what was run; task runs are recorded a while after their flow has returned."""
    from bench.peers.prefect_flows import STEPS

    steps = short + long * STEPS
    check_rows("Prefect flow runs", completed("flow_runs"), short + long)
    wait_for(f"{steps} recorded task runs", lambda: completed("task_runs") >= steps, DRAIN_SECONDS)
    check_rows("Prefect task runs", completed("task_runs"), steps)


def main() -> None:
    """Start the server, measure, check the rows, report."""
    options = arguments(runs=16, concurrency=2)
    with tempfile.TemporaryDirectory(prefix="bench-prefect-") as name:
        folder = Path(name)
        with server(folder):
            short, steps, direct = asyncio.run(in_process(options.runs, options.concurrency))
            runner = module_running(
                "bench.peers.prefect_flows", log=folder / "runner.log", ready_path="/deployments/name/served-flow/bench"
            )
            with runner:
                queued, queue_idle = served(folder / "served.txt")
            in_process_runs = 1 + DIRECT_SAMPLES + 2 * options.runs
            check(in_process_runs + 1 + SERVED_SAMPLES + SERVED_RUNS, 2 * LONG_RUNS)
    figures: Figures = {
        "one_step_runs_per_s": short,
        "queue_runs_per_s": queued,
        "steps_per_s": steps,
        "trigger_to_code_ms": direct,
        "queue_tuned_trigger_to_code_ms": queue_idle,
    }
    notes = [
        "WAL, synchronous NORMAL (its defaults)",
        "queued = a served deployment polled every second, not ten",
        f"p99 is the worst of {DIRECT_SAMPLES} calls and {SERVED_SAMPLES} served runs",
    ]
    emit({"system": "Prefect", "version": version("prefect"), "store": "SQLite", "figures": figures, "notes": notes})


if __name__ == "__main__":
    main()
