"""What figures about flows are computed from: the last progress of a run, and an index over all that has ended.

The index holds every column that the figures need, so that a million runs are counted without looking at their rows.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

COVERED = (
    "flow", "state", "ended_at", "id", "started_at", "queued_at", "attempt", "takeovers", "progress_done", "test",
)  # fmt: skip


def upgrade() -> None:
    """Add the progress of runs and the index of ended ones."""
    op.add_column("runs", sa.Column("progress_done", sa.Double))
    op.add_column("runs", sa.Column("progress_total", sa.Double))
    op.add_column("runs", sa.Column("progress_text", sa.Text))
    counted = sa.text("ended_at IS NOT NULL AND test = 0")
    op.create_index("runs_ended", "runs", COVERED, sqlite_where=counted, postgresql_where=counted)
