"""Schema 0004: What people say of versions: notes, labels, deprecation; runs with their parameters."""

from __future__ import annotations

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add."""


def downgrade() -> None:
    """Take away."""
