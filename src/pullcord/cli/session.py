"""The server that `run` speaks to: the one that is up, or one in this very process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pullcord.cli.connect import by_address, connect_async
from pullcord.cli.failing import say
from pullcord.cli.server import default_flows
from pullcord.core.errors import StoreLockedError, UsageError

if TYPE_CHECKING:
    from pullcord.client import AsyncClient
    from pullcord.settings import Settings

JOIN: Final = 10.0
"""Seconds that a server which holds the folder gets to say where it listens."""


@dataclass(slots=True)
class Session:
    """A client, and whose server it speaks to.

    Attributes:
        client: the client.
        own: whether the server is in this process and ends with it.
        began: when this process began to serve.
        findable: says whether other commands find the server in this process.
    """

    client: AsyncClient
    own: bool
    began: datetime
    findable: Callable[[bool], None] = lambda yes: None


@asynccontextmanager
async def open_session(data_dir: Path | None, flows: list[str] | None) -> AsyncIterator[Session]:
    """Join the server of the data folder, or be it.

    Args:
        data_dir: as given on the command line.
        flows: code locations as given on the command line.

    Raises:
        UsageError: there is no server, and no flows to serve in this process.
    """
    from pullcord.settings import load_settings

    if by_address(data_dir):
        async with connect_async(data_dir) as client:
            yield Session(client, False, datetime.now(UTC))
        return
    settings = load_settings({"data_dir": data_dir, "flows": flows})
    deadline = asyncio.get_running_loop().time() + JOIN
    while not is_up(settings):
        try:
            async with _serve_here(settings, data_dir) as session:
                yield session
            return
        except StoreLockedError:
            # Another process holds the folder: it is about to listen, or about to leave.
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.05)
    if flows:
        say(f"a server runs on {settings.data_dir}: its flows are used, and --flows is ignored")
    async with connect_async(data_dir) as client:
        yield Session(client, False, datetime.now(UTC))


def is_up(settings: Settings) -> bool:
    """Say whether a server runs on the data folder."""
    from pullcord.client.discovery import find_server
    from pullcord.client.errors import ServerUnreachableError

    try:
        find_server(None, None, settings.data_dir)
    except ServerUnreachableError:
        return False
    return True


@asynccontextmanager
async def _serve_here(settings: Settings, data_dir: Path | None) -> AsyncIterator[Session]:
    settings = default_flows(settings)
    if not settings.flows and not settings.code:
        raise UsageError(
            "no server is running, and there are no flows here to run in this process: start `pullcord serve`, name "
            "flows with --flows my_flows.py, or go to a folder with flows/ or flows.py"
        )
    from pullcord.engine.launch import launch_ahead

    launch_ahead(settings.flows, settings.code, settings.data_dir)
    # Only now: these imports take longer than the templates need to get ready.
    from pullcord.api.server import LocalServer
    from pullcord.cli.logs import log_of_command

    log_of_command(settings)
    began = datetime.now(UTC)
    local = LocalServer(replace(settings, workers=min(settings.workers, 2)))
    async with local, connect_async(data_dir) as client:
        yield Session(client, True, began, local.findable)
