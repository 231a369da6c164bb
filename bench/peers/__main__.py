"""`python -m bench.peers`: measure DBOS and Prefect here and print their figures, next to Pullcord's when given them.

A ratio above one means Pullcord is better: Pullcord/peer for rates, peer/Pullcord for latencies.
"""

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from bench.peers.runner import PEERS, ROOT, PeerError, measure
from bench.peers.shape import Figures, Report

RESULTS = ROOT / "bench" / "results" / "peers.json"
TITLES = {
    "one_step_runs_per_s": "one-step runs/s, called directly",
    "queue_runs_per_s": "one-step runs/s, queued",
    "steps_per_s": "steps/s, ten a run",
    "trigger_to_code_ms": "trigger to code, direct",
    "queue_trigger_to_code_ms": "trigger to code, queued",
    "queue_tuned_trigger_to_code_ms": "trigger to code, queued, fastest poll",
}


def flat(figures: Figures) -> dict[str, tuple[float, bool]]:
    """One value a table row: what it is, its value and whether lower is better."""
    rows: dict[str, tuple[float, bool]] = {}
    for key, value in figures.items():
        title = TITLES.get(key, key)
        if isinstance(value, dict):
            rows[f"{title}, p50 ms"] = (value["p50"], True)
            rows[f"{title}, p99 ms"] = (value["p99"], True)
        else:
            rows[title] = (value, False)
    return rows


def ratio(ours: tuple[float, bool] | None, theirs: tuple[float, bool] | None) -> str:
    """How many times better ours is, or a dash when there is nothing to compare."""
    if ours is None or theirs is None or not ours[0] or not theirs[0]:
        return "-"
    value = theirs[0] / ours[0] if ours[1] else ours[0] / theirs[0]
    return f"x{value:,.3g}" if value < 100 else f"x{value:,.0f}"


def table(peers: list[Report], pullcord: Report | None) -> str:
    """Lay the figures out in plain text, a row each, in the order of `TITLES`."""
    systems = ([pullcord] if pullcord else []) + peers
    columns = [flat(system["figures"]) for system in systems]
    known = list(flat({key: {"p50": 0, "p99": 0} if key.endswith("_ms") else 0 for key in TITLES}))
    titles = [title for title in known if any(title in column for column in columns)]
    titles += [title for title in dict.fromkeys(row for column in columns for row in column) if title not in titles]
    lines = [[""]]
    for system in systems:
        lines[0].append(f"{system['system']} {system['version']}, {system['store']}")
        if pullcord and system is not pullcord:
            lines[0].append("Pullcord is")
    for title in titles:
        line = [title]
        for system, column in zip(systems, columns, strict=True):
            line.append(f"{column[title][0]:,.1f}" if title in column else "-")
            if pullcord and system is not pullcord:
                line.append(ratio(columns[0].get(title), column.get(title)))
        lines.append(line)
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    text = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
    notes = [f"{system['system']}: {'; '.join(system['notes'])}" for system in systems if system.get("notes")]
    return "\n".join([*text, "", *notes])


def read_report(path: str) -> Report:
    """Read Pullcord's own figures."""
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        flat(report["figures"])
        table([report], None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise argparse.ArgumentTypeError(f"{path} holds no figures in the expected shape: {error!r}") from None
    return cast(Report, report)


def main() -> int:
    """Measure the peers asked for; the exit status is 1 when any of them failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="peer", help=f"which of {', '.join(PEERS)} (default: all)")
    parser.add_argument("--pullcord", type=read_report, metavar="FILE", help="JSON report to compare with")
    options = parser.parse_args()
    if unknown := set(options.peers) - set(PEERS):
        parser.error(f"unknown peer: {', '.join(sorted(unknown))}")
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "load_before": round(os.getloadavg()[0], 2)}
    reports: list[Report] = []
    failures: dict[str, str] = {}
    for name in options.peers or PEERS:
        try:
            reports.append(measure(PEERS[name]))
        except (PeerError, OSError) as error:
            failures[name] = str(error)
    results = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine, "peers": reports}
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps({**results, "failures": failures}, indent=2) + "\n", encoding="utf-8")
    if reports or options.pullcord:
        print(table(reports, options.pullcord))
    for name, problem in failures.items():
        print(f"\n{name} FAILED: {problem}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
