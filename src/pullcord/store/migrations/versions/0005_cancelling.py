"""What a cancelled run may have left half done."""

from __future__ import annotations

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add nothing yet."""
