"""The shape every system reports its figures in, shared by the harness and the scripts that run inside the peers.

Standard library only: each peer script imports this from an environment that holds the peer and nothing of ours.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import NotRequired, TypedDict


class Latency(TypedDict):
    """A latency in milliseconds; with fewer than 100 samples p99 is simply the worst one."""

    p50: float
    p99: float
    samples: NotRequired[int]


Figures = dict[str, float | Latency]


class Report(TypedDict):
    """What one system measured; a figure it has no equivalent of is left out."""

    system: str
    version: str
    store: str
    figures: Figures
    notes: NotRequired[list[str]]


def latency(seconds: Sequence[float]) -> Latency:
    """Nearest-rank percentiles of samples given in seconds."""
    if not seconds:
        raise ValueError("no latency samples were taken")
    ranked = sorted(seconds)

    def rank(share: float) -> float:
        return round(ranked[math.ceil(share * len(ranked)) - 1] * 1000, 3)

    return {"p50": rank(0.50), "p99": rank(0.99), "samples": len(ranked)}


def check_rows(what: str, found: int, expected: int) -> None:
    """Refuse to report a speed for work the store does not show."""
    if found != expected:
        raise RuntimeError(f"{what}: the store holds {found} rows, expected {expected}")


def arguments(runs: int, concurrency: int) -> argparse.Namespace:
    """Command line shared by the peer scripts, with a default size for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=runs, help="one-step runs in each throughput measurement")
    parser.add_argument("--concurrency", type=int, default=concurrency, help="callers at the same time")
    return parser.parse_args()


def emit(report: Report) -> None:
    """Print the one JSON object the harness reads."""
    json.dump(report, sys.stdout)
    sys.stdout.write("\n")
