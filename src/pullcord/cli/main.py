"""The `pullcord` command. Importing this costs typer and the standard library; commands import what they need."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import pullcord
from pullcord.cli import flows, limits, outbox, questions, runs, triggers
from pullcord.cli.backups import backup, restore
from pullcord.cli.doctor import doctor
from pullcord.cli.failing import Group
from pullcord.cli.ledger import why
from pullcord.cli.options import DataDir, Json
from pullcord.cli.prune import prune
from pullcord.cli.run import run
from pullcord.cli.server import dev, serve
from pullcord.cli.starter import init
from pullcord.cli.stats import stats
from pullcord.cli.top import top

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Pullcord: where every run of a Python flow starts, and where it runs.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"pullcord {pullcord.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


app.command("serve")(serve)
app.command("dev")(dev)
app.command("run")(run)
app.add_typer(runs.app, name="runs")
app.add_typer(flows.app, name="flows")
app.add_typer(triggers.app, name="triggers")
app.add_typer(limits.app, name="limits")
app.add_typer(outbox.app, name="notify")
app.add_typer(questions.app, name="questions")
app.command("why")(why)
app.command("stats")(stats)
app.command("top")(top)
app.command("init")(init)
app.command("doctor")(doctor)
app.command("prune")(prune)
app.command("backup")(backup)
app.command("restore")(restore)


@app.command("version")
def version(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show the version."""
    import json
    import platform
    import sqlite3

    if as_json:
        facts = {
            "pullcord": pullcord.__version__,
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
        }
        typer.echo(json.dumps(facts))
    else:
        typer.echo(f"pullcord {pullcord.__version__}")


def main() -> None:
    """Run the command that the arguments name."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app(prog_name="pullcord")


if __name__ == "__main__":
    main()
