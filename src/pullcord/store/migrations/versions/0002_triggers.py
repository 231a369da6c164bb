"""Triggers: what is declared and what was changed, how far each has come, its history.

And what goes with them: deduplication, the times that schedules mean, ends of runs that start others.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables of triggers, and what requests and runs keep of them."""
    op.add_column("requests", sa.Column("scheduled_for", sa.BigInteger))
    op.add_column("runs", sa.Column("dedup", sa.Text))
    unended = sa.text("dedup IS NOT NULL AND state IN ('scheduled', 'queued', 'running', 'waiting', 'cancelling')")
    op.create_index("runs_dedup", "runs", ["dedup"], unique=True, sqlite_where=unended, postgresql_where=unended)

    op.create_table(
        "triggers",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("uuid", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("location", sa.Text, nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("flows", sa.Text, nullable=False),
        sa.Column("enabled", sa.SmallInteger, nullable=False),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("override", sa.Text),
        sa.Column("registered_at", sa.BigInteger, nullable=False),
        sa.Column("removed_at", sa.BigInteger),
    )
    op.create_index("triggers_name", "triggers", ["name"], unique=True)
    op.create_index("triggers_uuid", "triggers", ["uuid"], unique=True)
    op.create_table(
        "trigger_state",
        sa.Column("trigger_id", ID, primary_key=True, autoincrement=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("cursor", sa.Text),
        sa.Column("next_due", sa.BigInteger),
        sa.Column("last_poll_at", sa.BigInteger),
        sa.Column("last_fired_at", sa.BigInteger),
        sa.Column("errors", sa.Integer, nullable=False),
        sa.Column("error", sa.Text),
    )
    op.create_table(
        "trigger_history",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("trigger_id", ID, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("detail", sa.Text),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
    )
    op.create_index("trigger_history_trigger", "trigger_history", ["trigger_id", "id"])
    op.create_table("watched_flows", sa.Column("flow", sa.Text, primary_key=True))
    op.create_table("endings", sa.Column("run_id", ID, primary_key=True, autoincrement=False))
