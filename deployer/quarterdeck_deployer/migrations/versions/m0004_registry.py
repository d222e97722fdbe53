"""Schema 0004: what people say of versions (notes, labels, deprecation), deletions, and runs with their parameters."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# The columns as they are at this step: later ones must not reach back into what this one does.
_VERSIONS = sa.table(
    "versions", sa.column("model", sa.String()), sa.column("version", sa.Integer()), sa.column("manifest", sa.Text())
)
_STATES = sa.table(
    "version_states",
    sa.column("model", sa.String()),
    sa.column("version", sa.Integer()),
    sa.column("parent", sa.String()),
    sa.column("notes", sa.Text()),
    sa.column("deprecated_why", sa.String()),
)
_FILES = sa.table(
    "version_files", sa.column("model", sa.String()), sa.column("version", sa.Integer()), sa.column("sha256", sa.String())
)


def upgrade() -> None:
    """Add the tables, and fill them from the manifests of the versions that there are."""
    op.add_column("models", sa.Column("notes", sa.Text(), nullable=False, server_default=""))
    op.add_column("runs", sa.Column("parameters", sa.JSON(), nullable=False, server_default="{}"))
    op.create_index("versions_digest", "versions", ["digest"])
    _tables()
    connection, table = op.get_bind(), _VERSIONS
    for model, version in connection.execute(sa.select(table.c.model, table.c.version)).all():
        which = (table.c.model == model) & (table.c.version == version)
        # One at a time: a manifest may be megabytes.
        manifest = json.loads(connection.execute(sa.select(table.c.manifest).where(which)).scalar_one())
        _fill(connection, {"model": model, "version": version}, manifest)


def downgrade() -> None:
    """Take them away. A deleted version then looks as if it were there; whoever fetches it is told that it is gone."""
    for table in ("registry_labels", "version_files", "version_states"):
        op.drop_table(table)
    op.drop_index("versions_digest", "versions")
    op.drop_column("runs", "parameters")
    op.drop_column("models", "notes")


def _tables() -> None:
    op.create_table(
        "version_states",
        sa.Column("model", sa.String(), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("parent", sa.String()),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("deprecated", sa.DateTime()),
        sa.Column("deprecated_why", sa.String(), nullable=False),
        sa.Column("deleted", sa.DateTime()),
        sa.ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"], name="version_states_version"),
    )
    op.create_index("version_states_parent", "version_states", ["parent"])
    op.create_table(
        "version_files",
        sa.Column("model", sa.String(), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("sha256", sa.String(), primary_key=True),
        sa.ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"], name="version_files_version"),
    )
    op.create_index("version_files_sha256", "version_files", ["sha256"])
    op.create_table(
        "registry_labels",
        sa.Column("model", sa.String(), sa.ForeignKey("models.name"), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("value", sa.String(), nullable=False),
    )
    op.create_index("registry_labels_key", "registry_labels", ["key", "value"])


def _fill(connection: sa.Connection, which: dict[str, Any], manifest: dict[str, Any]) -> None:
    state = {**which, "parent": manifest.get("parent"), "notes": "", "deprecated_why": ""}
    connection.execute(sa.insert(_STATES).values(state))
    # A set: two paths may have the same bytes.
    blobs = sorted({entry["sha256"] for entry in manifest["files"]})
    if blobs:
        connection.execute(sa.insert(_FILES), [{**which, "sha256": sha256} for sha256 in blobs])
