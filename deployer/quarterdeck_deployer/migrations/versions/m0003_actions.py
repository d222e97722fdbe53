"""Schema 0003: What became of each action; the audit trail as a chain."""

from __future__ import annotations

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add."""


def downgrade() -> None:
    """Take away."""
