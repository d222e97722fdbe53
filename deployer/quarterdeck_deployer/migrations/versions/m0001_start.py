"""Schema 0001: everything that the first release keeps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from quarterdeck_deployer.migrations.triggers import forget, freeze

revision = "0001"
down_revision = None

# Rows of these tables are history: the database itself refuses to change them.
_IMMUTABLE = ("revisions", "audit", "versions")


def upgrade() -> None:
    """Create all tables and the triggers that keep history as it was written."""
    _registry()
    _deployments()
    _access()
    _observed()
    for table in _IMMUTABLE:
        freeze(table)


def downgrade() -> None:
    """Drop everything; triggers go with their tables."""
    # In the opposite order of their making, so that no foreign key points at nothing.
    for table in ("nodes", "labels", "sessions", "keys", "audit", "revisions", "deployments", "versions", "runs", "models"):
        op.drop_table(table)
    forget()


def _registry() -> None:
    op.create_table(
        "models",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("active_version", sa.Integer()),
        sa.Column("created", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("model", sa.String(), sa.ForeignKey("models.name"), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.UniqueConstraint("model", "name", name="runs_model_name"),
    )
    op.create_table(
        "versions",
        sa.Column("model", sa.String(), sa.ForeignKey("models.name"), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("run", sa.String(), sa.ForeignKey("runs.id")),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.UniqueConstraint("model", "digest", name="versions_model_digest"),
    )


def _deployments() -> None:
    op.create_table(
        "deployments",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("record_version", sa.Integer(), nullable=False),
        sa.Column("deleted", sa.DateTime()),
        sa.Column("created", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "revisions",
        sa.Column("deployment", sa.String(), sa.ForeignKey("deployments.name"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("chosen", sa.Integer(), nullable=False),
        sa.Column("leaving", sa.String()),
        sa.Column("restored", sa.Integer()),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
    )


def _access() -> None:
    op.create_table(
        "audit",
        sa.Column("sequence", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("verb", sa.String(), nullable=False),
        sa.Column("object", sa.String(), nullable=False),
        sa.Column("before", sa.JSON()),
        sa.Column("after", sa.JSON()),
        sa.Column("reason", sa.String(), nullable=False),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False, unique=True),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("expires", sa.DateTime()),
        sa.Column("revoked", sa.DateTime()),
    )
    op.create_table(
        "sessions",
        sa.Column("sha256", sa.String(), primary_key=True),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("expires", sa.DateTime(), nullable=False),
    )


def _observed() -> None:
    op.create_table(
        "labels",
        sa.Column("deployment", sa.String(), primary_key=True),
        sa.Column("row_id", sa.String(), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("observed_at", sa.DateTime()),
        sa.Column("received_at", sa.DateTime(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
    )
    op.create_index("labels_received", "labels", ["deployment", "received_at"])
    op.create_table(
        "nodes",
        sa.Column("node", sa.String(), primary_key=True),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("plan", sa.String(), nullable=False),
        sa.Column("report", sa.JSON()),
        sa.Column("reported", sa.Float()),
    )
