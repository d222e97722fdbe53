"""Schema 0005: Infrastructures, stages, the nodes that joined, and promotions."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add."""
    _infrastructures()
    _stages()
    _promotions()


def downgrade() -> None:
    """Take away."""
    for table in ("test_queries", "promotions", "stages"):
        op.drop_table(table)
    for column in reversed(_nodes()):
        op.drop_column("nodes", column.name)
    for table in ("node_usage", "join_tokens", "infrastructures"):
        op.drop_table(table)


def _infrastructures() -> None:
    op.create_table(
        "infrastructures",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("store", sa.String(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "join_tokens",
        sa.Column("sha256", sa.String(), primary_key=True),
        sa.Column("infrastructure", sa.String(), sa.ForeignKey("infrastructures.name"), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("expires", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "node_usage",
        sa.Column("node", sa.String(), primary_key=True),
        sa.Column("at", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("infrastructure", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("rss_bytes", sa.BigInteger(), nullable=False),
        sa.Column("cpu_cores", sa.Float()),
    )
    op.create_index("node_usage_at", "node_usage", ["at"])
    for column in _nodes():
        op.add_column("nodes", column)


def _nodes() -> list[sa.Column[Any]]:
    return [
        sa.Column("infrastructure", sa.String(), nullable=False, server_default="local"),
        sa.Column("role", sa.String(), nullable=False, server_default=""),
        sa.Column("url", sa.String(), nullable=False, server_default=""),
        sa.Column("token_sha256", sa.String()),
        sa.Column("joined", sa.DateTime()),
        sa.Column("revoked", sa.DateTime()),
    ]


def _stages() -> None:
    op.create_table(
        "stages",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("infrastructure", sa.String(), sa.ForeignKey("infrastructures.name"), nullable=False),
        sa.Column("gates", sa.JSON(), nullable=False),
        sa.Column("approval", sa.Boolean(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "test_queries",
        sa.Column("deployment", sa.String(), sa.ForeignKey("deployments.name"), primary_key=True),
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("rows", sa.JSON(), nullable=False),
        sa.Column("expect", sa.JSON(), nullable=False),
        sa.Column("tolerance", sa.Float(), nullable=False),
        sa.Column("seeded", sa.Boolean(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("changed", sa.DateTime(), nullable=False),
    )


def _promotions() -> None:
    op.create_table(
        "promotions",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("source", sa.String(), sa.ForeignKey("deployments.name"), nullable=False),
        sa.Column("source_revision", sa.Integer(), nullable=False),
        sa.Column("source_stage", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("target_stage", sa.String(), nullable=False),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("project", sa.String(), nullable=False),
        sa.Column("main", sa.JSON(), nullable=False),
        sa.Column("gates", sa.JSON(), nullable=False),
        sa.Column("copied", sa.JSON()),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("revision", sa.Integer()),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("ended", sa.DateTime()),
        sa.Column("decided_by", sa.String(), nullable=False),
        sa.Column("decided_why", sa.String(), nullable=False),
        sa.Column("decided", sa.DateTime()),
    )
    op.create_index("promotions_state", "promotions", ["state"])
    op.create_index("promotions_target", "promotions", ["target"])
