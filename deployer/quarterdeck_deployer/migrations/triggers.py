"""Rows that nobody may change, on SQLite and PostgreSQL alike: the database itself refuses, whoever asks.

A refused statement raises sqlalchemy.exc.IntegrityError with "<table> are immutable" in its text, on both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from alembic import op

_FUNCTION = """
CREATE OR REPLACE FUNCTION quarterdeck_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% are immutable', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$
"""


def freeze(table: str, *, columns: Sequence[str] = (), when: str = "") -> None:
    """Refuse changes and deletions of a table's rows from now on; inserting stays allowed.

    Args:
        columns: only changes of these are refused (deletions always are); none: changes of any column.
        when: only rows of which this is so, in SQL that both databases understand: ``OLD.state <> 'accepted'``.
    """
    update = f"UPDATE OF {', '.join(columns)}" if columns else "UPDATE"
    for verb, event in (("update", update), ("delete", "DELETE")):
        _trigger(f"{table}_no_{verb}", event, table, when)
    if _on_postgresql():
        # It has one more way to delete, which asks no row.
        op.execute(f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} EXECUTE FUNCTION quarterdeck_refuse()")


def thaw(table: str) -> None:
    """Allow changes and deletions again; where nothing was refused, nothing changes."""
    for verb in ("update", "delete", *(["truncate"] if _on_postgresql() else [])):
        op.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}" + (f" ON {table}" if _on_postgresql() else ""))


@contextmanager
def thawed(table: str) -> Iterator[None]:
    """Inside, the rows of a wholly frozen table can be changed: for a migration that fills a new column, and nobody else."""
    thaw(table)
    yield
    # Not where an error came: the migration's transaction takes everything back, and PostgreSQL would take no more orders.
    freeze(table)


def forget() -> None:
    """Take away what all frozen tables share; for the step that takes the last of them away."""
    if _on_postgresql():
        op.execute("DROP FUNCTION IF EXISTS quarterdeck_refuse()")


def _trigger(name: str, event: str, table: str, when: str) -> None:
    if _on_postgresql():
        condition = f"WHEN ({when}) " if when else ""
        op.execute(_FUNCTION)
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW {condition}EXECUTE FUNCTION quarterdeck_refuse()"
        )
    else:
        condition = f"WHEN {when} " if when else ""
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} {condition}BEGIN SELECT RAISE(ABORT, '{table} are immutable'); END"
        )


def _on_postgresql() -> bool:
    return op.get_context().dialect.name == "postgresql"
