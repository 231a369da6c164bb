"""Questions of runs to people, and what runs without a worker wait for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables; from now on a `waiting` run without a worker is parked, and no orphan."""
    op.create_table(
        "questions",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("uuid", sa.Text, nullable=False),
        sa.Column("run_id", ID, nullable=False),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("flow", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("details", sa.Text),
        sa.Column("schema", sa.Text, nullable=False),
        sa.Column("recipients", sa.Text, nullable=False),
        sa.Column("asked_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("fallback", sa.Text),
        sa.Column("answer", sa.Text),
        sa.Column("answered_by", sa.Text),
        sa.Column("answered_at", sa.BigInteger),
        sa.Column("reason", sa.Text),
    )
    unanswered = sa.text("state = 'open'")
    op.create_index("questions_uuid", "questions", ["uuid"], unique=True)
    op.create_index("questions_run", "questions", ["run_id", "identity"])
    op.create_index("questions_flow", "questions", ["flow", "id"])
    op.create_index("questions_state", "questions", ["state", "id"])
    op.create_index(
        "questions_open", "questions", ["run_id", "identity"], unique=True,
        sqlite_where=unanswered, postgresql_where=unanswered,
    )  # fmt: skip
    expiring = sa.text("state = 'open' AND expires_at IS NOT NULL")
    op.create_index("questions_due", "questions", ["expires_at"], sqlite_where=expiring, postgresql_where=expiring)

    op.create_table(
        "sleeps",
        sa.Column("run_id", ID, primary_key=True, autoincrement=False),
        sa.Column("identity", sa.Text, primary_key=True),
        sa.Column("until", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("sleeps_due", "sleeps", ["until"])

    op.add_column("runs", sa.Column("parks", sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE runs SET state = 'running' WHERE state = 'waiting' AND owner IS NULL")
    op.drop_index("runs_orphaned", "runs")
    orphaned = sa.text("owner IS NULL AND state IN ('running', 'cancelling')")
    op.create_index("runs_orphaned", "runs", ["lane", "id"], sqlite_where=orphaned, postgresql_where=orphaned)
