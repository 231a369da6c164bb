"""`pullcord init`: a project to start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from pullcord.cli.options import DataDir, Json
from pullcord.core.errors import UsageError

FILES: Final = {
    "pullcord.toml": "pullcord.toml",
    "flows/folder_report.py": "flows/folder_report.py",
    "README.md": "README.md",
    ".gitignore": "gitignore",
}
"""The files of the project, and the templates they come from."""


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Where; made when it is not there.", show_default=False)
    ] = Path(),
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a starter project: a flow that works, settings, a README. No file is ever overwritten."""
    written: list[str] = []
    kept: list[str] = []
    for name, template in FILES.items():
        text = _template(template)
        if name == "pullcord.toml" and data_dir is not None:
            text = text.replace('# data_dir = ".pullcord"', f"data_dir = {json.dumps(str(data_dir))}")
        (written if _write(folder / name, text) else kept).append(name)
    if as_json:
        typer.echo(json.dumps({"folder": str(folder), "written": written, "kept": kept}))
        return
    for name in written:
        typer.echo(f"wrote {folder / name}")
    for name in kept:
        typer.echo(f"kept  {folder / name}, which was there already")
    go = "" if folder == Path() else f"cd {folder} && "
    typer.echo(f"\nNow: {go}pullcord run folder-report")


def _write(path: Path, text: str) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        if not path.is_file():
            raise UsageError(f"{path} cannot be written: something else is in its place") from None
        return False
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    return True


def _template(name: str) -> str:
    from importlib.resources import files

    return files("pullcord.cli").joinpath("project", *name.split("/")).read_text(encoding="utf-8")
