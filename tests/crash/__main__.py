"""`make crash`: kill processes a thousand times under load, and look whether anything was lost."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tests.crash import campaign
from tests.postgres import PostgresServer

QUIETLY = 50
"""Where stdout is no terminal, a line is written for so many kills."""


def main() -> int:
    """Run a campaign; return 1 when anything is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="how many processes die (1000)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="what is asked for, and what dies")
    parser.add_argument("--keep", action="store_true", help="keep the data folder even when all is well")
    parser.add_argument("--store", choices=("sqlite", "wheel", "debian"), default="sqlite", help="or which PostgreSQL")
    options = parser.parse_args()
    if options.store == "sqlite":
        return _campaign(options)
    with PostgresServer(options.store) as server:
        os.environ["PULLCORD_DATABASE_URL"] = server.url(server.create())
        return _campaign(options)


def _campaign(options: argparse.Namespace) -> int:
    console = Console(highlight=False)
    folder = Path(tempfile.mkdtemp(prefix="pullcord-crash-"))
    console.print(f"seed {options.seed}, {options.kills} kills, everything in {folder}")
    try:
        outcome = _watched(console, folder, options.kills, options.seed)
    except BaseException:
        traceback.print_exc()
        console.print(f"[red]broken off[/]; seed {options.seed}, everything is kept in {folder}", soft_wrap=True)
        return 1
    _show(console, outcome)
    if outcome.problems:
        for problem in outcome.problems[:50]:
            console.print(f"✗ {problem}", style="red", markup=False, soft_wrap=True)
        console.print(f"{len(outcome.problems)} problems; seed {options.seed}, everything is kept in {folder}")
        return 1
    if options.keep:
        console.print(f"all is well; everything is kept in {folder}")
    else:
        shutil.rmtree(folder)
        console.print("all is well")
    return 0


def _watched(console: Console, folder: Path, kills: int, seed: int) -> campaign.Outcome:
    if not console.is_terminal:
        last = 0

        def say(done: int) -> None:
            nonlocal last
            if done // QUIETLY > last // QUIETLY:
                print(f"{done} of {kills} kills", flush=True)
            last = done

        return campaign.run(folder, kills, seed, say)
    columns = (TextColumn("kills"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("kills", total=kills)
        return campaign.run(folder, kills, seed, lambda done: progress.update(task, completed=done))


def _show(console: Console, outcome: campaign.Outcome) -> None:
    table = Table("what died", "times", box=None, pad_edge=False, header_style="bold")
    for name, count in sorted(outcome.kills.items()):
        table.add_row(name, str(count))
    table.add_row("[bold]in all[/]", f"[bold]{outcome.kills.total()}[/]")
    console.print(table)
    refused = ", ".join(f"{code} {count}" for code, count in sorted(outcome.refused.items())) or "none"
    console.print(
        f"{outcome.lives} servers, {outcome.reloads} reloads, {outcome.receipts:,} receipts; "
        f"asked again for: {refused}; "
        f"{outcome.survivors} processes outlived their server's successor's start; "
        f"{outcome.seconds[0]:.0f} s of kills, {outcome.seconds[1]:.0f} s in all",
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(main())
