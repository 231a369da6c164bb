"""`pullcord doctor`: look for what is wrong, and say what to do about it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pullcord.cli.deep import MARKS, deep, table_of
from pullcord.cli.failing import FAILED
from pullcord.cli.options import DataDir, Json
from pullcord.core.errors import PullcordError

if TYPE_CHECKING:
    from pullcord.cli.checks import Finding
    from pullcord.store.queries.invariants.invariant import Verdict

Deep = Annotated[
    bool,
    typer.Option("--deep", help="Check the whole database too: every page, and every rule that its rows must keep."),
]


def doctor(data_dir: DataDir = None, check_rules: Deep = False, as_json: Json = False) -> None:
    """Check Python, the data folder, the database, the server and the flows; exit status 1 when something is wrong."""
    from pullcord.cli.checks import Finding, examine, settings_of

    findings = examine(data_dir, whole=check_rules)
    settings = settings_of(data_dir) if check_rules else None
    verdicts: list[Verdict] = []
    try:
        verdicts = [] if settings is None else deep(settings)
    except PullcordError as error:
        findings.append(
            Finding("rules", "wrong", f"they cannot be checked: {error.message}", "see what is said of the database")
        )
    for verdict in verdicts:
        if verdict.broken:
            text = f"{verdict.name}: {'; '.join(verdict.examples)}"
            more = verdict.broken - len(verdict.examples)
            text += f"; and {more:,} more" if more > 0 else ""
            findings.append(Finding(f"rule {verdict.rule}", verdict.state, text, verdict.advice))
    if check_rules and settings is None:
        advice = "run it on that server's machine, with --data-dir"
        findings.append(Finding("rules", "note", "the store of a server elsewhere is not looked into", advice))
    wrong = sum(finding.state == "wrong" for finding in findings)
    if as_json:
        from pullcord.cli.output import emit

        answer: dict[str, object] = {"healthy": not wrong, "findings": [asdict(finding) for finding in findings]}
        emit(answer | {"invariants": [asdict(verdict) for verdict in verdicts]} if check_rules else answer)
    else:
        _show(findings, verdicts, wrong)
    if wrong:
        raise typer.Exit(FAILED)


def _show(findings: list[Finding], verdicts: list[Verdict], wrong: int) -> None:
    from rich.text import Text

    from pullcord.cli.output import draw, table

    rows = []
    for finding in findings:
        mark, style = MARKS[finding.state]
        rows.append([Text(mark, style=style), finding.name, finding.text, finding.advice])
    if verdicts:
        draw(table_of(verdicts))
        typer.echo("")
    draw(table("", "check", "finding", "advice", rows=rows, whole=("check",)))
    typer.echo(f"\n{wrong} {'thing is' if wrong == 1 else 'things are'} wrong" if wrong else "\nall is well")
