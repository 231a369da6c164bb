"""`pullcord notify`: where messages about runs go, and whether they arrive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pullcord.cli.connect import by_address, connect
from pullcord.cli.failing import FAILED, Group, clean
from pullcord.cli.options import DataDir, Json
from pullcord.core.errors import UsageError

if TYPE_CHECKING:
    from pullcord.notify.channels import Channels

app = typer.Typer(cls=Group, no_args_is_help=True, help="See where messages go, and try whether they arrive.")

_NONE = "no channels; add one to pullcord.toml under [channels.NAME]"


@app.command("channels")
def channels(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the channels with what is configured; of secrets only where they are."""
    from pullcord.cli.output import draw, emit, table

    here = _here(data_dir)
    if here is None:
        with connect(data_dir) as client:
            items = list(client.channels.list())
    else:
        items = here.listed()
    if as_json:
        emit({"items": items, "next": None})
    elif not items:
        typer.echo(_NONE)
    else:
        rows = [[item["name"], item["kind"], _described(item)] for item in items]
        draw(table("channel", "kind", "configured", rows=rows, whole=("channel", "kind")))


@app.command("test")
def test(
    name: Annotated[
        str | None, typer.Argument(metavar="[CHANNEL]", help="The channel's name.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every channel, one after the other.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Send one message now, and say how long that took or why it did not arrive; then the exit status is 1.

    Where a server runs it is the server that sends, with its environment; else it is this command.
    """
    from pullcord.cli.output import emit

    if (name is None) != everything:
        raise UsageError("name one channel, or give --all; `pullcord notify channels` lists them")
    here = _here(data_dir)
    results = []
    for result in _tested_here(here, name) if here is not None else _tested_there(data_dir, name):
        results.append(result)
        if not as_json:
            _say(result)
    if as_json:
        emit(results[0] if name is not None else {"items": results, "next": None})
    elif not results:
        typer.echo(_NONE)
    if not all(result["delivered"] for result in results):
        raise typer.Exit(FAILED)


def _here(data_dir: Path | None) -> Channels | None:
    """Return the channels of the settings, or None where a server runs that has them."""
    if by_address(data_dir):
        return None
    from pullcord.cli.session import is_up
    from pullcord.settings import load_settings

    settings = load_settings({"data_dir": data_dir})
    if is_up(settings):
        return None
    from pullcord.clock import SystemClock
    from pullcord.notify.channels import Channels

    return Channels(settings.channels, SystemClock())


def _tested_here(here: Channels, name: str | None) -> Iterator[dict[str, Any]]:
    import asyncio

    for each in [name] if name is not None else sorted(here.opened):
        yield asyncio.run(here.test(each))


def _tested_there(data_dir: Path | None, name: str | None) -> Iterator[dict[str, Any]]:
    with connect(data_dir) as client:
        for each in [name] if name is not None else [item["name"] for item in client.channels.list()]:
            yield client.channels.test(each)


def _described(item: dict[str, Any]) -> str:
    """Return what is configured as the settings file says it, without what was left out."""
    more = {"timeout": f"{item['timeout']:g} s", "group": None, "per_hour": item["per_hour"]}
    if item["group"] is not None:
        more["group"] = f"{item['group']:g} s"
    parts = []
    for field, value in (item["options"] | more).items():
        if isinstance(value, dict):
            parts += [f"{field}.{name}={each}" for name, each in value.items()]
        elif value is not None:
            parts.append(f"{field}={','.join(value) if isinstance(value, list) else value}")
    return " ".join(parts)


def _say(result: dict[str, Any]) -> None:
    from pullcord.cli.output import length, span

    took = length(result["seconds"])
    if result["delivered"]:
        typer.echo(f"{result['channel']}: delivered in {took}")
        return
    wait = result["retry_after"]
    later = "" if wait is None else f"; it asks to be left alone for {span(wait)}"
    typer.echo(clean(f"{result['channel']}: not delivered after {took}: {result['error']}{later}"), err=True)
