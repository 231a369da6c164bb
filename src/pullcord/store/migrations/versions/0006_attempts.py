"""Attempts of a run, what a resumed one keeps, and where a request comes from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table of attempts that failed, and what runs, steps and requests keep of attempts and origins."""
    op.create_table(
        "attempts",
        sa.Column("run_id", ID, primary_key=True, autoincrement=False),
        sa.Column("attempt", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("next_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.add_column("runs", sa.Column("attempt_started_at", sa.BigInteger))
    op.add_column("runs", sa.Column("epoch", sa.Integer))
    op.add_column("runs", sa.Column("recorded_version", sa.Text))
    for column in ("rerun_of", "resumed_from"):
        where = sa.text(f"{column} IS NOT NULL")
        op.create_index(f"runs_{column}", "runs", [column], sqlite_where=where, postgresql_where=where)
    op.add_column("steps", sa.Column("set_aside", sa.Integer))
    op.add_column("steps", sa.Column("kept", sa.SmallInteger))
    op.add_column("requests", sa.Column("origin", sa.Text))
