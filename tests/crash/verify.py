"""What must be true when all is quiet: asked over HTTP, of `pullcord doctor --deep`, and of what the flows noted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pullcord
from tests.crash.load import Given
from tests.system.harness import Api, Server
from tests.system.processes import poll
from tests.system.witnessed import lines_of

LIMITS = {"single": 1, "narrow": 3}
"""The flows whose runs may not overlap more often, from their first line to their last."""

STEPS = {"alone": 2, "again": 2, "sleeper": 2, "fails": 2, "family": 2, "child": 2}
"""How many steps a flow has; three where it is not named."""

TRIES = {"insists": 1, "again": 0}
"""How many tries of a step a flow uses up by itself."""

OPEN = ("scheduled", "queued", "running", "waiting", "cancelling")


def settle(api: Api, patience: float) -> list[str]:
    """Wait until no run is left that has not ended; return those for which that took too long."""
    try:
        # Each state is asked for by itself, so that a run which changes its state meanwhile may be missed once.
        poll(lambda: not _open(api) and not _open(api), patience)
    except AssertionError:
        return [f"run {run['id']} of {run['flow']} is still {run['state']}" for run in _open(api)]
    return []


def _open(api: Api) -> list[dict[str, Any]]:
    return [run for state in OPEN for run in api.get("/v1/runs", state=state, limit="10").body["items"]]


def every(api: Api, path: str, **filters: str) -> Iterator[dict[str, Any]]:
    """Yield all items of a list."""
    query = {"limit": "500"} | filters
    while True:
        page = api.get(path, **query).body
        yield from page["items"]
        if page["next"] is None:
            return
        query["cursor"] = page["next"]


def problems(server: Server, given: Given, log: Path) -> list[str]:
    """Return everything that is not as it must be; the server is up and idle."""
    runs = {run["id"]: run for run in every(server.api, "/v1/runs")}
    lines = lines_of(log)
    return [
        *given.wrong,
        *_receipts(given, runs),
        *_ends(given, runs),
        *_once(runs.values()),
        *_executions(runs, lines),
        *_overlaps(lines),
        *server_log(server),
        *doctor(server.data_dir),
    ]


def _receipts(given: Given, runs: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """Every receipt can be looked up."""
    for receipt in given.receipts:
        run = runs.get(receipt["run_id"])
        if run is None or run["request_id"] != receipt["request_id"] or run["flow"] != receipt["flow"]:
            yield f"the receipt {receipt} belongs to {run}"


def _ends(given: Given, runs: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """Every run ended as its flow should; only a run that lost its worker again and again may have failed of it."""
    lost = {run["id"] for run in runs.values() if (run["error"] or {}).get("type") == "worker_lost"}
    for run in runs.values():
        state, error = run["state"], run["error"] or {}
        if state == "cancelled":
            if run["id"] not in given.cancelled and run["parent_id"] not in given.cancelled:
                yield f"run {run['id']} of {run['flow']} is cancelled, and nobody asked for it"
        elif run["id"] in lost:
            if run["takeovers"] < 3:
                yield f"run {run['id']} failed with worker_lost after {run['takeovers']} take-overs"
        elif run["flow"] == "fails":
            if (state, error.get("message")) != ("failed", "as it should"):
                yield f"run {run['id']} of fails is {state}: {error}"
        elif state != "succeeded" and not (run["flow"] == "family" and _child_of(run["id"], runs) != "succeeded"):
            yield f"run {run['id']} of {run['flow']} is {state}: {error}"


def _child_of(parent: str, runs: Mapping[str, dict[str, Any]]) -> str | None:
    return next((run["state"] for run in runs.values() if run["parent_id"] == parent), None)


def _once(runs: Iterable[dict[str, Any]]) -> Iterator[str]:
    """One intent is one run. Intents below zero are re-runs, which carry no key."""
    found = Counter((run["flow"], run["inputs"]["intent"]) for run in runs if run["rerun_of"] is None)
    for (flow, intent), count in found.items():
        if count > 1 and intent > 0 and flow != "child":
            yield f"intent {intent} for {flow} became {count} runs"


def _executions(runs: Mapping[str, dict[str, Any]], lines: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A step whose record was acknowledged never runs again: once the next one has begun, it is seen no more.

    And a step is executed again only where a worker or a server was lost.
    """
    latest: dict[str, int] = {}
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    ended: set[str] = set()
    for line in lines:
        run, step = line["run"], line["what"]
        if line["kind"] == "end":
            ended.add(run)
        if line["kind"] != "step":
            continue
        before = latest.get(run, -1)
        if step not in (before, before + 1):
            yield f"run {run} of {line['flow']} executed step {step} after step {before}"
        latest[run] = step
        counts[run][step] += 1
    for run_id, steps in counts.items():
        run = runs.get(run_id)
        if run is None:
            yield f"run {run_id} was executed, and nobody knows it"
            continue
        most = 1 + run["takeovers"] + TRIES.get(run["flow"], 0)
        if max(steps.values()) > most:
            yield f"run {run_id} of {run['flow']} executed a step {max(steps.values())} times, {most} at most"
    for run in runs.values():
        if run["state"] == "succeeded":
            wanted = set(range(STEPS.get(run["flow"], 3)))
            if set(counts[run["id"]]) != wanted or run["id"] not in ended:
                yield f"run {run['id']} of {run['flow']} succeeded with steps {sorted(counts[run['id']])}"


def _overlaps(lines: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Limits hold: by what the flows saw of a lock, and by the times from the first to the last line of each run."""
    spans: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for line in lines:
        if line["kind"] == "overlap":
            yield f"run {line['run']} of {line['flow']} began while another one held the lock"
        spans[line["flow"]].setdefault(line["run"], []).append(line["at"])
    for flow, limit in LIMITS.items():
        changes = sorted(
            change for times in spans[flow].values() for change in ((min(times), 1), (max(times), -1))
        )  # fmt: skip
        at_once = most = 0
        for _, change in changes:
            at_once += change
            most = max(most, at_once)
        if most > limit:
            yield f"{most} runs of {flow} at once, {limit} at most"


def server_log(server: Server) -> Iterator[str]:
    """A traceback through the server's own code is a bug."""
    package = str(pullcord.__path__[0])
    said = server.says
    if package in said:
        place = said.index(package)
        yield f"the server's log {server.log} has a traceback: …{said[max(0, place - 300) : place + 700]}"


def doctor(data_dir: Path) -> list[str]:
    """Return what `pullcord doctor --deep` finds wrong."""
    done = subprocess.run(
        [sys.executable, "-m", "pullcord", "doctor", "--deep", "--json", "--data-dir", str(data_dir)],
        capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"}, check=False,
    )  # fmt: skip
    if not done.stdout:
        return [f"pullcord doctor ended with {done.returncode}: {done.stderr}"]
    answer = json.loads(done.stdout)
    found = [f"doctor: {it['name']}: {it['text']}" for it in answer["findings"] if it["state"] == "wrong"]
    if not answer["invariants"]:
        found.append("doctor checked no rules")
    if (done.returncode != 0) != bool(found) and answer["invariants"]:
        found.append(f"doctor ended with {done.returncode}, and found {len(found)} things wrong")
    return found
