"""Indexes that say what others say go: each costs a run some 20 bytes and a write.

What a run has of its request is indexed with the requests alone, for the two have the same numbers; and these grow with
the time, so that a time is found by halving the numbers.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Drop three indexes."""
    op.drop_index("runs_trigger_kind", "runs")
    op.drop_index("runs_invoker", "runs")
    op.drop_index("requests_at", "requests")
