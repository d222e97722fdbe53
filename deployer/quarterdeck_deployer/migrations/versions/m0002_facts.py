"""Schema 0002: the facts that lists show stand beside the manifest, so that no list has to read whole manifests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

# The file itself reads what is there: a manifest of a version that was registered before must not be written anew.
_FACTS = """
UPDATE versions SET facts = json_object(
    'form', json_extract(manifest, '$.form'),
    'trust', json_extract(manifest, '$.trust'),
    'task', json_extract(manifest, '$.schema.task'),
    'size_bytes', (SELECT coalesce(sum(json_extract(value, '$.size')), 0) FROM json_each(manifest, '$.files')),
    'metrics', json(coalesce(json_extract(manifest, '$.metrics'), '{}')),
    'description', coalesce(json_extract(manifest, '$.description'), ''),
    'parent', json_extract(manifest, '$.parent'),
    'golden_rows', json_array_length(manifest, '$.golden'),
    'proof', json(json_extract(manifest, '$.proof'))
)
"""
_TRIGGER = "CREATE TRIGGER versions_no_update BEFORE UPDATE ON versions BEGIN SELECT RAISE(ABORT, 'versions are immutable'); END"


def upgrade() -> None:
    """Add the column and fill it from the manifests."""
    op.add_column("versions", sa.Column("facts", sa.JSON(), nullable=False, server_default="{}"))
    # This once, and in the migration's own transaction: afterwards nobody can change a version again.
    op.execute("DROP TRIGGER versions_no_update")
    op.execute(_FACTS)
    op.execute(_TRIGGER)


def downgrade() -> None:
    """Take the column away; the manifests still say everything."""
    op.drop_column("versions", "facts")
