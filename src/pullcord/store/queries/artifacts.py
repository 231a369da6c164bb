"""Artifacts of runs: of each name the one that was stored last."""

from __future__ import annotations

from typing import Any

from pullcord.clock import rfc3339
from pullcord.store.connection import Connection

_SELECT = """
SELECT a.name, a.size, a.sha256, a.media_type, a.description, a.step, a.at FROM runs r
JOIN artifacts a ON a.run_id = r.id WHERE r.uuid = :run"""


def list_artifacts(connection: Connection, run: str) -> list[dict[str, Any]]:
    """Return the artifacts of a run by name.

    Args:
        connection: a reader.
        run: the run's id.
    """
    rows = connection.execute(f"{_SELECT} ORDER BY a.at, a.rank", {"run": run}).fetchall()
    latest = {row[0]: _item(row) for row in rows}
    return [latest[name] for name in sorted(latest)]


def find_artifact(connection: Connection, run: str, name: str) -> dict[str, Any] | None:
    """Return the artifact of a run that has this name.

    Args:
        connection: a reader.
        run: the run's id.
        name: the artifact's name.
    """
    row = connection.execute(
        f"{_SELECT} AND a.name = :name ORDER BY a.at DESC, a.rank DESC LIMIT 1", {"run": run, "name": name}
    ).fetchone()
    return None if row is None else _item(row)


def _item(row: Any) -> dict[str, Any]:
    return {
        "name": row[0],
        "size": row[1],
        "sha256": row[2],
        "media_type": row[3],
        "description": row[4],
        "step": row[5],
        "at": rfc3339(row[6]),
    }
