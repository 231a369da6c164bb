"""What a step that was interrupted may have left half-written, and an end for the steps of runs that have one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_PARTIAL = '{"steps":[],"text":"steps were interrupted; their records say which"}'
_OVER = "run_id IN (SELECT id FROM runs WHERE state IN ('succeeded', 'failed', 'cancelled'))"


def upgrade() -> None:
    """Add what steps write; end those that earlier versions left running when their run ended."""
    op.add_column("steps", sa.Column("writes", sa.Text))
    op.execute(
        "UPDATE steps SET state = 'interrupted', "
        "ended_at = (SELECT ended_at FROM runs WHERE runs.id = steps.run_id) "
        f"WHERE state = 'running' AND {_OVER}"
    )
    op.execute(f"UPDATE steps SET state = 'failed' WHERE state = 'retrying' AND {_OVER}")
    op.execute(
        sa.text(
            "UPDATE runs SET partial = :partial WHERE state IN ('failed', 'cancelled') "
            "AND id IN (SELECT run_id FROM steps WHERE state = 'interrupted')"
        ).bindparams(partial=_PARTIAL)
    )
