"""Limits: what code, settings and people say of them, and groups that several flows share.

A flow's row in `slots` holds its limit, whatever the value of its key; a group's row is called `group:NAME`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add what limits consist of, and the indexes by which runs are counted and found."""
    op.add_column("slots", sa.Column("declared", sa.Integer))
    op.add_column("slots", sa.Column("configured", sa.Integer))
    op.add_column("slots", sa.Column("override", sa.Text))
    op.add_column("slots", sa.Column("shared", sa.Text))
    op.add_column("slots", sa.Column("shared_limit", sa.Integer))
    op.add_column("slots", sa.Column("rule", sa.Text))
    op.add_column("slots", sa.Column("changed_at", sa.BigInteger))
    op.execute("UPDATE slots SET declared = capacity")
    op.add_column("runs", sa.Column("shared", sa.Text))
    partial: list[tuple[str, list[str | sa.TextClause], str]] = [
        ("runs_slot_retry", ["slot"], "slot IS NOT NULL AND state = 'scheduled' AND attempt > 1"),
        (
            "runs_shared_held",
            ["shared"],
            "shared IS NOT NULL AND state IN ('running', 'waiting', 'cancelling')",
        ),
        ("runs_shared_queue", ["shared", sa.text("priority DESC"), "id"], "shared IS NOT NULL AND state = 'queued'"),
    ]
    for name, columns, condition in partial:
        where = sa.text(condition)
        op.create_index(name, "runs", columns, sqlite_where=where, postgresql_where=where)
