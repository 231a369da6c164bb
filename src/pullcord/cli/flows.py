"""`pullcord flows`: which flows there are, and what they take."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pullcord.cli.connect import connect
from pullcord.cli.failing import Group, report_failure
from pullcord.cli.options import All, DataDir, Json, Limit
from pullcord.cli.runs import fetch, say_more

app = typer.Typer(cls=Group, no_args_is_help=True, help="See which flows there are, and what they take.")


@app.command("list")
def list_flows(limit: Limit = 200, everything: All = False, data_dir: DataDir = None, as_json: Json = False) -> None:
    """List flows by name, and what could not be loaded."""
    from pullcord.cli.output import draw, emit, table

    with connect(data_dir) as client:
        page = fetch(client.flows, {}, limit, everything)
        page.setdefault("failures", client.ready()["failures"] if everything else [])
    if as_json:
        emit(page)
        return
    rows = [_row(flow) for flow in page["items"]]
    if rows:
        draw(table("flow", "description", "tags", "last run", "", rows=rows, whole=("flow",)))
    else:
        typer.echo("no flows")
    say_more(page["next"])
    for failure in page["failures"]:
        report_failure(failure)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="FLOW", help="The flow's name.", show_default=False)],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show a flow: what it does, its settings and inputs."""
    from pullcord.cli.details import draw_flow
    from pullcord.cli.output import emit

    with connect(data_dir) as client:
        flow = client.flows.get(name)
    emit(flow) if as_json else draw_flow(flow)


def _row(flow: dict[str, Any]) -> list[Any]:
    from pullcord.cli.output import coloured, when

    last = flow["last_run"] or {"state": None, "queued_at": None}
    summary = flow["description"].strip().partition("\n")[0]
    return [flow["name"], summary, ", ".join(flow["tags"]), coloured(last["state"]), when(last["queued_at"])]
