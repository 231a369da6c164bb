"""`pullcord doctor --deep`: check every invariant of the store, beside a server or without one; nothing is written."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from pullcord.cli.database import reader_of

if TYPE_CHECKING:
    from rich.table import Table

    from pullcord.settings import Settings
    from pullcord.store.connection import Connection
    from pullcord.store.queries.invariants.invariant import Verdict

MARKS: Final = {"ok": ("✓", "green"), "note": ("•", "yellow"), "wrong": ("✗", "red")}
"""How a state is shown."""

LOGS: Final = "every log belongs to a run"


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
            verdicts = [*examine(connection), _logs(connection, logs)]
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
