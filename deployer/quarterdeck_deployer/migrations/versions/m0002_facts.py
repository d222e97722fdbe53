"""Schema 0002: the facts that lists show stand beside the manifest, so that no list has to read whole manifests."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from quarterdeck_deployer.migrations.triggers import thawed

revision = "0002"
down_revision = "0001"

# The columns as they are after this step: later ones must not reach back into what this one does.
_VERSIONS = sa.table(
    "versions",
    sa.column("model", sa.String()),
    sa.column("version", sa.Integer()),
    sa.column("manifest", sa.Text()),
    sa.column("facts", sa.JSON()),
)


def upgrade() -> None:
    """Add the column and fill it from the manifests."""
    op.add_column("versions", sa.Column("facts", sa.JSON(), nullable=False, server_default="{}"))
    connection, table = op.get_bind(), _VERSIONS
    # This once, and in the migration's own transaction: afterwards nobody can change a version again.
    with thawed("versions"):
        for model, version in connection.execute(sa.select(table.c.model, table.c.version)).all():
            which = (table.c.model == model) & (table.c.version == version)
            # One at a time: a manifest may be megabytes.
            manifest = json.loads(connection.execute(sa.select(table.c.manifest).where(which)).scalar_one())
            connection.execute(sa.update(table).where(which).values(facts=_facts(manifest)))


def downgrade() -> None:
    """Take the column away; the manifests still say everything."""
    op.drop_column("versions", "facts")


def _facts(manifest: dict[str, Any]) -> dict[str, Any]:
    # Read as it is, not through today's class: a version that was registered long ago must not be judged anew.
    return {
        "form": manifest["form"],
        "trust": manifest["trust"],
        "task": manifest["schema"]["task"],
        "size_bytes": sum(entry["size"] for entry in manifest["files"]),
        "metrics": manifest.get("metrics") or {},
        "description": manifest.get("description") or "",
        "parent": manifest.get("parent"),
        "golden_rows": len(manifest["golden"]),
        "proof": manifest.get("proof"),
    }
