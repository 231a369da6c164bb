"""`pullcord flows pause` and `flows resume`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pullcord.cli.connect import connect
from pullcord.cli.failing import clean
from pullcord.cli.options import DataDir, Json

Name = Annotated[str, typer.Argument(metavar="FLOW", help="The flow's name.", show_default=False)]


def pause(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Why; everybody who is refused reads it.")],
    until: Annotated[
        str | None,
        typer.Option("--until", help="Until a time, or for a duration, like 2h; until it is resumed unless given."),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Pause a flow: requests for it are refused, and what waits does not start. What runs goes on."""
    from pullcord.cli.moments import ahead

    end = ahead(until)
    with connect(data_dir) as client:
        _say(client.flows.pause(name, reason, end), as_json)


def resume(name: Name, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let a paused flow go on: what waits starts, in its order."""
    with connect(data_dir) as client:
        _say(client.flows.resume(name), as_json)


def _say(flow: dict[str, Any], as_json: bool) -> None:
    from pullcord.cli.output import emit

    if as_json:
        emit(flow)
    else:
        typer.echo(clean(f"{flow['name']} is {paused(flow) or 'not paused'}"))


def paused(flow: dict[str, Any]) -> str | None:
    """Return in words that a flow is paused, by whom, since when and why; None when it is not."""
    from pullcord.cli.output import local, when

    pause = flow["paused"]
    if pause is None:
        return None
    until = "until it is resumed" if pause["until"] is None else f"until {local(pause['until'])}"
    return f"paused {until}, by {pause['by']} at {when(pause['at'])}: {pause['reason']}"
