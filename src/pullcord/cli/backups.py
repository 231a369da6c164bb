"""`pullcord backup` and `pullcord restore`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pullcord.cli.options import DataDir, Json
from pullcord.core.errors import UsageError

if TYPE_CHECKING:
    from pullcord.store.copy import Progress

# `:?` lets the shell refuse an unset variable: without a name these tools take the default database of this machine.
_URL: Final = '"${PULLCORD_DATABASE_URL:?}"'
_POSTGRESQL: Final = {
    "backup": f", also beside running servers: pg_dump --format=custom --file=pullcord.dump {_URL}",
    "restore": f" when no server runs: pg_restore --clean --if-exists --dbname={_URL} pullcord.dump",
}


def backup(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="The archive. (default: pullcord-backup-TIME.tar.gz in this folder)",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file when it is there.")] = False,
    artifacts: Annotated[
        bool, typer.Option("--artifacts/--no-artifacts", help="Take the files along that runs have stored.")
    ] = True,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Write database, logs and artifacts into one archive, also while a server runs; the token is left out."""
    from dataclasses import asdict

    import pullcord
    from pullcord.clock import SystemClock, rfc3339
    from pullcord.store.archive import back_up
    from pullcord.store.copy import stamp

    folder = _own_folder("backup", data_dir)
    target = file or Path(f"pullcord-backup-{stamp()}.tar.gz")
    at = rfc3339(SystemClock().now()) or ""
    with _shown(as_json) as progress:
        manifest = back_up(
            folder, target, at=at, pullcord=pullcord.__version__, force=force, artifacts=artifacts, progress=progress
        )
    size = target.stat().st_size
    if as_json:
        from pullcord.cli.output import emit

        emit({"file": str(target), "bytes": size} | asdict(manifest))
        return
    rows = f"{_counted(manifest.runs, 'run')} and {_counted(manifest.requests, 'request')}"
    typer.echo(f"backed up {rows} to {target} ({_size(size)}), checked")


def restore(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="An archive of `pullcord backup`, or a file of the folder's backups/."),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Replace the data that is there; it is kept in a folder beside the new.")
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Put a back-up into a data folder that no server uses; the next start goes on with its runs."""
    from pullcord.store.restore import restore as put_back

    folder = _own_folder("restore", data_dir)
    with _shown(as_json) as progress:
        done = put_back(file, folder, force=force, progress=progress)
    if as_json:
        from dataclasses import asdict

        from pullcord.cli.output import emit

        emit(asdict(done) | {"aside": None if done.aside is None else str(done.aside), "data_dir": str(folder)})
        return
    what = (
        "the database" if done.manifest is None else f"{_counted(done.manifest.runs, 'run')} as of {done.manifest.at}"
    )
    typer.echo(f"restored {what} to {folder}")
    if done.aside is not None:
        typer.echo(f"what was there before is in {done.aside}")


def _own_folder(command: str, data_dir: Path | None) -> Path:
    """Return the data folder, which must be on this machine and hold the data itself.

    Raises:
        UsageError: the data is somewhere else.
    """
    from pullcord.cli.connect import by_address
    from pullcord.settings import load_settings

    settings = load_settings({"data_dir": data_dir})
    if settings.database_url is not None:
        raise UsageError(f"the data is in {settings.place}; PostgreSQL's own tool does this{_POSTGRESQL[command]}")
    if by_address(data_dir):
        raise UsageError(
            f"`pullcord {command}` works on the data folder itself, and PULLCORD_URL names a server: run it on that "
            "server's machine, with --data-dir"
        )
    return settings.data_dir


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _size(size: int) -> str:
    return f"{size / 1024**2:.1f} MB" if size >= 100_000 else f"{size / 1024:.1f} KB"


@contextmanager
def _shown(as_json: bool) -> Iterator[Progress]:
    """Show progress on a terminal."""
    import sys

    from pullcord.store.copy import silent

    if as_json or not sys.stderr.isatty():
        yield silent
        return
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from pullcord.cli.output import console

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                for old in tasks.values():
                    bar.update(old, visible=False)
                tasks[what] = bar.add_task(what, total=total or None)
            bar.update(tasks[what], completed=done)

        yield show
