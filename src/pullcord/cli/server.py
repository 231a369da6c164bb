"""`pullcord serve` and `pullcord dev`. Imports no rich: a server has to be ready quickly."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pullcord.cli.options import DataDir, Json

if TYPE_CHECKING:
    from pullcord.app import App
    from pullcord.settings import Settings

log = logging.getLogger(__name__)

Flows = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FLOWS]...",
        help="Modules, files or folders with flows. (default: PULLCORD_FLOWS, the settings file, flows/ or flows.py)",
        show_default=False,
    ),
]
Host = Annotated[
    str | None, typer.Option("--host", help="Address to listen on. (default: 127.0.0.1)", show_default=False)
]
Port = Annotated[
    int | None,
    typer.Option("--port", help="Port to listen on; 0 takes a free one. (default: 8321)", show_default=False),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="Worker processes for each location. (default: one a core)", show_default=False),
]

LogFormat = Annotated[
    str | None,
    typer.Option(
        "--log-format",
        help="How to write the log to stderr: text or json. (default: text on a terminal, else json)",
        show_default=False,
    ),
]
LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        help="What to write to it: debug, info, warning or error. (default: info; serve on a terminal: warning)",
        show_default=False,
    ),
]


def serve(
    flows: Flows = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Serve flows: run them, keep their records, answer the API.

    Ctrl-C stops it; active runs get 10 seconds to end, and what has not ended goes on next time.
    """
    read = partial(_settings, flows, host, port, workers, log_format, log_level, data_dir)
    _serve(read, as_json, reload=False)


def dev(
    flows: Flows = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Serve, and load flows again whenever their files change."""
    read = partial(_settings, flows, host, port, workers, log_format, log_level, data_dir)
    _serve(read, as_json, reload=True)


def default_flows(settings: Settings) -> Settings:
    """Return the settings with the flows of this folder where none are named."""
    from dataclasses import replace

    if settings.flows:
        return settings
    for place in ("flows", "flows.py"):
        if Path(place).exists():
            return replace(settings, flows=(place,))
    return settings


def _settings(
    flows: list[str] | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    log_format: str | None,
    log_level: str | None,
    data_dir: Path | None,
) -> Settings:
    from pullcord.settings import load_settings

    arguments = {
        "flows": flows, "host": host, "port": port, "workers": workers, "log_format": log_format,
        "log_level": log_level, "data_dir": data_dir,
    }  # fmt: skip
    return default_flows(load_settings(arguments))


def _serve(read: Callable[[], Settings], as_json: bool, reload: bool) -> None:
    from pullcord.engine.launch import launch_ahead

    settings = read()
    launch_ahead(settings.flows, settings.code, settings.data_dir)
    # Only now: these imports take longer than the templates need to get ready.
    from pullcord.api.server import serve as run_server
    from pullcord.cli.logs import log_of_server

    log_of_server(settings, watched=reload)
    run_server(settings, reload=reload, ready=lambda url, app: _announce(url, app, settings, as_json), again=read)


def _announce(url: str, app: App, settings: Settings, as_json: bool) -> None:
    failures, count = app.engine.catalog.failures, len(app.engine.catalog.flows)
    if not settings.flows and not settings.code:
        log.warning(
            "no flows are named and there is neither flows/ nor flows.py here: `pullcord serve my_flows.py` names some"
        )
    if as_json:
        ready = {"ready": True, "url": url, "flows": count, "data_dir": str(settings.data_dir), "pid": os.getpid()}
        typer.echo(json.dumps(ready | {"failures": failures}))
    else:
        flows = "1 flow" if count == 1 else f"{count} flows"
        broken = f", {len(failures)} not loaded" if failures else ""
        typer.echo(f"Pullcord is ready at {url} ({flows}{broken}; data in {settings.place})")
