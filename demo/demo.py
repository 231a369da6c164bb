"""`make demo`: the main example to its end, with its worker killed on the way.

A real server, a real flow over 120,000 customers, a real SIGKILL in the middle of a step; then the proof that nothing
that was recorded ran again.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pullcord import Client

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "demo-out"
VICTIM_STEP = "match_duplicates"
"""The step in which the worker is killed."""
LOGGING = ["--log-format", "text", "--log-level", "warning"]
"""How the server logs: what it says of the killed worker, in words."""

console = Console()


def main() -> None:
    """Serve the examples, run the pipeline, kill its worker once, and show what became of it."""
    shutil.rmtree(OUT, ignore_errors=True)
    data, work = OUT / "data", OUT / "customers"
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pullcord",
            "serve",
            str(ROOT / "examples"),
            "--port",
            "0",
            "--data-dir",
            str(data),
            *LOGGING,
        ],
        cwd=OUT.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline().strip()
        if not line:
            raise SystemExit("the server did not start; its message is above")
        console.print(f"[bold]$[/] pullcord serve examples\n{line}\n")
        with Client(data_dir=data) as client:
            receipt = client.run("clean-customers", {"workdir": str(work)}, reason="make demo")
            console.print(f"[bold]$[/] pullcord run clean-customers --wait   [dim](run {receipt.run_id})[/]")
            assert receipt.run_id is not None
            killed = follow(client, receipt.run_id, work)
            show(client, receipt.run_id, work, killed)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def follow(client: Client, run_id: str, work: Path) -> int:
    """Show the run's progress; kill its worker once, in the middle of a step. Return the worker's process id."""
    killed = 0
    columns = (SpinnerColumn(), TextColumn("{task.description:<52}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("starts", total=None)
        for event in client.runs.events(run_id):
            if event.kind == "progress":
                text = event.data["text"] or "works"
                bars.update(bar, description=text, completed=event.data["done"], total=event.data["total"])
            elif event.kind == "step":
                bars.console.print(f"  [green]✓[/] {event.data['name']}")
            executions = executions_of(work)
            if not killed and executions and executions[-1][0] == VICTIM_STEP:
                killed = executions[-1][1]
                os.kill(killed, signal.SIGKILL)
                bars.console.print(f"  [red]✗[/] kill -9 {killed}: the worker dies in the middle of {VICTIM_STEP}")
    return killed


def executions_of(work: Path) -> list[tuple[str, int]]:
    """Return `(step, process id)` of every step body that has begun, in order."""
    log = work / "executions.log"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    found = (re.fullmatch(r"(\w+) pid=(\d+)", line) for line in lines)
    return [(match[1], int(match[2])) for match in found if match]


def show(client: Client, run_id: str, work: Path, killed: int) -> None:
    """Show steps, result and ledger line, and check what was promised."""
    run = client.runs.get(run_id)
    executions = executions_of(work)
    times = Counter(step for step, _ in executions)
    table = Table(title=f"Run {run_id}: {run['state']}, taken over {run['takeovers']} time(s)", title_justify="left")
    for heading in ("no.", "step", "state", "bodies begun", "result"):
        table.add_column(heading, no_wrap=True)
    room = max(12, console.width - 58)
    for step in run["steps"]:
        result = str(step["result"]).replace(f"{work}/", "")
        shown = result if len(result) <= room else f"{result[: room - 1]}…"
        table.add_row(str(step["seq"]), step["name"], step["state"], str(times[step["name"]]), shown)
    console.print(table)
    ledger: dict[str, Any] = client.requests.get(run["request_id"])
    console.print(
        f"Ledger: {ledger['at']}  {ledger['invoker']['id']} asked for {ledger['flow']} ({ledger['note']}): "
        f"{ledger['outcome']}, {ledger['state']}"
    )
    if run["state"] != "succeeded":
        raise SystemExit(f"the run has {run['state']}: {run['error']}")
    path = Path(run["result"]["customers"]["path"])
    console.print(f"Result: {path} ({path.stat().st_size:,} bytes, {run['result']['customers']['rows']:,} customers)")
    repeated = {step: count for step, count in times.items() if count > 1}
    if not killed or repeated != {VICTIM_STEP: 2} or run["takeovers"] != 1:
        raise SystemExit(f"expected {VICTIM_STEP} alone to have begun twice after one take-over, not {repeated}")
    console.print(
        f"[green]Every recorded step ran once; only {VICTIM_STEP}, which the kill interrupted, "
        "began again in another process.[/]"
    )


if __name__ == "__main__":
    main()
