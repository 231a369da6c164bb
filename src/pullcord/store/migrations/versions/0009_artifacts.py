"""Artifacts of runs, and what is kept how long."""

from __future__ import annotations

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add nothing yet."""
