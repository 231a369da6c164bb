"""`pullcord why`: the ledger for people."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pullcord.cli.connect import connect
from pullcord.cli.options import All, DataDir, Json, Limit
from pullcord.cli.runs import fetch, moment, say_more


def why(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="The flow's name.", show_default=False)],
    outcome: Annotated[
        str | None, typer.Option("--outcome", help="Only one outcome, like rejected.", show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Since a time, or a duration ago, like 2h.", show_default=False)
    ] = None,
    limit: Limit = 20,
    everything: All = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show why a flow did, or did not, run: every request for it, what became of it, and for what reason."""
    from pullcord.cli.output import draw, emit, narrow, table

    with connect(data_dir) as client:
        page = fetch(client.requests, {"flow": flow, "outcome": outcome, "since": moment(since)}, limit, everything)
        if not page["items"]:
            client.flows.get(flow)  # a flow that nobody asked for is one thing, a misspelt name another
    if as_json:
        emit(page)
        return
    small = narrow(140)
    headers = ["time", "outcome", "reason"] if small else ["time", "who", "trigger", "outcome", "reason", "run"]
    rows = [_row(item, small) for item in page["items"]]
    if not rows:
        typer.echo(f"nobody has asked for {flow} so far" if outcome is None and since is None else "no such requests")
        return
    draw(table(*headers, rows=rows, whole=("time", "outcome", "run")))
    say_more(page["next"])


def _row(item: dict[str, Any], small: bool) -> list[Any]:
    from pullcord.cli.output import ago, coloured, parse_time, trigger, when, who

    times = f" ({item['count']} times)" if item["count"] > 1 else ""
    note = f", because “{item['note']}”" if item["note"] else ""
    reason = f"{'dry run: ' if item['dry_run'] else ''}{item['reason']}{note}{times}"
    by, what, run = who(item["invoker"]), trigger(item["trigger"]), item["run_id"] or ""
    if not small:
        return [when(item["last_at"]), by, what, coloured(item["outcome"]), reason, run]
    at = f"{ago(item['last_at'])}\n{parse_time(item['last_at']).astimezone():%Y-%m-%d\n%H:%M:%S}"
    return [at, coloured(item["outcome"]), f"{reason}\nby {by}, {what}" + (f"\nrun {run}" if run else "")]
