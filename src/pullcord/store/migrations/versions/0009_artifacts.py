"""Artifacts of runs; and what is left of what was pruned.

`requests.pruned_run` is the id of the run that a request became, when that run was pruned and the request was kept.
`pruned` counts what is gone, and says below which number it may be gone; `pruned_flows` says the latter of each flow's
runs.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables, and the indexes that find what refers to a run."""
    op.create_table(
        "artifacts",
        sa.Column("run_id", ID, primary_key=True, autoincrement=False),
        sa.Column("identity", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("step", sa.Text),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("media_type", sa.Text),
        sa.Column("description", sa.Text),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("artifacts_sha256", "artifacts", ["sha256"])
    op.add_column("requests", sa.Column("pruned_run", sa.Text))
    op.create_table(
        "pruned",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("below", sa.BigInteger, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "pruned_flows",
        sa.Column("flow", sa.Text, primary_key=True),
        sa.Column("below", sa.BigInteger, nullable=False),
    )
