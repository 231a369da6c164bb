"""`pullcord top`: what a server is doing right now."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pullcord.cli.connect import connect
from pullcord.cli.options import DataDir, Json
from pullcord.core.errors import PullcordError

if TYPE_CHECKING:
    from pullcord.cli.snapshot import Watcher
    from pullcord.client import Client

EVERY: Final = 1.0
"""Seconds between looks."""

QUIT: Final = ("q", "Q", "\x04", "\x1b")
"""Keys that end it, besides Ctrl-C."""


def top(
    once: Annotated[bool, typer.Option("--once", help="Show it once and end, as where stdout is no terminal.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Watch what the server is doing: runs, rates, workers, slow flows, recent failures.

    It looks once a second, until q or Ctrl-C. With --once or --json it looks for one second, writes what it saw and
    ends. Exit status 5: no server answers.
    """
    from pullcord.cli.snapshot import Watcher

    with connect(data_dir) as client:
        watcher = Watcher(client)
        if as_json or once or not sys.stdout.isatty():
            watcher.look()
            time.sleep(EVERY)  # rates need two looks
            _show(watcher.look(), _where(client, data_dir), as_json)
        else:
            _watch(watcher, _where(client, data_dir))


def _show(shot: dict[str, Any], where: str, as_json: bool) -> None:
    from pullcord.cli.output import draw, emit
    from pullcord.cli.topview import screen

    emit(shot) if as_json else draw(screen(shot, where))


def _where(client: Client, data_dir: Path | None) -> str:
    from pullcord.cli.connect import by_address, data_folder

    return client.address if by_address(data_dir) else f"{client.address}, data in {data_folder(data_dir)}"


def _watch(watcher: Watcher, where: str) -> None:
    from rich.live import Live

    from pullcord.cli.keyboard import INTERRUPT, Keyboard
    from pullcord.cli.output import console
    from pullcord.cli.topview import screen

    target = console()
    shot, trouble, due = watcher.look(), None, time.monotonic() + EVERY
    try:
        with Keyboard() as keyboard, Live(console=target, screen=True, auto_refresh=False) as live:
            while True:
                live.update(screen(shot, where, trouble, (target.width, target.height)), refresh=True)
                key = keyboard.key(due - time.monotonic())
                if key in (*QUIT, INTERRUPT):
                    return
                if key is not None and time.monotonic() < due:
                    continue  # the size has changed: draw it anew
                due = time.monotonic() + EVERY
                try:
                    shot, trouble = watcher.look(), None
                except PullcordError as error:
                    trouble = error.message
    except KeyboardInterrupt:
        return
