"""`python -m bench.triggers`: schedules and events of a server: processor time, lateness, memory, bad neighbours."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import signal
import sqlite3
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.request import urlopen

from bench import machine
from bench.peers.runner import Peer, PeerError
from bench.peers.runner import measure as measure_peer
from bench.peers.shape import check_rows, latency
from bench.server import Served, proportional, serving
from bench.watched.tally import read
from pullcord.triggers.events import PACE

WATCHED = Path(__file__).with_name("watched")
EVERY = 5.0
"""Cadence of the many events, seconds."""

TARGETS: dict[str, str] = {
    "events: polls/s": "= 2,000",
    "events: CPU, %": "<= 35",
    "events: memory, MB": "<= 250",
    "events: lateness of the poll leaving, p99 ms": "<= 100",
    "events: lateness of its function, p99 ms": "<= 100",
    "events: lateness of its function, worst ms": "",
    "events, 1,000 firing: CPU, %": "<= 35",
    "events, 1,000 firing: memory, MB": "<= 250",
    "events, 1,000 firing: lateness of its function, p99 ms": "<= 100",
    "events, 1,000 firing: lateness of its function, worst ms": "",
    "events, 1,000 firing: fires/s": "= 200",
    "events, 1,000 firing: fires lost": "= 0",
    "crons: first start, s": "",
    "crons: first start to all registered, s": "",
    "crons: later start, s": "<= 2",
    "crons: lateness with 1,000 in a second, p50 ms": "",
    "crons: lateness with 1,000 in a second, p99 ms": "<= 100",
    "crons: lateness with 1,000 in a second, worst ms": "",
    "crons: ticks lost": "= 0",
    "crons: CPU, %": "",
    "crons: memory, MB": "",
    "fire to first line, p50 ms": "<= 5",
    "fire to first line, p99 ms": "",
}
"""What is measured, with what it should reach; gaps beside bad neighbours should be at most 1,000 ms."""

UNRULY = ("", "hangs", "raises", "holds", "blocks", "floods", "hangs,raises,holds,blocks,floods")
CADENCE = 0.5
"""Cadence of the ordinary events beside bad neighbours, seconds."""


def main() -> None:
    """Measure what is asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = {"events": events, "crons": crons, "unruly": unruly, "prompt": prompt, "peers": peers}
    parser.add_argument("parts", nargs="*", metavar="part", help=f"which of {', '.join(parts)} (default: all)")
    parser.add_argument("--events", type=int, default=10_000, help="how many events are polled every five seconds")
    parser.add_argument("--crons", type=int, default=100_000, help="how many cron schedules there are")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each steady state is measured")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(parts):
        parser.error(f"unknown part: {', '.join(sorted(unknown))}")
    print(machine.describe(), flush=True)
    print(
        f"settings: SQLite, WAL, synchronous=FULL; {machine.WORKERS} run workers; {options.events:,} async events "
        f"every {EVERY:g} s; {options.crons:,} cron schedules; {options.seconds:g} s each\n"
    )
    figures: dict[str, float] = {}
    for name in options.parts or parts:
        for figure, value in parts[name](options):
            figures[figure] = value
            print(f"{figure:<75}{value:>12,.2f}  {TARGETS.get(figure, '')}", flush=True)
        print(f"load after {name}: {os.getloadavg()[0]:.2f}\n", flush=True)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"machine": machine.describe(), "figures": figures}, indent=2), "utf-8")


Found = Iterator[tuple[str, float]]


@contextmanager
def served(what: str, folder: Path, **settings: object) -> Iterator[Served]:
    """Serve one of the watched files; data and notes are kept in a folder."""
    notes = folder / "notes"
    notes.mkdir(exist_ok=True)
    given = {"BENCH_NOTES": str(notes)} | {f"BENCH_{name.upper()}": str(value) for name, value in settings.items()}
    os.environ |= given
    try:
        with serving(folder / "data", WATCHED / f"{what}.py") as server:
            yield server
    finally:
        for name in given:
            del os.environ[name]


