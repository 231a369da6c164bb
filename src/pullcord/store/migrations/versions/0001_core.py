"""The core tables: requests (the ledger), runs, steps, keys, slots, flows, audit, meta.

Times are microseconds since 1970 UTC. A run's number is the number of the request that became it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ACTIVE = "state IN ('running', 'waiting', 'cancelling')"


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "requests",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("uuid", sa.Text, nullable=False),
        sa.Column("flow", sa.Text),
        sa.Column("inputs", sa.Text),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("code", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("errors", sa.Text),
        sa.Column("original_id", ID),
        sa.Column("trigger_kind", sa.Text, nullable=False),
        sa.Column("trigger_name", sa.Text),
        sa.Column("invoker", sa.Text, nullable=False),
        sa.Column("invoker_kind", sa.Text, nullable=False),
        sa.Column("on_behalf_of", sa.Text),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("repeat_key", sa.Text),
        sa.Column("dry_run", sa.SmallInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger),
        sa.Column("count", sa.Integer, nullable=False),
    )
    op.create_index("requests_uuid", "requests", ["uuid"])
    op.create_index("requests_at", "requests", ["at"])
    for column in ("flow", "outcome", "trigger_kind", "invoker"):
        op.create_index(f"requests_{column}", "requests", [column, "id"])
    repeated = sa.text("repeat_key IS NOT NULL")
    op.create_index(
        "requests_repeat_key", "requests", ["repeat_key"], unique=True, sqlite_where=repeated, postgresql_where=repeated
    )

    op.create_table(
        "runs",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("uuid", sa.Text, nullable=False),
        sa.Column("flow", sa.Text, nullable=False),
        sa.Column("flow_version", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("inputs", sa.Text, nullable=False),
        sa.Column("trigger_kind", sa.Text, nullable=False),
        sa.Column("invoker", sa.Text, nullable=False),
        sa.Column("lane", sa.Text, nullable=False),
        sa.Column("slot", sa.Text),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("token", sa.Integer, nullable=False),
        sa.Column("owner", sa.Integer),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("takeovers", sa.Integer, nullable=False),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("test", sa.SmallInteger, nullable=False),
        sa.Column("parent_id", ID),
        sa.Column("rerun_of", ID),
        sa.Column("resumed_from", ID),
        sa.Column("scheduled_for", sa.BigInteger),
        sa.Column("not_before", sa.BigInteger),
        sa.Column("queued_at", sa.BigInteger),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sa.Column("cancel", sa.Text),
        sa.Column("waiting_for", sa.Text),
        sa.Column("partial", sa.Text),
    )
    op.create_index("runs_uuid", "runs", ["uuid"], unique=True)
    for column in ("flow", "state", "trigger_kind", "invoker"):
        op.create_index(f"runs_{column}", "runs", [column, "id"])
    partial: list[tuple[str, list[str | sa.TextClause], str]] = [
        ("runs_queue", ["lane", sa.text("priority DESC"), "id"], "state = 'queued' AND slot IS NULL"),
        ("runs_slot_queue", ["slot", sa.text("priority DESC"), "id"], "state = 'queued' AND slot IS NOT NULL"),
        ("runs_slot_held", ["slot"], f"slot IS NOT NULL AND {ACTIVE}"),
        ("runs_orphaned", ["lane", "id"], f"owner IS NULL AND {ACTIVE}"),
        ("runs_due", ["not_before"], "state = 'scheduled'"),
        ("runs_parent", ["parent_id"], "parent_id IS NOT NULL"),
    ]
    for name, columns, condition in partial:
        where = sa.text(condition)
        op.create_index(name, "runs", columns, sqlite_where=where, postgresql_where=where)

    op.create_table(
        "steps",
        sa.Column("run_id", ID, primary_key=True, autoincrement=False),
        sa.Column("identity", sa.Text, primary_key=True),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("result", sa.Text),
        sa.Column("error", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "keys",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("invoker", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("request_id", ID, nullable=False),
        sa.Column("sent", sa.Text, nullable=False),
        sa.Column("validated", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("keys_request", "keys", ["request_id"])
    op.create_table(
        "slots",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("capacity", sa.Integer, nullable=False),
    )
    op.create_table(
        "flows",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("location", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("removed_at", sa.BigInteger),
    )
    op.create_table(
        "audit",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("invoker", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject_id", ID),
        sa.Column("detail", sa.Text),
    )
    op.create_table(
        "meta",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
