"""`make day`: a simulated day of everything at once, with kills; then look whether anything was lost."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from tests.day import campaign
from tests.postgres import PostgresServer


def main() -> int:
    """Run a day; return 1 when anything is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.day", description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0, help="simulated hours (24)")
    parser.add_argument("--rate", type=float, default=240.0, help="simulated seconds to a real one (240)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="what is done, and what dies")
    parser.add_argument("--keep", action="store_true", help="keep the data folder even when all is well")
    parser.add_argument("--store", choices=("sqlite", "wheel", "debian"), default="sqlite", help="or which PostgreSQL")
    options = parser.parse_args()
    if options.store == "sqlite":
        return _day(options)
    with PostgresServer(options.store) as server:
        os.environ["PULLCORD_DATABASE_URL"] = server.url(server.create())
        return _day(options)


def _day(options: argparse.Namespace) -> int:
    folder = Path(tempfile.mkdtemp(prefix="pullcord-day-"))
    again = f"python -m tests.day --hours {options.hours:g} --rate {options.rate:g} --seed {options.seed}"
    print(f"{options.hours:g} simulated hours in {folder}; again: {again}", flush=True)
    told = 0

    def tell(hours: float) -> None:
        nonlocal told
        if int(hours) > told:
            told = int(hours)
            print(f"{told} h", end=" ", flush=True)

    try:
        outcome = campaign.run(folder, options.hours, options.seed, options.rate, tell)
    except BaseException:
        traceback.print_exc()
        print(f"broken off; everything is kept in {folder}; again: {again}")
        return 1
    print()
    _show(outcome)
    for problem in outcome.problems[:50]:
        print(f"✗ {problem}")
    if outcome.problems:
        print(f"{len(outcome.problems)} problems; everything is kept in {folder}; again: {again}")
        return 1
    if not options.keep:
        shutil.rmtree(folder)
    print(f"all is well; everything is kept in {folder}" if options.keep else "all is well")
    return 0


def _show(outcome: campaign.Outcome) -> None:
    def listed(counts: dict[str, int]) -> str:
        return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"

    print(f"done: {listed(outcome.asked)}")
    if outcome.left_out:
        print(f"not there: {', '.join(outcome.left_out)}")
    print(f"refused or asked again for: {listed(outcome.refused)}")
    print(f"died: {listed(outcome.kills)}")
    print(
        f"{outcome.kills.total()} kills, {outcome.restarts} orderly restarts, {outcome.lives} servers, "
        f"{outcome.deploys} changes of the code, {outcome.runs:,} runs, {outcome.told} messages; "
        f"{outcome.seconds[0]:.0f} s for the day, {outcome.seconds[1]:.0f} s in all"
    )


if __name__ == "__main__":
    sys.exit(main())
