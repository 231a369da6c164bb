"""`pullcord triggers`: which triggers there are, how they are, and how they are changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pullcord.cli.connect import connect
from pullcord.cli.failing import Group, clean
from pullcord.cli.options import All, DataDir, Json, Limit, Reason
from pullcord.cli.runs import fetch, say_more
from pullcord.core.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from pullcord.client import Client

Name = Annotated[str, typer.Argument(metavar="TRIGGER", help="The trigger's name or id.", show_default=False)]

app = typer.Typer(
    cls=Group, no_args_is_help=True, help="See what asks for runs by itself, pause it, change it, try it."
)


@app.command("list")
def list_triggers(
    flow: Annotated[str | None, typer.Option("--flow", help="Of one flow.", show_default=False)] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Of one kind, like cron.", show_default=False)] = None,
    enabled: Annotated[bool, typer.Option("--enabled", help="Only those that ask now.")] = False,
    limit: Limit = 200,
    everything: All = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List triggers by name; those that have left the code are orphaned."""
    from pullcord.cli.output import emit

    filters = {"flow": flow, "kind": kind, "enabled_only": enabled}
    with connect(data_dir) as client:
        page = fetch(client.triggers, filters, limit, everything)
    if as_json:
        emit(page)
        return
    if not page["items"]:
        typer.echo("no triggers")
        return
    from pullcord.cli.triggerview import draw_list

    draw_list(page["items"])
    say_more(page["next"])


@app.command("show")
def show(name: Name, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show a trigger: when it asks, how it is, and what was changed about it by whom."""
    with connect(data_dir) as client:
        _show(client.triggers.get(name), as_json)


@app.command("enable")
def enable(name: Name, reason: Reason = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Have a trigger ask again."""
    with connect(data_dir) as client:
        declared = client.triggers.get(name)["declared"]["enabled"]
        item = client.triggers.set_enabled(name, None if declared else True, reason=reason)
    _say(item, "is enabled", as_json)


@app.command("disable")
def disable(
    name: Name,
    reason: Reason = None,
    until: Annotated[
        str | None,
        typer.Option("--until", help="Until a time, or for a duration, like 2h; for good unless given."),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Have a trigger ask no more, or pause it; its ticks are skipped meanwhile."""
    from pullcord.cli.moments import ahead
    from pullcord.cli.output import local

    end = ahead(until)
    with connect(data_dir) as client:
        item = client.triggers.set_enabled(name, False, reason=reason, until=end)
    _say(item, "is disabled" + ("" if end is None else f" until {local(end)}"), as_json)


@app.command("set")
def change(
    name: Name,
    schedule: Annotated[
        str | None,
        typer.Option("--schedule", help="Cron expression, interval or time; of an event its cadence."),
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--parameter", metavar="NAME=VALUE", help="One parameter; give it again for each."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--setting", metavar="NAME=VALUE", help="One setting of its kind, like tz=Europe/Berlin."),
    ] = None,
    cursor: Annotated[
        str | None,
        typer.Option("--cursor", help="Where it goes on from: a time, 2h ago as 2h, now, or an event's JSON."),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Everything as in the code first.")] = False,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Change a trigger; it stays so over restarts and new code until it is reset.

    The cursor of a schedule is the last tick that was dealt with: put back, all ticks since then run; set to now, the
    backlog is skipped.
    """
    from pullcord.cli.changes import RESET, changes

    with connect(data_dir) as client:
        item = client.triggers.get(name)
        present = item | {"override": None, "parameters": item["declared"]["parameters"]} if reset else item
        wanted = changes(present, schedule, parameters, settings, cursor)
        if not wanted and not reset:
            raise UsageError("nothing to change; give --schedule, --parameter, --setting, --cursor or --reset")
        if reason is not None:
            wanted["reason"] = reason
        item = client.triggers.update(name, **((RESET if reset else {}) | wanted))
    only_moved = not reset and wanted.keys() - {"reason"} == {"cursor"}
    what = "goes on from there" if only_moved else "is as in the code" if item["override"] is None else "is changed"
    _say(item, what, as_json)


@app.command("history")
def history(
    name: Name,
    limit: Limit = 20,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Leave out so many of the newest.")] = 0,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show what a trigger did, newest first: fires, skips, failed polls, changes."""
    from pullcord.cli.output import emit

    with connect(data_dir) as client:
        page = client.triggers.history(name, limit=limit, offset=offset)
    if as_json:
        emit(page.as_json())
        return
    if not page:
        typer.echo("nothing so far")
        return
    from pullcord.cli.triggerview import draw_history

    draw_history(page)
    if page.next is not None:
        typer.echo("… there are more: --limit N or --offset N", err=True)


@app.command("preview")
def preview(
    name: Name,
    cursor: Annotated[
        str | None, typer.Option("--cursor", help="Of an event, JSON from where to look.", show_default=False)
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, max=1000, help="Of a schedule, how many ticks.")] = 10,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show what a trigger would do next, without doing it: coming ticks, or what one poll sees."""
    from pullcord.cli.changes import value_of
    from pullcord.cli.output import emit

    with connect(data_dir) as client:
        seen = client.triggers.preview(name, cursor=None if cursor is None else value_of(cursor), n=n)
    if as_json:
        emit(seen)
        return
    from pullcord.cli.triggerview import draw_preview

    draw_preview(seen)


@app.command("replay")
def replay(
    name: Name,
    request_id: Annotated[
        str | None,
        typer.Argument(metavar="[REQUEST]", help="The id of a request that it made; the latest unless given."),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Ask again for what a trigger asked for once, with the same inputs; `why FLOW --json` has the ids of requests."""
    from pullcord.cli.outcome import show_receipt
    from pullcord.cli.output import emit

    with connect(data_dir) as client:
        receipt = client.triggers.replay(name, request_id or _latest(client, name))
    emit(receipt.as_json()) if as_json else show_receipt(receipt)


def _latest(client: Client, name: str) -> str:
    """Return the id of the latest request of a trigger that became a run.

    Raises:
        NotFoundError: there is no such trigger, or it has not asked for anything so far.
    """
    name = client.triggers.get(name)["name"]
    rows = client.requests.list(invoker=f"trigger:{name}", outcome="admitted", limit=1)
    if not rows:
        raise NotFoundError(f"{name} has not asked for a run so far, so there is nothing to ask for again")
    return str(rows[0]["request_id"])


def _show(item: dict[str, Any], as_json: bool) -> None:
    from pullcord.cli.output import emit
    from pullcord.cli.triggerview import draw_trigger

    emit(item) if as_json else draw_trigger(item)


def _say(item: dict[str, Any], what: str, as_json: bool) -> None:
    """Say what has become of a trigger, and when it asks next."""
    from datetime import UTC, datetime

    from pullcord.cli.output import emit, local, parse_time

    if as_json:
        emit(item)
        return
    then, due = "", item["next_due"]
    if due is not None:
        then = f"; next {local(due)}" if parse_time(due) > datetime.now(UTC) else "; it asks now"
    typer.echo(clean(f"{item['name']} {what}{then}"))
