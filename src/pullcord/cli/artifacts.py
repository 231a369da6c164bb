"""`pullcord runs artifacts` and `pullcord runs download`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pullcord.cli.connect import connect
from pullcord.cli.options import DataDir, Json
from pullcord.cli.output import amount
from pullcord.core.errors import UsageError

if TYPE_CHECKING:
    from pullcord.client.downloads import Told

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.", show_default=False)]


def artifacts(run_id: RunId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the files that a run has stored."""
    from pullcord.cli.output import draw, emit, table, when

    with connect(data_dir) as client:
        items = client.runs.artifacts(run_id)
    if as_json:
        emit({"items": items, "next": None})
        return
    if not items:
        typer.echo("no artifacts")
        return
    rows = [
        [item["name"], amount(item["size"]), item["media_type"] or "", item["step"] or "", when(item["at"])]
        for item in items
    ]
    draw(table("name", "size", "type", "step", "stored", rows=rows, whole=("size", "stored")))


def download(
    run_id: RunId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The artifact's name.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to; - is stdout; its name here unless given.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file when it is there.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Download a file that a run has stored; it appears when all of it is there and checked."""
    from pullcord.cli.output import emit
    from pullcord.client.downloads import target_of

    if output == Path("-"):
        _to_stdout(run_id, name, data_dir)
        return
    target = target_of(output, name)
    if target.is_file() and not force:
        raise UsageError(f"{target} is there already; name another file with -o, or give --force to replace it")
    with connect(data_dir) as client, _shown(name, as_json) as told:
        path = client.runs.download(run_id, name, target, told)
    size = path.stat().st_size
    emit({"file": str(path), "bytes": size}) if as_json else typer.echo(f"{path} ({amount(size)})")


def _to_stdout(run_id: str, name: str, data_dir: Path | None) -> None:
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory(prefix="pullcord-") as folder, connect(data_dir) as client:
        path = client.runs.download(run_id, name, Path(folder) / "artifact")
        with path.open("rb") as content:
            shutil.copyfileobj(content, sys.stdout.buffer)


@contextmanager
def _shown(name: str, as_json: bool) -> Iterator[Told | None]:
    """Show progress on a terminal."""
    if as_json or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from pullcord.cli.output import console

    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
