"""Schema 0005: Infrastructures, stages, the nodes that joined, and promotions."""

from __future__ import annotations

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add."""


def downgrade() -> None:
    """Take away."""
