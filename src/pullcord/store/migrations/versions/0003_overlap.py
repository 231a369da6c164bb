"""Limits: groups, and what was changed about them."""

from __future__ import annotations

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add nothing yet."""
