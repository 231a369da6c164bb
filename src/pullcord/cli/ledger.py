"""`pullcord why`: the ledger for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pullcord.cli.connect import connect
from pullcord.cli.moments import moment
from pullcord.cli.options import All, DataDir, Json, Limit
from pullcord.cli.runs import fetch, say_more

if TYPE_CHECKING:
    from rich.text import Text


def why(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="The flow's name.", show_default=False)],
    outcome: Annotated[
        str | None, typer.Option("--outcome", help="Only one outcome, like rejected.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help="First asked since a time, or a duration ago, like 2h.", show_default=False),
    ] = None,
    limit: Limit = 20,
    everything: All = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show why a flow did, or did not, run: what is ahead of it, and what became of every request, and why."""
    from pullcord.cli.outlook import draw_outlook, outlook
    from pullcord.cli.output import draw, emit, narrow, table

    with connect(data_dir) as client:
        page = fetch(client.requests, {"flow": flow, "outcome": outcome, "since": moment(since)}, limit, everything)
        if not page["items"]:
            client.flows.get(flow)  # a flow that nobody asked for is one thing, a misspelt name another
        ahead = outlook(client, flow)
    if as_json:
        emit(page | {"ahead": ahead})
        return
    if ahead is not None:
        draw_outlook(ahead)
    small = narrow(140)
    headers = ["time", "decision"] if small else ["time", "decision", "who", "trigger", "run"]
    rows = [_row(item, small) for item in page["items"]]
    if not rows:
        typer.echo(f"nobody has asked for {flow} so far" if outcome is None and since is None else "no such requests")
        return
    draw(table(*headers, rows=rows, whole=("time", "run")))
    say_more(page["next"])


def decision(item: dict[str, Any]) -> Text:
    """Return in words what became of a request: `02:00 skipped: the run of 01:00 was still going`."""
    from rich.text import Text

    from pullcord.cli.failing import clean
    from pullcord.cli.output import STYLES, parse_time

    words = Text()
    if item["dry_run"]:
        words.append("dry run: ")
    if item["scheduled_for"] is not None:
        tick = parse_time(item["scheduled_for"]).astimezone()
        day = "" if tick.date() == parse_time(item["at"]).astimezone().date() else f"{tick:%Y-%m-%d} "
        words.append(f"{day}{tick:%H:%M:%S} " if tick.second else f"{day}{tick:%H:%M} ")
    words.append(item["outcome"].replace("_", " "), style=STYLES.get(item["outcome"], ""))
    if item["count"] > 1:
        words.append(f" {item['count']} times since {_first(item)}")
    if item["reason"] != item["outcome"]:
        words.append(f": {clean(item['reason'])}")
    words.append(clean(_origin(item["origin"])))
    if item["outcome"] == "admitted" and item["state"] is not None:
        words.append(", its run ")
        words.append(_become(item["state"]), style=STYLES.get(item["state"], ""))
    if item["note"]:
        words.append(f", because “{clean(item['note'])}”")
    return words


def _first(item: dict[str, Any]) -> str:
    """Return when the first of equal requests came; the list has the time of the last."""
    from pullcord.cli.output import parse_time

    first, last = (parse_time(item[name]).astimezone() for name in ("at", "last_at"))
    return f"{first:%H:%M:%S}" if first.date() == last.date() else f"{first:%Y-%m-%d %H:%M:%S}"


def _origin(origin: dict[str, Any] | None) -> str:
    """Return which run was wanted again, and what was changed."""
    from pullcord.cli.again import changed_inputs

    if origin is None:
        return ""
    if "resumed_from" in origin:
        return f", to go on with run {origin['resumed_from']}"
    changes = "; ".join(changed_inputs(origin["changes"]))
    return f", again from the beginning of run {origin['rerun_of']}" + (f" with {changes}" if changes else "")


def _become(state: str) -> str:
    """Return what became of a run."""
    return {"cancelled": "was cancelled", "succeeded": "succeeded", "failed": "failed"}.get(state, f"is {state}")


def _row(item: dict[str, Any], small: bool) -> list[Any]:
    from rich.text import Text

    from pullcord.cli.failing import clean
    from pullcord.cli.output import ago, parse_time, trigger, when, who

    by, what, run = who(item["invoker"]), trigger(item["trigger"]), item["run_id"] or ""
    if not small:
        return [when(item["last_at"]), decision(item), by, what, run]
    at = f"{ago(item['last_at'])}\n{parse_time(item['last_at']).astimezone():%Y-%m-%d\n%H:%M:%S}"
    return [at, decision(item) + Text(clean(f"\nby {by}, {what}" + (f"\nrun {run}" if run else "")))]
