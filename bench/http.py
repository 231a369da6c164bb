"""The HTTP side: single POSTs over 64 connections, `client.run_many`, and the time to the first line of user code."""

from __future__ import annotations

import json
import multiprocessing
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.load import post_many
from bench.peers.shape import latency
from bench.server import Served, serving
from pullcord import Client

CONNECTIONS = 64
SAMPLES = 1_000


def measure(runs: int) -> dict[str, float]:
    """Return the figures of a served Pullcord."""
    figures: dict[str, float] = {}
    for way in ("async", "sync"):
        with serving() as served:
            token = (served.folder / "token").read_text(encoding="ascii").strip()
            _loaded(served, token, f"one-{way}", 2_000)
            figures[f"one HTTP POST a run, {way}, runs/s"] = runs / 2 / _loaded(served, token, f"one-{way}", runs // 2)
    for way in ("async", "sync"):
        with serving() as served, Client(served.url, token_of(served.folder)) as client:
            figures[f"client.run_many, {way}, runs/s"] = runs / _run_many(client, f"one-{way}", runs)
    with serving() as served:
        connection = HTTPConnection(urlsplit(served.url).netloc)
        samples = [first_line(connection, token_of(served.folder)) for _ in range(SAMPLES + 100)][100:]
        connection.close()
        figure = latency(samples)
        figures["HTTP request to first line of user code, p50 ms"] = figure["p50"]
        figures["HTTP request to first line of user code, p99 ms"] = figure["p99"]
    return figures


def token_of(folder: Path) -> str:
    return (folder / "token").read_text(encoding="ascii").strip()


def _loaded(served: Served, token: str, flow: str, count: int) -> float:
    """Post from a process of its own; return the seconds from the first request until the last run has ended."""
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe()
    load = context.Process(target=post_many, args=(theirs, served.url, token, flow, count, CONNECTIONS))
    load.start()
    with Client(served.url, token) as client:
        began: float = ours.recv()
        load.join()
        if load.exitcode != 0:
            raise RuntimeError("the load generator failed")
        _until_idle(client)
        return time.monotonic() - began


def _run_many(client: Client, flow: str, count: int) -> float:
    requests: list[Any] = [(flow, {"n": number}) for number in range(count)]
    began = time.perf_counter()
    receipts = client.run_many(requests)
    if any(receipt.run_id is None for receipt in receipts):
        raise RuntimeError("not every request was admitted")
    _until_idle(client)
    return time.perf_counter() - began


def _until_idle(client: Client) -> None:
    while any(client.runs.list(state=state, limit=1) for state in ("queued", "running")):
        time.sleep(0.005)


def first_line(connection: HTTPConnection, token: str) -> float:
    """Return the seconds from before a request to the first line of user code."""
    headers = {"Authorization": f"Bearer {token}"}
    began = time.time_ns()
    connection.request("POST", "/v1/runs?wait=10s", b'{"flow":"first-line"}', headers)
    receipt = json.load(connection.getresponse())
    return float(receipt["run"]["result"] - began) / 1e9
