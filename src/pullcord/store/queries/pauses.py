"""Which flows are paused."""

from __future__ import annotations

from pullcord.store.commands.pauses import Pause
from pullcord.store.connection import Connection


def all_pauses(connection: Connection) -> dict[str, Pause]:
    """Return the pauses by flow."""
    rows = connection.execute("SELECT flow, at, until, invoker, reason FROM pauses ORDER BY flow").fetchall()
    return {row[0]: Pause(*row) for row in rows}
