"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pullcord.cli.failing import JSON_FLAG


def _remember(context: typer.Context, value: bool) -> bool:
    meta: dict[str, Any] = context.meta
    meta[JSON_FLAG] = value
    return value


DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        help="Where data lives. (default: PULLCORD_DATA_DIR, or .pullcord)",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON for programs.", callback=_remember, is_eager=True)]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Show at most as many.")]
All = Annotated[bool, typer.Option("--all", help="Show all, however many.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", metavar="NAME=VALUE", help="One input; give it again for each.", show_default=False),
]
InputsFile = Annotated[
    str | None,
    typer.Option("--inputs", metavar="FILE", help="A JSON file with inputs; - is stdin.", show_default=False),
]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Wait until the run has ended; show its progress and result.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; it is kept.", show_default=False)]
