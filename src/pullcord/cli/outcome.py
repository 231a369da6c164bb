"""What became of a request or run, for people, and as an exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from pullcord.cli.failing import FAILED, clean, say
from pullcord.cli.follow import summary
from pullcord.cli.output import emit

if TYPE_CHECKING:
    from pullcord.gate.request import Receipt

COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow"}


def show_receipt(receipt: Receipt) -> None:
    """Say that something was admitted, and how to look at it."""
    colour = "yellow" if receipt.replayed else "green"
    head = typer.style(str(receipt.outcome), fg=colour, bold=True)
    typer.echo(f"{head}: {clean(receipt.flow)}, {clean(receipt.reason)}")
    if receipt.run_id is not None:
        typer.echo(f"run {receipt.run_id}")
        say(f"`pullcord runs show {receipt.run_id}` shows it, `pullcord runs logs -f {receipt.run_id}` follows it")


def ended(run: dict[str, Any], as_json: bool) -> int:
    """Say how a run ended, write its result, and return the exit status."""
    good = run["state"] == "succeeded"
    if not as_json:
        mark = typer.style("✓" if good else "✗", fg=COLOURS.get(run["state"], "yellow"), bold=True)
        say(f"{mark} {clean(summary(run))}")
        if run["partial"] is not None:
            say(clean(f"partial: {run['partial']['text']}"))
        trace = (run["error"] or {}).get("traceback")
        if trace:
            say(clean(trace.rstrip()))
        if good and run["result"] is not None:
            emit(run["result"])
    return 0 if good else FAILED
