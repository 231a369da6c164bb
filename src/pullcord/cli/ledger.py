"""`pullcord why`: the ledger for people."""

from __future__ import annotations

from typing import Annotated

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
    from pullcord.cli.output import coloured, draw, emit, table, trigger, when, who

    with connect(data_dir) as client:
        page = fetch(client.requests, {"flow": flow, "outcome": outcome, "since": moment(since)}, limit, everything)
        if not page["items"]:
            client.flows.get(flow)  # a flow that nobody asked for is one thing, a misspelt name another
    if as_json:
        emit(page)
        return
    rows = []
    for item in page["items"]:
        times = f" (\N{MULTIPLICATION SIGN}{item['count']})" if item["count"] > 1 else ""
        note = f"; “{item['note']}”" if item["note"] else ""
        dry = "dry run, " if item["dry_run"] else ""
        rows.append(
            [
                when(item["last_at"]),
                who(item["invoker"]),
                trigger(item["trigger"]),
                coloured(item["outcome"]),
                f"{dry}{item['reason']}{note}{times}",
                item["run_id"] or "",
            ]
        )
    if not rows:
        typer.echo(f"nobody has asked for {flow} so far" if outcome is None and since is None else "no such requests")
        return
    draw(table("time", "who", "trigger", "outcome", "reason", "run", rows=rows, whole=("outcome", "run")))
    say_more(page["next"])
