"""Paused flows, expiry of queued runs, rates."""

from __future__ import annotations

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add nothing yet."""
