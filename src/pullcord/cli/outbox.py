"""`pullcord notify list|show|retry`: what was told and what was not; `rules|tell|mute|unmute`: who is told of what."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pullcord.cli.connect import connect
from pullcord.cli.failing import say
from pullcord.cli.notify import app as app
from pullcord.cli.options import All, DataDir, Json, Limit, Reason
from pullcord.cli.runs import fetch, say_more
from pullcord.core.errors import UsageError

NotificationId = Annotated[str, typer.Argument(metavar="ID", help="The notification's id.", show_default=False)]
FlowName = Annotated[str, typer.Argument(metavar="FLOW", help="The flow's name.", show_default=False)]


@app.command("list")
def list_notifications(
    state: Annotated[str | None, typer.Option("--state", help="pending, delivered or failed.")] = None,
    channel: Annotated[str | None, typer.Option("--channel", help="Of this channel.")] = None,
    flow: Annotated[str | None, typer.Option("--flow", help="About this flow.")] = None,
    limit: Limit = 20,
    everything: All = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List notifications, newest first: what was told to whom, and what was not."""
    from pullcord.cli.output import coloured, draw, emit, table, when

    with connect(data_dir) as client:
        filters = {"state": state, "channel": channel, "flow": flow}
        page = fetch(client.notifications, filters, limit, everything)
    if as_json:
        emit(page)
        return
    rows = [
        [it["id"], coloured(it["state"]), it["channel"], it["title"], when(it["created_at"]), _what_next(it)]
        for it in page["items"]
    ]
    if rows:
        draw(table("notification", "state", "channel", "what", "when", "", rows=rows, whole=("notification",)))
    else:
        typer.echo("no notifications")
    say_more(page["next"])


@app.command("show")
def show(notification: NotificationId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show a notification as it is sent, and what became of it."""
    from pullcord.cli.output import emit

    with connect(data_dir) as client:
        item = client.notifications.get(notification)
    emit(item) if as_json else _draw(item)


@app.command("retry")
def retry(notification: NotificationId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Send a notification now, also one that was given up."""
    from pullcord.cli.output import emit

    with connect(data_dir) as client:
        item = client.notifications.retry(notification)
    if as_json:
        emit(item)
    else:
        typer.echo(f"{item['id']} is sent to {item['channel']} again")


@app.command("rules")
def rules(flow: FlowName, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show who is told of what about a flow, and where each rule comes from."""
    from pullcord.cli.output import emit

    with connect(data_dir) as client:
        found = client.notifications.rules(flow)
    emit(found) if as_json else _draw_rules(found)


@app.command("tell")
def tell(
    flow: FlowName,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="What is told, like run.failed.", show_default=False)],
    channels: Annotated[
        list[str] | None, typer.Argument(metavar="[CHANNEL]...", help="Who is told.", show_default=False)
    ] = None,
    count: Annotated[int | None, typer.Option("--count", help="Of run.failing: how many in a row.")] = None,
    factor: Annotated[float | None, typer.Option("--factor", help="Of run.long: times the usual duration.")] = None,
    after: Annotated[str | None, typer.Option("--after", help="Of run.long: a duration.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take back such rules, for these channels or all.")] = False,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Add a rule for a flow while the server runs; it holds besides those of the code and the settings.

    With --remove it takes back what was added so.
    """
    from pullcord.cli.output import emit

    options = {"count": count, "factor": factor, "after": after}
    given = {name: value for name, value in options.items() if value is not None}
    if remove and given:
        wrong = " and ".join(f"--{name}" for name in given)
        raise UsageError(
            f"--remove takes back all rules about {event}, and no {wrong}; leave that out, and name the channels that "
            "are no longer told, or none for all"
        )
    with connect(data_dir) as client:
        if remove:
            taken = {"event": event, "channels": channels} if channels else event
            found = client.notifications.change(flow, remove=[taken], reason=reason)
        else:
            rule = {"event": event, "channels": channels or [], **given}
            found = client.notifications.change(flow, add=[rule], reason=reason)
    emit(found) if as_json else _draw_rules(found)


@app.command("mute")
def mute(
    flow: FlowName,
    until: Annotated[
        str | None, typer.Option("--until", help="A time, or for how long, like 2h. (default: until unmuted)")
    ] = None,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Tell nothing of a flow for a while; what happens meanwhile is not told later either."""
    from pullcord.cli.moments import ahead
    from pullcord.cli.output import emit, local

    end = ahead(until)
    with connect(data_dir) as client:
        found = client.notifications.change(flow, muted=True, until=end, reason=reason)
    if as_json:
        emit(found)
    else:
        typer.echo(f"{flow} is muted" + ("" if end is None else f" until {local(end)}"))


@app.command("unmute")
def unmute(flow: FlowName, reason: Reason = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Tell of a flow again."""
    from pullcord.cli.output import emit

    with connect(data_dir) as client:
        found = client.notifications.change(flow, muted=False, reason=reason)
    if as_json:
        emit(found)
    else:
        typer.echo(f"{flow} is told of again")


def _what_next(item: dict[str, Any]) -> str:
    from pullcord.cli.output import ago

    if item["state"] == "delivered":
        return ""
    if item["state"] == "failed":
        return f"given up: {item['last_error']}"
    if item["last_error"]:
        return f"try {item['tries'] + 1} {ago(item['next_try_at'])}: {item['last_error']}"
    return f"gathers; sent {ago(item['next_try_at'])}" if item["gathering"] else ""


def _draw(item: dict[str, Any]) -> None:
    from pullcord.cli.details import draw_facts
    from pullcord.cli.failing import clean
    from pullcord.cli.output import coloured, local, when

    draw_facts(
        [
            ("notification", item["id"]),
            ("state", coloured(item["state"])),
            ("channel", item["channel"]),
            ("event", item["event"]),
            ("flow", item["flow"]),
            ("run", item["run_id"]),
            ("count", str(item["count"]) if item["count"] > 1 else None),
            ("happened", when(item["created_at"])),
            ("delivered", when(item["delivered_at"])),
            ("tries", str(item["tries"]) if item["tries"] else None),
            ("next try", local(item["next_try_at"])),
            ("last error", item["last_error"]),
            ("link", item["message"]["link"]),
        ]
    )
    typer.echo("")
    typer.echo(clean(item["title"]))
    typer.echo(clean(item["message"]["text"]))


def _draw_rules(found: dict[str, Any]) -> None:
    from pullcord.cli.failing import clean
    from pullcord.cli.output import draw, local, table

    rows = [[rule["event"], ", ".join(rule["channels"]), _option(rule), rule["from"]] for rule in found["rules"]]
    if rows:
        draw(table("event", "channels", "when", "from", rows=rows, whole=("event",)))
    else:
        typer.echo(clean(f"nobody is told of {found['flow']}"))
    changed = found["changed"]
    if changed is not None:
        why = f": {changed['reason']}" if changed["reason"] else ""
        typer.echo(clean(f"changed by {changed['by']}, {local(changed['at'])}{why}"))
    if found["muted"] is not None:
        until = found["muted"]["until"]
        typer.echo("muted" + ("" if until is None else f" until {local(until)}"))
    for name in found["unknown_channels"]:
        say(clean(f"no channel is called {name}: nobody is told there; add [channels.{name}] to the settings"))


def _option(rule: dict[str, Any]) -> str:
    from pullcord.core.durations import span

    if rule["event"] == "run.failing":
        return f"{rule['count']} in a row"
    parts = [f"{rule['factor']:g} times the usual"] if rule.get("factor") else []
    parts += [f"after {span(rule['after'])}"] if rule.get("after") else []
    return " or ".join(parts)
