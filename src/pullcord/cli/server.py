"""`pullcord serve` and `pullcord dev`. Imports no rich: a server has to be ready quickly."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pullcord.cli.failing import clean, say
from pullcord.cli.options import DataDir, Json

if TYPE_CHECKING:
    from pullcord.app import App
    from pullcord.settings import Settings

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


def serve(
    flows: Flows = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Serve flows: run them, keep their records, answer the API.

    Ctrl-C stops it; active runs get 10 seconds to end, and what has not ended goes on next time.
    """
    _serve(flows, host, port, workers, data_dir, as_json, reload=False)


def dev(
    flows: Flows = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Serve, and load flows again whenever their files change."""
    _serve(flows, host, port, workers, data_dir, as_json, reload=True)


def default_flows(settings: Settings) -> Settings:
    """Return the settings with the flows of this folder where none are named."""
    from dataclasses import replace

    if settings.flows:
        return settings
    for place in ("flows", "flows.py"):
        if Path(place).exists():
            return replace(settings, flows=(place,))
    return settings


def _serve(
    flows: list[str] | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    data_dir: Path | None,
    as_json: bool,
    reload: bool,
) -> None:
    from pullcord.settings import load_settings

    arguments = {"flows": flows, "host": host, "port": port, "workers": workers, "data_dir": data_dir}
    settings = default_flows(load_settings(arguments))
    from pullcord.api.server import serve as run_server
    from pullcord.cli.logs import to_stderr

    to_stderr()
    run_server(settings, reload=reload, ready=lambda url, app: _announce(url, app, settings, as_json))


def _announce(url: str, app: App, settings: Settings, as_json: bool) -> None:
    failures, count = app.engine.catalog.failures, len(app.engine.catalog.flows)
    for failure in failures:
        report_failure(failure)
    if not settings.flows:
        say("no flows are named and there is neither flows/ nor flows.py here: `pullcord serve my_flows.py` names some")
    if as_json:
        ready = {"ready": True, "url": url, "flows": count, "data_dir": str(settings.data_dir), "pid": os.getpid()}
        typer.echo(json.dumps(ready | {"failures": failures}))
    else:
        flows = "1 flow" if count == 1 else f"{count} flows"
        broken = f", {len(failures)} not loaded" if failures else ""
        typer.echo(f"Pullcord is ready at {url} ({flows}{broken}; data in {settings.place})")


def report_failure(failure: dict[str, Any]) -> None:
    """Say on stderr what could not be loaded: place, message and traceback."""
    from pullcord.cli.logs import was_said

    text = clean(f"{failure['place']}: {failure['message']}")
    if not was_said(text):
        say(text)
    for line in clean(failure.get("traceback") or "").rstrip().splitlines():
        say(f"    {line}")