def cpu(server: Served) -> float:
    """Return the processor time that all processes have used, seconds."""
    processes = [server.process, *server.process.children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def memory(server: Served) -> float:
    """Return the proportional set size of all processes, MB."""
    processes = [server.process, *server.process.children(recursive=True)]
    return sum(proportional(process.pid) for process in processes) / 1000


def ask(folder: Path, query: str) -> list[tuple[int, ...]]:
    """Read from the store of a server."""
    with closing(sqlite3.connect(folder / "data" / "pullcord.db")) as connection:
        return connection.execute(query).fetchall()


def until(folder: Path, query: str, wanted: int) -> float:
    """Wait until a query counts so many; return the time."""
    while (now := ask(folder, query)[0][0]) != wanted:
        if now > wanted:
            raise RuntimeError(f"{query}: {now}, not {wanted}")
        time.sleep(0.02)
    return time.perf_counter()


# --- many events ---------------------------------------------------------------------------------


def events(options: argparse.Namespace) -> Found:
    """Poll many events, then have a tenth of them fire at every poll."""
    with tempfile.TemporaryDirectory(prefix="pullcord-bench-") as name:
        folder = Path(name)
        firing = folder / "firing"
        with served("events", folder, triggers=options.events, firing=firing) as server:
            until(folder, "SELECT count(*) FROM triggers", options.events)
            time.sleep(3 * EVERY)
            yield from steady("events", folder, server, options)
            firing.touch()
            time.sleep(2 * EVERY)
            yield from steady("events, 1,000 firing", folder, server, options)
            firing.unlink()
            time.sleep(2.0)
            fires = sum(1 for _ in read(folder / "notes", "fires"))
            told = "SELECT count(*), count(DISTINCT inputs) FROM requests WHERE outcome = 'admitted'"
            admitted, different = ask(folder, told)[0]
            check_rows("different contexts", different, admitted)
            yield "events, 1,000 firing: fires lost", fires - admitted


def steady(what: str, folder: Path, server: Served, options: argparse.Namespace) -> Found:
    """Measure processor time, memory and lateness for a while."""
    before, buckets, began = cpu(server), lateness(server), time.monotonic()
    time.sleep(options.seconds)
    used, ended = cpu(server) - before, time.monotonic()
    yield f"{what}: CPU, %", used / (ended - began) * 100
    yield f"{what}: memory, MB", memory(server)
    left = share(buckets, lateness(server), 0.99)
    if left is not None:
        yield f"{what}: lateness of the poll leaving, p99 ms", left * 1000
    time.sleep(1.0)
    during = [note for note in read(folder / "notes", "polls") if began <= note[1] / 1e9 < ended]
    yield f"{what}: polls/s", len(during) / (ended - began)
    late = sorted(phases([(number, at) for number, at, _ in during]))
    yield f"{what}: lateness of its function, p50 ms", statistics.median(late) * 1000
    yield f"{what}: lateness of its function, p99 ms", late[int(len(late) * 0.99)] * 1000
    yield f"{what}: lateness of its function, worst ms", late[-1] * 1000
    if "firing" in what:
        fired = sum(1 for _, at, _ in read(folder / "notes", "fires") if began <= at / 1e9 < ended)
        yield f"{what}: fires/s", fired / (ended - began)


def phases(notes: list[tuple[int, int]]) -> Iterator[float]:
    """Yield by how many seconds each function ran later than its poll was due.

    First polls are due one after the other at a fixed distance, and all later ones one cadence after another. So the
    place in the cadence at which an event is due follows from its number; the earliest of all polls counts as on time.
    """
    places = [(at / 1e9 - number * PACE) % EVERY for number, at in notes]
    # The places are close together. They are counted from the opposite side of the cadence, so that none wraps around.
    far = (statistics.median((place - places[0] + EVERY / 2) % EVERY for place in places) + places[0]) % EVERY
    places = [(place - far) % EVERY for place in places]
    earliest = min(places)
    yield from (place - earliest for place in places)


def lateness(server: Served) -> list[tuple[float, int]] | None:
    """Return what the server says of how late polls left: bounds in seconds, and how many were within each."""
    with urlopen(f"{server.url}/metrics") as answer:
        text = answer.read().decode()
    found = re.findall(r'^pullcord_poll_lateness_seconds_bucket\{le="([^"]+)"\} (\d+)', text, re.MULTILINE)
    return [(float(bound), int(count)) for bound, count in found] or None


def share(before: list[tuple[float, int]] | None, after: list[tuple[float, int]] | None, wanted: float) -> float | None:
    """Return the bound below which that share of the polls in between stayed."""
    if before is None or after is None:
        return None
    counts = [(bound, now - then) for (bound, now), (_, then) in zip(after, before, strict=True)]
    return next(bound for bound, count in counts if count >= counts[-1][1] * wanted)


# --- many schedules ------------------------------------------------------------------------------


def crons(options: argparse.Namespace) -> Found:
    """Start with many schedules, twice, and have a hundredth of them due in the same second."""
    with tempfile.TemporaryDirectory(prefix="pullcord-bench-") as name:
        folder = Path(name)
        began = time.perf_counter()
        with served("crons", folder, triggers=options.crons) as first:
            yield "crons: first start, s", first.ready
            registered = until(folder, "SELECT count(*) FROM triggers", options.crons)
            yield "crons: first start to all registered, s", registered - began
            time.sleep(2.0)
        starts = []
        for _ in range(4):
            with served("crons", folder, triggers=options.crons) as later:
                starts.append(later.ready)
                time.sleep(3.0)
        yield "crons: later start, s", statistics.median(starts)
        with served("crons", folder, triggers=options.crons) as server:
            time.sleep(10.0)
            newest = ask(folder, "SELECT coalesce(max(id), 0) FROM requests")[0][0]
            calm(server)
            before, began = cpu(server), time.monotonic()
            time.sleep(options.seconds)
            yield "crons: CPU, %", (cpu(server) - before) / (time.monotonic() - began) * 100
            yield "crons: memory, MB", memory(server)
            calm(server)
            due = "scheduled_for % 60000000 / 1000000 IN (5, 25, 45)"
            rows = ask(folder, f"SELECT at - scheduled_for, scheduled_for FROM requests WHERE id > {newest} AND {due}")
            seconds = len({row[1] for row in rows})
            late = latency([row[0] / 1e6 for row in rows])
            yield "crons: lateness with 1,000 in a second, p50 ms", late["p50"]
            yield "crons: lateness with 1,000 in a second, p99 ms", late["p99"]
            yield "crons: lateness with 1,000 in a second, worst ms", max(row[0] for row in rows) / 1000
            yield "crons: seconds with 1,000 due", seconds
            yield "crons: ticks lost", seconds * (options.crons // 100) - len(rows)


def calm(server: Served) -> None:
    """Wait for a moment between the seconds in which many are due."""
    while not 10 <= time.time() % 20 < 12:
        time.sleep(0.05)


# --- bad neighbours ------------------------------------------------------------------------------


def unruly(options: argparse.Namespace) -> Found:
    """Poll ordinary events beside ones that misbehave, and find the largest gap between two polls of any."""
    for who in UNRULY:
        with tempfile.TemporaryDirectory(prefix="pullcord-bench-") as name:
            folder = Path(name)
            with served("unruly", folder, unruly=who):
                time.sleep(min(options.seconds, 40.0))
            polls: dict[int, list[int]] = defaultdict(list)
            for number, at, _ in read(folder / "notes", "polls"):
                polls[number].append(at)
            check_rows("ordinary events", len(polls), 200)
            gaps: list[float] = []
            for times in polls.values():
                times.sort()
                gaps += [(later - earlier) / 1e6 for earlier, later in itertools.pairwise(times)]
            gaps.sort()
            label = f"beside one that {who}" if who and "," not in who else "beside all of them" if who else "alone"
            yield f"200 events every 500 ms, {label}: largest gap, ms", gaps[-1]
            yield f"200 events every 500 ms, {label}: p99.9 gap, ms", gaps[int(len(gaps) * 0.999)]
            yield f"200 events every 500 ms, {label}: gaps over 1 s", sum(gap > 1000 for gap in gaps)
            yield (
                f"200 events every 500 ms, {label}: polls of bad ones",
                sum(1 for _ in read(folder / "notes", "unruly")),
            )


# --- one that fires ------------------------------------------------------------------------------


def prompt(options: argparse.Namespace) -> Found:
    """Measure from a fire to the first line of the flow."""
    with tempfile.TemporaryDirectory(prefix="pullcord-bench-") as name:
        folder = Path(name)
        with served("prompt", folder):
            time.sleep(min(options.seconds, 30.0))
        rows = ask(folder, "SELECT CAST(result AS INTEGER) FROM runs WHERE state = 'succeeded' ORDER BY id")[20:]
        figure = latency([row[0] / 1e9 for row in rows])
        yield "fire to first line, p50 ms", figure["p50"]
        yield "fire to first line, p99 ms", figure["p99"]


# --- others --------------------------------------------------------------------------------------


def peers(options: argparse.Namespace) -> Found:
    """Measure what others need for as many async functions; they keep nothing on disk."""
    try:
        report = measure_peer(Peer("apscheduler", options.events, round(EVERY), 400))
    except (PeerError, OSError) as error:
        print(f"the peers FAILED: {error}")
        return
    for figure, value in report["figures"].items():
        if isinstance(value, float | int):
            yield figure, value


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: exit(1))
    main()
