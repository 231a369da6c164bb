"""The outbox of notifications: what is told, of what, and how far it has come; what people changed about the rules."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the outbox, what its messages tell of, series of failures, and what people changed for flows."""
    op.create_table(
        "notifications",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("uuid", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("flow", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("sealed_at", sa.BigInteger),
        sa.Column("trying_since", sa.BigInteger),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("last_error", sa.Text),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("message", sa.Text),
    )
    gathering = sa.text("state = 'gathering'")
    op.create_index(
        "notifications_gathering", "notifications", ["channel", "flow", "event"], unique=True,
        sqlite_where=gathering, postgresql_where=gathering,
    )  # fmt: skip
    unsent = sa.text("state IN ('gathering', 'pending')")
    op.create_index(
        "notifications_due", "notifications", ["channel", "state", "due_at"],
        sqlite_where=unsent, postgresql_where=unsent,
    )  # fmt: skip
    op.create_index("notifications_uuid", "notifications", ["uuid"], unique=True)
    op.create_index("notifications_kind", "notifications", ["channel", "flow", "event", "due_at"])
    op.create_index("notifications_sealed", "notifications", ["channel", "sealed_at"])
    op.create_index("notifications_channel", "notifications", ["channel", "id"])
    op.create_index("notifications_ended", "notifications", ["channel", "state", "ended_at"])
    op.create_index("notifications_flow", "notifications", ["flow", "id"])
    op.create_index("notifications_state", "notifications", ["state", "id"])
    op.create_table(
        "happenings",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("notification_id", ID, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("flow", sa.Text, nullable=False),
        sa.Column("run_id", ID),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("detail", sa.Text),
    )
    op.create_index("happenings_notification", "happenings", ["notification_id", "id"])
    of_a_run = sa.text("run_id IS NOT NULL")
    op.create_index("happenings_run", "happenings", ["run_id"], sqlite_where=of_a_run, postgresql_where=of_a_run)
    op.create_table(
        "failure_series",
        sa.Column("flow", sa.Text, primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("told", sa.SmallInteger, nullable=False),
    )
    op.create_table(
        "notify_changes", sa.Column("flow", sa.Text, primary_key=True), sa.Column("change", sa.Text, nullable=False)
    )
