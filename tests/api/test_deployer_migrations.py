"""Every step of the schema, down and up again, with data in every table, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Boolean, Column, Connection, Float, Integer, MetaData, Table, inspect, select, text
from sqlalchemy import types as kinds
from sqlalchemy.exc import IntegrityError

from quarterdeck_deployer.database import Database, migration_config
from quarterdeck_deployer.models import Base, Utc
from tests import deployer_world
from tests.deployer_world import World, world

pytestmark = pytest.mark.usefixtures("each_database")

Rows = dict[str, list[dict[str, Any]]]
"""Table → rows, in an order of their own."""
STEPS = [script.revision for script in ScriptDirectory.from_config(migration_config()).walk_revisions()]
"""All schema numbers, newest first."""


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Database]:
    """A database at the newest schema with at least two rows in every table."""
    with world(tmp_path) as here:
        live(here)
    with closing(deployer_world.database(tmp_path)) as database:
        with database.engine.begin() as connection:
            fill(connection)
        yield database


def live(here: World) -> None:
    """Use it, so that the rows that steps work with are real ones."""
    for version in (1, 2, 3):
        here.register(version, description='with "quotes" and ü')
    here.register(1, model="delays", run="", metrics={})
    here.put()
    here.put(main=2, challenger=3)
    here.do("swap", why="better")
    here.put("gone")
    here.ok(here.http.delete("/api/deployments/gone"))
    here.settled()
    for name in ("one", "two"):
        key = here.ok(here.http.post("/api/keys", json={"name": name, "days": 3}))
    here.ok(here.http.delete(f"/api/keys/{key['id']}"))
    here.deployer.logins.open()


def fill(connection: Connection) -> None:
    """Put rows into the tables that have fewer than two, in an order in which what they point at is there."""
    for table in Base.metadata.sorted_tables:
        for number in range(len(connection.execute(table.select()).all()), 2):
            connection.execute(table.insert().values(row(connection, table, number)))


def row(connection: Connection, table: Table, number: int) -> dict[str, Any]:
    """A row that fits its columns; where it points at another table, at the row with that number there."""
    made = {column.name: value(column, number) for column in table.columns}
    for constraint in table.foreign_key_constraints:
        elements = constraint.elements
        there = elements[0].column.table
        found = connection.execute(select(*(element.column for element in elements)).select_from(there)).all()[number]
        made |= dict(zip([column.name for column in constraint.columns], found, strict=True))
    return made


def value(column: Column[Any], number: int) -> Any:
    """Something of the column's type, different for every number."""
    kind = column.type
    if isinstance(kind, kinds.JSON):
        return {"number": number, "text": "ü\"'"}
    if isinstance(kind, Boolean):
        return bool(number % 2)
    if isinstance(kind, Integer | Float):
        return 1_000 + number
    if isinstance(kind, Utc):
        return datetime(2026, 1, 1 + number, 12, 30, 15, 123456, UTC)
    return f"{column.table.name}-{column.name}-{number}"


def contents(connection: Connection) -> Rows:
    """All rows of all tables, as they are at whatever schema it is."""
    found = MetaData()
    found.reflect(connection)
    return {
        name: sorted((dict(one) for one in connection.execute(table.select()).mappings()), key=repr)
        for name, table in found.tables.items()
        if name != "alembic_version"
    }


def only(rows: Rows, like: Rows) -> Rows:
    """What `rows` has in the tables and columns that `like` has too."""
    columns = {name: set(found[0]) for name, found in like.items() if found}
    return {
        name: sorted(({key: one[key] for key in one if key in columns[name]} for one in rows[name]), key=repr)
        for name in rows
        if name in columns
    }


def move(connection: Connection, step: str) -> None:
    """Bring the schema to a number, from wherever it is."""
    config = migration_config()
    config.attributes["connection"] = connection
    current = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    (command.downgrade if current > step else command.upgrade)(config, step)


def test_every_table_has_rows(filled: Database) -> None:
    """Or the tests below would say nothing about the one that has none."""
    with filled.engine.connect() as connection:
        assert {name: len(rows) >= 2 for name, rows in contents(connection).items()} == dict.fromkeys(Base.metadata.tables, True)


def test_a_step_down_and_up_again_keeps_what_the_older_schema_has_room_for(filled: Database) -> None:
    """Down: every row and column that is still there says the same. Up: the same again, and history is immutable still."""
    for newer, older in pairwise(STEPS):
        with filled.engine.begin() as connection:
            before = contents(connection)
            if newer == "0006":
                # The older schema knows no people, and its program takes every session for an admin's.
                before["sessions"] = [one for one in before["sessions"] if one["person"] is None]
            move(connection, older)
            down = contents(connection)
            assert (newer, down) == (newer, only(before, down))
        with filled.engine.begin() as connection:
            move(connection, newer)
            up = contents(connection)
            assert (newer, only(up, down)) == (newer, down)
        for table in ("revisions", "audit", "versions"):
            with pytest.raises(IntegrityError, match="immutable"), filled.engine.begin() as connection:
                connection.execute(text(f"DELETE FROM {table}"))
        with filled.engine.begin() as connection:
            move(connection, older)


def test_all_the_way_down_and_up_the_newest_schema_is_as_it_was(filled: Database) -> None:
    """A fresh database and one that went down and up differ in nothing: tables, columns, indexes, triggers."""
    with filled.engine.begin() as connection:
        before = shape(connection)
        move(connection, STEPS[-1])
        move(connection, STEPS[0])
        assert shape(connection) == before


def shape(connection: Connection) -> dict[str, Any]:
    """What there is, by name; the order of columns is nobody's business."""
    found = inspect(connection)
    triggers = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    if connection.dialect.name == "sqlite":
        triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    return {
        "triggers": sorted(connection.execute(text(triggers)).scalars()),
        **{
            table: (
                sorted((one["name"], str(one["type"]), one["nullable"]) for one in found.get_columns(table)),
                sorted((str(one["name"]), tuple(one["column_names"])) for one in found.get_indexes(table)),
                sorted((tuple(one["constrained_columns"]), one["referred_table"]) for one in found.get_foreign_keys(table)),
                sorted(tuple(one["column_names"]) for one in found.get_unique_constraints(table)),
            )
            for table in found.get_table_names()
        },
    }
