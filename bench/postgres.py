"""`python -m bench.postgres`: Pullcord over a PostgreSQL server on this machine."""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import uvloop
from tests.postgres import PostgresServer

import pullcord
from bench import machine
from bench.embedded import callers
from bench.http import SAMPLES, first_line, token_of
from bench.machine import FLOWS
from bench.peers.shape import latency
from bench.server import serving

TARGETS = {
    "one-step runs, async, embedded, runs/s": ">= 2,000",
    "one-step runs, sync, embedded, runs/s": ">= 2,000",
    "one-step runs, async, each awaited to its end, runs/s": "",
    "idle request over HTTP to first line of user code, p50 ms": "<= 5",
    "idle request over HTTP to first line of user code, p99 ms": "",
}
"""What is measured, with what it should reach."""


def main() -> None:
    """Measure over a PostgreSQL server of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000, help="one-step runs in each throughput measurement")
    parser.add_argument("--server", choices=("wheel", "debian"), default="wheel", help="which PostgreSQL")
    options = parser.parse_args()
    print(machine.describe(), flush=True)
    with PostgresServer(options.server) as postgres:
        with postgres.administrator() as connection:
            version = connection.execute("SHOW server_version").fetchone()
        said = version[0] if version else "unknown"
        print(f"settings: PostgreSQL {said}, as installed, synchronous_commit=on, on this machine\n")
        figures = uvloop.run(_embedded(postgres, options.runs)) | _idle(postgres)
        for name, value in figures.items():
            print(f"{name:<65}{value:>12,.2f}  {TARGETS[name]}", flush=True)


async def _embedded(postgres: PostgresServer, runs: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, flow, count, waits in (
        ("one-step runs, async, embedded, runs/s", "one-async", runs, False),
        ("one-step runs, sync, embedded, runs/s", "one-sync", runs, False),
        ("one-step runs, async, each awaited to its end, runs/s", "one-async", runs // 2, True),
    ):
        with tempfile.TemporaryDirectory(prefix="pullcord-bench-") as folder:
            async with pullcord.App([FLOWS], folder, database_url=postgres.url(postgres.create())) as app:
                await app.ready()
                await callers(app, flow, 400, waits)
                figures[name] = count / await callers(app, flow, count, waits)
        await asyncio.sleep(0.5)
    return figures


def _idle(postgres: PostgresServer) -> dict[str, float]:
    os.environ["PULLCORD_DATABASE_URL"] = postgres.url(postgres.create())
    try:
        with serving() as served:
            connection = HTTPConnection(urlsplit(served.url).netloc)
            token = token_of(Path(served.folder))
            samples = [first_line(connection, token) for _ in range(SAMPLES + 100)][100:]
            connection.close()
    finally:
        del os.environ["PULLCORD_DATABASE_URL"]
    figure = latency(samples)
    return {f"idle request over HTTP to first line of user code, {name} ms": figure[name] for name in ("p50", "p99")}


if __name__ == "__main__":
    main()
