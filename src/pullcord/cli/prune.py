"""`pullcord prune`: delete what has been kept long enough, or show what that would be."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pullcord.cli.connect import by_address, connect
from pullcord.cli.failing import FAILED
from pullcord.cli.options import DataDir, Json
from pullcord.core.errors import NotFoundError

if TYPE_CHECKING:
    from pullcord.client import Client

LOOK: Final = 0.2
"""Seconds between two looks at how far the server is."""


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; delete nothing.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Delete what has been kept long enough. A server does the same by itself, once an hour."""
    from pullcord.cli.output import emit

    done = _at_the_server(dry_run, data_dir, quiet=as_json)
    if done is None:
        done = _here(dry_run, data_dir)
    emit(done) if as_json else _show(done, dry_run)
    if done["failure"] is not None:
        typer.echo(f"pruning stopped early: {done['failure']}", err=True)
        raise typer.Exit(FAILED)


def _at_the_server(dry_run: bool, data_dir: Path | None, quiet: bool) -> dict[str, Any] | None:
    """Ask the server; return None when none runs on the data folder."""
    from pullcord.client.errors import ServerUnreachableError

    with connect(data_dir) as client:
        try:
            return client.retention.preview() if dry_run else _followed(client, quiet)
        except ServerUnreachableError:
            if by_address(data_dir):
                raise
            return None


def _followed(client: Client, quiet: bool) -> dict[str, Any]:
    """Begin a round, and wait for its end."""
    from pullcord.cli.output import console

    state = client.retention.prune()
    if quiet or not sys.stderr.isatty():
        while state["pruning"]:
            time.sleep(LOOK)
            state = client.retention.get()
    else:
        with console(stderr=True).status("pruning") as status:
            while state["pruning"]:
                status.update(f"pruning: {_words(state['last']['items']) or 'nothing so far'}")
                time.sleep(LOOK)
                state = client.retention.get()
    last: dict[str, Any] = state["last"]
    return last


def _here(dry_run: bool, data_dir: Path | None) -> dict[str, Any]:
    """Open the store in this process: no server uses it. To open an older one upgrades it, which a look must not."""
    import asyncio

    from pullcord.settings import load_settings

    settings = load_settings({"data_dir": data_dir})
    if settings.database_url is None and not (settings.data_dir / "pullcord.db").is_file():
        raise NotFoundError(f"there is no database in {settings.data_dir}; name the right data folder with --data-dir")

    if dry_run:
        from pullcord.cli.database import refuse_older

        refuse_older(settings)

    async def work() -> dict[str, Any]:
        from pullcord.clock import SystemClock
        from pullcord.services.pruner import Pruner
        from pullcord.store.store import Store

        clock = SystemClock()
        store = Store(settings.data_dir, clock, settings.database_url)
        store.start()
        try:
            pruner = Pruner(store, clock, settings.retention)
            return (await (pruner.preview() if dry_run else pruner.prune())).as_json()
        finally:
            await store.stop()

    return asyncio.run(work())


def _show(done: dict[str, Any], dry_run: bool) -> None:
    from pullcord.cli.output import amount, draw, table

    if not done["items"]:
        typer.echo("nothing has been kept long enough")
        return
    rows = [
        [item["kind"].replace("_", " "), item["of"] or "", f"{item['count']:,}", _amount(item["bytes"], amount)]
        for item in done["items"]
    ]
    draw(table("kind", "of", "would go" if dry_run else "gone", "files", rows=rows, whole=("kind",)))


def _amount(size: int | None, amount: Any) -> str:
    return "" if size is None else str(amount(size))


def _words(items: list[dict[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for item in items:
        counts[item["kind"]] = counts.get(item["kind"], 0) + item["count"]
    return ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in counts.items())
