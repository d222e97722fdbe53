"""Schema 0006: Projects, people, and what keys may do and did."""

from __future__ import annotations

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add."""


def downgrade() -> None:
    """Take away."""
