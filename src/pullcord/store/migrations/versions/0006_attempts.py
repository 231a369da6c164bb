"""Attempts of a run, and what a resumed one keeps."""

from __future__ import annotations

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add nothing yet."""
