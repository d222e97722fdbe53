"""Schema 0007: the names of the keys that people's tokens are signed with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the table; the program makes its first row."""
    op.create_table(
        "signing_keys",
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(), nullable=False, unique=True),
        sa.Column("created", sa.DateTime(), nullable=False),
    )


def downgrade() -> None:
    """Take the table away: tokens that were made by it end."""
    op.drop_table("signing_keys")
