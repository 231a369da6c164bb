"""`pullcord doctor --deep`: check every invariant of the store, beside a server or without one; nothing is written."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from pullcord.cli.database import reader_of

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from pullcord.settings import Settings
    from pullcord.store.connection import Connection
    from pullcord.store.queries.invariants.invariant import Verdict

MARKS: Final = {"ok": ("✓", "green"), "note": ("•", "yellow"), "wrong": ("✗", "red")}
"""How a state is shown."""

LOGS: Final = "every log belongs to a run"

CONTENTS: Final = "every artifact has its content"

_LISTED: Final = "SELECT r.uuid, a.name FROM artifacts a JOIN runs r ON r.id = a.run_id WHERE a.sha256 = :sha256"


def deep(settings: Settings) -> list[Verdict]:
    """Return a verdict for each invariant, in the order of their rules; none where no database can be read.

    Args:
        settings: say where it is.

    Raises:
        PullcordError: the database cannot be read.
    """
    from pullcord.store.connection import explained
    from pullcord.store.migrate import HEAD
    from pullcord.store.queries.invariants.examine import examine

    if settings.database_url is None and not (settings.data_dir / "pullcord.db").exists():
        return []
    logs = [file.stem for file in (settings.data_dir / "logs").glob("*/*.jsonl")]
    with closing(reader_of(settings)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            if row is None or row[0] != HEAD:
                return []  # the finding about the schema says so
            verdicts = [*examine(connection), _logs(connection, logs), _contents(connection, settings.data_dir)]
        except Exception as error:
            raise explained(connection, error) from error
    return sorted(verdicts, key=lambda verdict: verdict.rule)


def _logs(connection: Connection, logs: list[str]) -> Verdict:
    """Check that the log files, listed before, are of runs that exist."""
    from pullcord.store.queries.invariants.examine import EXAMPLES
    from pullcord.store.queries.invariants.invariant import Verdict

    find = "SELECT 1 FROM runs WHERE uuid = :uuid"
    strange = [uuid for uuid in logs if connection.execute(find, {"uuid": uuid}).fetchone() is None]
    examples = [f"there is a log of run {uuid}, which does not exist" for uuid in strange[:EXAMPLES]]
    advice = "delete these files, or find out whether the database is an older copy" if strange else ""
    return Verdict(1, LOGS, len(logs), len(strange), examples, advice, "note" if strange else "ok")


def _contents(connection: Connection, data_dir: Path) -> Verdict:
    """Check that the contents of artifacts are in the data folder."""
    from pullcord.core.artifact import FOLDER, content_path
    from pullcord.store.queries.invariants.examine import EXAMPLES
    from pullcord.store.queries.invariants.invariant import Verdict

    def is_there(sha256: str) -> bool:
        return (data_dir / FOLDER / content_path(sha256)).is_file()

    checked, lacking = 0, []
    for sha256, count in connection.execute("SELECT sha256, count(*) FROM artifacts GROUP BY sha256").fetchall():
        checked += count
        if not is_there(sha256):
            lacking.append(sha256)
    broken, examples = 0, []
    for sha256 in lacking:
        # A server prunes beside this: rows go first, then the content. And what was gone may have been stored again.
        rows = connection.execute(_LISTED, {"sha256": sha256}).fetchall()
        if rows and not is_there(sha256):
            broken += len(rows)
            examples += [f"run {run} lists {name!r}, whose content is not there" for run, name in rows]
    advice = "restore a back-up that has artifacts; without it they cannot be downloaded, and nothing else is lost"
    state, advice = ("note", advice) if broken else ("ok", "")
    return Verdict(1, CONTENTS, checked, broken, examples[:EXAMPLES], advice, state)


def table_of(verdicts: list[Verdict]) -> Table:
    """Return the verdicts as a table."""
    from rich.text import Text

    from pullcord.cli.output import table

    rows: list[list[Any]] = []
    for verdict in verdicts:
        mark, style = MARKS[verdict.state]
        found = "holds" if not verdict.broken else f"{verdict.broken:,} break it"
        rows.append([Text(mark, style=style), str(verdict.rule), verdict.name, f"{verdict.checked:,}", found])
    return table("", "rule", "what must be true", "checked", "verdict", rows=rows, whole=("rule", "checked"))
