"""Paused flows, expiry of queued runs, rates, failures in a row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add what is counted, and until when."""
    op.add_column("runs", sa.Column("expires_at", sa.BigInteger))
    waiting = sa.text("expires_at IS NOT NULL AND started_at IS NULL AND state IN ('scheduled', 'queued')")
    op.create_index("runs_expiry", "runs", ["expires_at"], sqlite_where=waiting, postgresql_where=waiting)
    op.create_table(
        "pauses",
        sa.Column("flow", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger),
        sa.Column("invoker", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "rates",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "rate_uses",
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("request_id", ID, nullable=False),
        sa.PrimaryKeyConstraint("key", "at", "request_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "failures",
        sa.Column("flow", sa.Text, primary_key=True),
        sa.Column("suspend_after", sa.Integer, nullable=False),
        sa.Column("in_a_row", sa.Integer, nullable=False),
    )
