"""Schema 0006: projects, people, and what keys may do and did."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_REVISIONS = sa.table("revisions", sa.column("content", sa.JSON()))
_SESSIONS = sa.table(
    "sessions", sa.column("person", sa.String()), sa.column("created", sa.DateTime()), sa.column("seen", sa.DateTime())
)
_KEYS = sa.table("keys", sa.column("project", sa.String()))


def upgrade() -> None:
    """Add projects, people and their sessions; every project that anything is in becomes one by name."""
    projects = op.create_table(
        "projects",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "people",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False, unique=True),
        sa.Column("subject", sa.String(), unique=True),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("seen", sa.DateTime()),
    )
    op.create_table(
        "memberships",
        sa.Column("person", sa.String(), sa.ForeignKey("people.id"), primary_key=True),
        sa.Column("project", sa.String(), sa.ForeignKey("projects.name"), primary_key=True),
    )
    op.add_column("keys", sa.Column("rate", sa.Double()))
    op.add_column("keys", sa.Column("burst", sa.Integer()))
    op.add_column("keys", sa.Column("last_used", sa.DateTime()))
    op.add_column("keys", sa.Column("replaces", sa.String()))
    with op.batch_alter_table("sessions") as batch:
        batch.add_column(sa.Column("person", sa.String()))
        batch.add_column(sa.Column("seen", sa.DateTime()))
    op.execute(sa.update(_SESSIONS).values(seen=_SESSIONS.c.created))
    with op.batch_alter_table("sessions") as batch:
        batch.alter_column("seen", existing_type=sa.DateTime(), nullable=False)
        batch.create_foreign_key("sessions_person", "people", ["person"], ["id"])
    now = datetime.now(UTC).replace(tzinfo=None)
    op.bulk_insert(projects, [{"name": name, "description": "", "created": now} for name in _named()])


def downgrade() -> None:
    """Take people and projects away; deployments and keys still say which project they are of."""
    # The older program takes every session for an admin's: nobody's may become one.
    op.execute(sa.delete(_SESSIONS).where(_SESSIONS.c.person.is_not(None)))
    with op.batch_alter_table("sessions") as batch:
        batch.drop_constraint("sessions_person", type_="foreignkey")
        batch.drop_column("seen")
        batch.drop_column("person")
    for name in ("replaces", "last_used", "burst", "rate"):
        op.drop_column("keys", name)
    for table in ("memberships", "people", "projects"):
        op.drop_table(table)


def _named() -> list[str]:
    """The projects that deployments and keys name already."""
    connection = op.get_bind()
    found = {"default", *connection.execute(sa.select(_KEYS.c.project)).scalars()} - {"*"}
    # Read row by row in Python: how to look into JSON is another matter in every database.
    for content in connection.execute(sa.select(_REVISIONS.c.content)).scalars():
        found.add(content.get("project", "default"))
    return sorted(found)
