"""`pullcord runs`: look at runs, cancel them, run them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pullcord.cli.again import RunId, rerun, resume
from pullcord.cli.artifacts import artifacts, download
from pullcord.cli.connect import connect
from pullcord.cli.failing import Group
from pullcord.cli.moments import moment
from pullcord.cli.options import All, DataDir, Json, Limit, Reason
from pullcord.cli.retrying import retry_failed

if TYPE_CHECKING:
    from pullcord.client import Client

app = typer.Typer(cls=Group, no_args_is_help=True, help="Look at runs, cancel them, run them again.")


@app.command("list")
def list_runs(
    flow: Annotated[str | None, typer.Option("--flow", help="Of one flow.", show_default=False)] = None,
    state: Annotated[str | None, typer.Option("--state", help="In one state, like failed.", show_default=False)] = None,
    trigger: Annotated[
        str | None, typer.Option("--trigger", help="Of one kind of trigger.", show_default=False)
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Of flows with a tag.", show_default=False)] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Since a time, or a duration ago, like 2h.", show_default=False)
    ] = None,
    limit: Limit = 20,
    everything: All = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    from pullcord.cli.output import draw, emit, narrow, table

    filters = {"flow": flow, "state": state, "trigger": trigger, "tag": tag, "since": moment(since)}
    with connect(data_dir) as client:
        page = fetch(client.runs, filters, limit, everything)
    if as_json:
        emit(page)
        return
    small = narrow(110)
    headers = ["run", "flow", "state", "queued", "took", "who"][: 5 if small else 6]
    rows = [_row(run, small)[: len(headers)] for run in page["items"]]
    if not rows:
        typer.echo("no runs")
        return
    draw(table(*headers, rows=rows, whole=("run", "state", "queued", "took")))
    say_more(page["next"])


@app.command("show")
def show(run_id: RunId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show a run: its inputs, steps, result or error."""
    from pullcord.cli.details import draw_run
    from pullcord.cli.output import emit

    with connect(data_dir) as client:
        run = client.runs.get(run_id)
    emit(run) if as_json else draw_run(run)


@app.command("logs")
def logs(
    run_id: RunId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show the log lines of a run; with --json a JSON object a line."""
    from pullcord.cli.follow import log_line
    from pullcord.cli.output import emit_line

    with connect(data_dir) as client:
        for line in _log_lines(client, run_id, follow):
            emit_line(line) if as_json else typer.echo(log_line(line))


@app.command("cancel")
def cancel(
    run_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="The runs' ids.", show_default=False)
    ] = None,
    flow: Annotated[
        str | None, typer.Option("--flow", help="Or all runs of a flow that have not ended.", show_default=False)
    ] = None,
    state: Annotated[
        str | None, typer.Option("--state", help="Or all runs in one state, like queued.", show_default=False)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace its worker where it does not stop by itself.")
    ] = False,
    reason: Reason = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until they have ended.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Cancel runs and the runs they started. Runs that are chosen, not named, are shown first."""
    import asyncio

    from pullcord.cli.cancelling import Wanted, cancel_runs

    wanted = Wanted(run_ids or [], flow, state, force, reason, yes, wait, as_json)
    raise typer.Exit(asyncio.run(cancel_runs(wanted, data_dir)))


app.command("resume")(resume)
app.command("rerun")(rerun)
app.command("retry-failed")(retry_failed)


app.command("artifacts")(artifacts)
app.command("download")(download)


def fetch(source: Any, filters: dict[str, Any], limit: int, everything: bool) -> dict[str, Any]:
    """Return `{"items", "next"}` of a list: one page, or all of it."""
    if everything:
        return {"items": list(source.iter(**filters)), "next": None}
    page: dict[str, Any] = source.list(**filters, limit=limit).as_json()
    return page


def _row(run: dict[str, Any], small: bool) -> list[Any]:
    from pullcord.cli.output import ago, coloured, duration, when, who

    # What has ended before its time came was never queued.
    at = run["queued_at"] or (run["not_before"] if run["ended_at"] is None else None)
    return [
        run["id"],
        f"{run['flow']} (test)" if run["test"] else run["flow"],
        coloured(run["state"]),
        ago(at) if small else when(at),
        duration(run["started_at"], run["ended_at"]),
        who(run["invoker"]),
    ]


def _log_lines(client: Client, run_id: str, follow: bool) -> Any:
    if not follow:
        return client.runs.logs(run_id)
    return (event.data for event in client.runs.events(run_id) if event.kind == "log")


def say_more(cursor: str | None) -> None:
    """Say that a list goes on."""
    if cursor is not None:
        typer.echo("… there are more: --limit N or --all", err=True)
