"""`pullcord flows`: which flows there are, and what they take."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from pullcord.cli.connect import connect
from pullcord.cli.failing import FAILED, Group, clean, report_failure, say
from pullcord.cli.options import All, DataDir, Json, Limit
from pullcord.cli.pausing import pause, resume
from pullcord.cli.runs import fetch, say_more

app = typer.Typer(cls=Group, no_args_is_help=True, help="See which flows there are, and what they take; pause them.")
app.command("pause")(pause)
app.command("resume")(resume)


@app.command("list")
def list_flows(
    removed: Annotated[bool, typer.Option("--removed", help="Those that are not in the code any more.")] = False,
    limit: Limit = 200,
    everything: All = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List flows by name, and what could not be loaded."""
    from pullcord.cli.output import draw, emit, table

    with connect(data_dir) as client:
        page = fetch(client.flows, {"removed": removed}, limit, everything)
        page.setdefault("failures", client.ready()["failures"] if everything else [])
    if as_json:
        emit(page)
        return
    rows = [_row(flow) for flow in page["items"]]
    if rows:
        headers = ("flow", "description", "tags", "last run", "", *(["removed"] if removed else []))
        draw(table(*headers, rows=rows, whole=("flow",)))
    else:
        typer.echo("no flows were removed" if removed else "no flows")
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
        unknown = [] if as_json else client.notifications.rules(name)["unknown_channels"]
    emit(flow) if as_json else draw_flow(flow)
    for channel in unknown:
        say(clean(f"no channel is called {channel}: nobody is told there; add [channels.{channel}] to the settings"))


@app.command("diff")
def diff(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Compare what the server serves with the code on the disk: what a reload would change.

    Exit status: 0 nothing, 1 something, or there is code that cannot be loaded.
    """
    from pullcord.cli.output import emit

    with connect(data_dir) as client:
        answer = client.flows.diff()
    locations = answer["locations"]
    if as_json:
        emit(answer)
    else:
        _draw_diff(locations)
    if any(each["changes"] or each["failures"] for each in locations):
        raise typer.Exit(FAILED)


def _draw_diff(locations: list[dict[str, Any]]) -> None:
    from pullcord.cli.output import draw, table

    for location in locations:
        for failure in location["failures"]:
            report_failure(failure)
        if not location["accepted"]:
            say(clean(f"a reload would keep the last good code of {location['location']}, if there is any"))
    rows = [
        [change["change"], change["flow"], location["location"], ", ".join(_details(change))]
        for location in locations
        for change in location["changes"]
    ]
    if rows:
        draw(table("change", "flow", "location", "what", rows=rows, whole=("change", "flow")))
    elif not any(location["failures"] for location in locations):
        typer.echo("the server serves the code as it is on the disk")


def _details(change: dict[str, Any]) -> list[str]:
    """Return in words what changed in a flow."""
    if change["change"] != "changed":
        return []
    before, after = change["version"]["before"], change["version"]["after"]
    words = [] if before == after else [f"version {before} → {after}"]
    words += [f"input {name} {what}" for name, what in change["inputs"].items()]
    return words + [
        f"{name} {json.dumps(pair['before'])} → {json.dumps(pair['after'])}"
        for name, pair in change["settings"].items()
    ]


def _row(flow: dict[str, Any]) -> list[Any]:
    from pullcord.cli.output import coloured, when

    last = flow["last_run"] or {"state": None, "queued_at": None}
    summary = flow["description"].strip().partition("\n")[0]
    if flow["paused"] is not None:
        summary = f"[paused] {summary}".rstrip()
    row = [flow["name"], summary, ", ".join(flow["tags"]), coloured(last["state"]), when(last["queued_at"])]
    return row if flow["removed_at"] is None else [*row, when(flow["removed_at"])]
