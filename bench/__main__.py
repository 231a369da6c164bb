"""`python -m bench`: measure Pullcord as users run it, print the figures with machine and settings, and the targets."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench import embedded, http, machine, recovery, server
from bench.peers.shape import Figures

TARGETS: dict[str, str] = {
    "embedded, async, runs/s": ">= 10,000",
    "embedded, sync, runs/s": ">= 7,000",
    "embedded, async, each awaited to its end, runs/s": "",
    "recorded steps/s, async, ten a run": ">= 10,000",
    "recorded steps/s, sync, ten a run": "",
    "client.run_many, async, runs/s": ">= 10,000",
    "client.run_many, sync, runs/s": ">= 7,000",
    "one HTTP POST a run, async, runs/s": ">= 4,440",
    "one HTTP POST a run, sync, runs/s": ">= 4,440",
    "HTTP request to first line of user code, p50 ms": "<= 1.5",
    "HTTP request to first line of user code, p99 ms": "<= 6",
    "serve ready, s": "<= 1.0",
    "proportional set size, server and workers, MB": "<= 150",
    "idle CPU, %": "<= 0.5",
    "bytes on disk for a one-step run": "<= 1,024",
    "serve ready after kill -9, 200 runs active and 10,000 queued, s": "",
    "ready to first dispatch after that, s": "<= 1.0",
    "ready to all 200 going on, s": "",
}
"""What is measured, in the order it is printed, with what it should reach."""


def main() -> None:
    """Measure everything and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=40_000, help="one-step runs in each throughput measurement")
    parser.add_argument("--ten-step-runs", type=int, default=20_000, help="runs of ten steps each")
    parser.add_argument("--json", type=Path, help="also write the figures in the shape the peers report")
    options = parser.parse_args()
    print(machine.describe(), flush=True)
    print(
        f"settings: SQLite, WAL, synchronous=FULL; {machine.WORKERS} run workers; {options.runs:,} runs a measurement\n"
    )
    figures: dict[str, float] = {}
    for part in (
        lambda: server.measure(),
        lambda: embedded.measure(options.runs, options.ten_step_runs),
        lambda: http.measure(options.runs),
        lambda: recovery.measure(),
    ):
        for name, value in part().items():
            figures[name] = value
            print(f"{name:<65}{value:>12,.2f}  {TARGETS[name]}", flush=True)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(_as_peer(figures), indent=2), encoding="utf-8")


def _as_peer(figures: dict[str, float]) -> dict[str, object]:
    """Return the figures under the keys of the peers; Pullcord has one path, so queued and direct are the same."""
    import pullcord

    latency = {
        "p50": figures["HTTP request to first line of user code, p50 ms"],
        "p99": figures["HTTP request to first line of user code, p99 ms"],
    }
    peer: Figures = {
        "one_step_runs_per_s": figures["embedded, async, each awaited to its end, runs/s"],
        "queue_runs_per_s": figures["embedded, async, runs/s"],
        "steps_per_s": figures["recorded steps/s, async, ten a run"],
        "trigger_to_code_ms": latency,  # type: ignore[dict-item]
        "queue_trigger_to_code_ms": latency,  # type: ignore[dict-item]
        "queue_tuned_trigger_to_code_ms": latency,  # type: ignore[dict-item]
    }
    notes = ["every path is durable and queued; latencies include HTTP"]
    return {"system": "Pullcord", "version": pullcord.__version__, "store": "SQLite", "figures": peer, "notes": notes}


if __name__ == "__main__":
    main()
