"""`pullcord doctor`: look for what is wrong, and say what to do about it."""

from __future__ import annotations

from dataclasses import asdict

import typer

from pullcord.cli.failing import FAILED
from pullcord.cli.options import DataDir, Json

MARKS = {"ok": ("✓", "green"), "note": ("•", "yellow"), "wrong": ("✗", "red")}


def doctor(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Check Python, the data folder, the database, the server and the flows; exit status 1 when something is wrong."""
    from pullcord.cli.checks import examine

    findings = examine(data_dir)
    wrong = sum(finding.state == "wrong" for finding in findings)
    if as_json:
        from pullcord.cli.output import emit

        emit({"healthy": not wrong, "findings": [asdict(finding) for finding in findings]})
    else:
        from rich.text import Text

        from pullcord.cli.output import draw, table

        rows = []
        for finding in findings:
            mark, style = MARKS[finding.state]
            rows.append([Text(mark, style=style), finding.name, finding.text, finding.advice])
        draw(table("", "check", "finding", "advice", rows=rows, whole=("check",)))
        typer.echo(f"\n{wrong} {'thing is' if wrong == 1 else 'things are'} wrong" if wrong else "\nall is well")
    if wrong:
        raise typer.Exit(FAILED)
