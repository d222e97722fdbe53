"""Schema 0003: what became of each action; answers kept for repeated requests; the audit trail as a chain."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from quarterdeck_deployer.migrations.triggers import freeze, thaw, thawed

revision = "0003"
down_revision = "0002"

# The columns as they are after this step: later ones must not reach back into what this one does.
_DEPLOYMENTS = sa.table("deployments", sa.column("name", sa.String()), sa.column("revision", sa.Integer()))
_REVISIONS = sa.table(
    "revisions",
    sa.column("deployment", sa.String()),
    sa.column("number", sa.Integer()),
    sa.column("kind", sa.String()),
    sa.column("who", sa.String()),
    sa.column("why", sa.String()),
    sa.column("created", sa.DateTime()),
)
_ACTIONS = sa.table(
    "actions",
    sa.column("id", sa.String()),
    sa.column("deployment", sa.String()),
    sa.column("revision", sa.Integer()),
    sa.column("verb", sa.String()),
    sa.column("who", sa.String()),
    sa.column("why", sa.String()),
    sa.column("state", sa.String()),
    sa.column("reason", sa.String()),
    sa.column("created", sa.DateTime()),
    sa.column("ended", sa.DateTime()),
)
_AUDIT = sa.table(
    "audit",
    sa.column("sequence", sa.Integer()),
    sa.column("at", sa.DateTime()),
    sa.column("who", sa.String()),
    sa.column("verb", sa.String()),
    sa.column("object", sa.String()),
    sa.column("before", sa.JSON()),
    sa.column("after", sa.JSON()),
    sa.column("reason", sa.String()),
    sa.column("sha256", sa.String()),
)


def upgrade() -> None:
    """Add the tables, one action for each revision there is, and the seals of the audit trail."""
    op.create_table(
        "actions",
        sa.Column("sequence", sa.Integer(), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("deployment", sa.String(), sa.ForeignKey("deployments.name"), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("verb", sa.String(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
        sa.Column("ended", sa.DateTime()),
    )
    op.create_index("actions_deployment", "actions", ["deployment", "sequence"])
    op.create_index("actions_state", "actions", ["state", "sequence"])
    op.create_table(
        "answers",
        sa.Column("who", sa.String(), primary_key=True),
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("created", sa.DateTime(), nullable=False),
    )
    op.create_index("answers_created", "answers", ["created"])
    op.add_column("audit", sa.Column("sha256", sa.String(), nullable=False, server_default=""))
    _act_for_each_revision()
    _seal_the_trail()
    # An action ends once: what has ended, nobody changes.
    freeze("actions", when="OLD.state <> 'accepted'")


def downgrade() -> None:
    """Take them away; revisions and the trail itself stay."""
    thaw("actions")
    op.drop_table("answers")
    op.drop_table("actions")
    op.drop_column("audit", "sha256")


def _act_for_each_revision() -> None:
    connection, rows = op.get_bind(), _REVISIONS
    deployments = connection.execute(sa.select(_DEPLOYMENTS)).all()
    newest = {row.name: row.revision for row in deployments}
    for row in connection.execute(sa.select(rows).order_by(rows.c.created, rows.c.deployment, rows.c.number)).all():
        # Only the newest is still to be looked at; whether an older one was ever applied can no longer be told.
        over = row.number < newest[row.deployment]
        connection.execute(
            sa.insert(_ACTIONS).values(
                id=f"{row.deployment}-{row.number}",
                deployment=row.deployment,
                revision=row.number,
                verb=row.kind,
                who=row.who,
                why=row.why,
                state="overtaken" if over else "accepted",
                reason=f"Revision {newest[row.deployment]} has taken its place." if over else "",
                created=row.created,
                ended=row.created if over else None,
            )
        )


def _seal_the_trail() -> None:
    connection, trail, previous = op.get_bind(), _AUDIT, ""
    # This once, and in the migration's own transaction: afterwards nobody can change a row again.
    with thawed("audit"):
        for row in connection.execute(sa.select(trail).order_by(trail.c.sequence)).all():
            previous = _seal(previous, row)
            connection.execute(sa.update(trail).where(trail.c.sequence == row.sequence).values(sha256=previous))


def _seal(previous: str, row: Any) -> str:
    # As the program did it when this step was written: rows that it sealed must not depend on what comes later.
    at: datetime = row.at
    moment = at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    content = [row.sequence, moment, row.who, row.verb, row.object, row.before, row.after, row.reason]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()
