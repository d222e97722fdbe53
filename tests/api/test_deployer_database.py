"""The database: migrations up and down, the schema they leave, what the file itself refuses, and restarts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError

from quarterdeck.errors import Conflict
from quarterdeck_deployer.database import Database, migration_config
from quarterdeck_deployer.models import Base
from tests.deployer_world import world


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A migrated, empty database."""
    found = Database(tmp_path / "deployer.db")
    found.migrate()
    yield found
    found.close()


def test_migrations_leave_exactly_the_schema_of_the_models(database: Database) -> None:
    """Nothing to add, nothing to drop."""
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_migrations_go_down_to_nothing_and_up_again(database: Database) -> None:
    """Downgrade leaves no table of ours; upgrade brings all back; migrating twice changes nothing."""
    config = migration_config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert set(inspect(database.engine).get_table_names()) <= {"alembic_version"}
    database.migrate()
    database.migrate()
    assert set(Base.metadata.tables) <= set(inspect(database.engine).get_table_names())


def test_database_of_a_newer_program_is_refused(database: Database) -> None:
    """An unknown schema number stops the start and touches nothing."""
    with database.writing.begin() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict) as caught:
        database.migrate()
    assert caught.value.code == "database-newer"
    assert "9999" in caught.value.detail


def test_commits_survive_power_loss_and_readers_do_not_wait(database: Database) -> None:
    """WAL, synchronous FULL, foreign keys and a busy timeout on every connection."""
    with database.sessions() as session:
        found = {
            name: session.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


@pytest.mark.parametrize("table", ["revisions", "audit", "versions"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET {}", "DELETE FROM {}"], ids=["update", "delete"])
def test_history_cannot_be_rewritten(tmp_path: Path, table: str, statement: str) -> None:
    """The file itself refuses to change revisions, audit rows and versions."""
    with world(tmp_path) as here:
        here.register(1)
        here.put()
        column = {"revisions": "why = 'x'", "audit": "reason = 'x'", "versions": "digest = 'x'"}[table]
        with pytest.raises(IntegrityError, match="immutable"), here.deployer.writing.begin() as session:
            session.execute(text(statement.format(table, column)))


def test_restart_goes_on_with_the_same_plans(tmp_path: Path) -> None:
    """A new process publishes the same content under the same numbers, and still knows when nodes were last seen."""
    with world(tmp_path) as here:
        here.register(1)
        here.put()
        here.settled()
        plans = (here.main.plan, here.challenger.plan)
        here.until(lambda: _stored_reports(tmp_path) == 2)
    with world(tmp_path) as again:
        assert again.get()["observed"]["running"]["state"] == "unknown"
        assert again.get()["observed"]["running"]["age_seconds"] is not None
        again.step()
        again.until(lambda: again.main.plan)
        assert [plan and plan.sequence for plan in plans] == [again.main.sequence, again.challenger.sequence]
        assert again.settled()["running"]["state"] == "yes"


def test_node_that_is_ahead_gets_a_higher_number(tmp_path: Path) -> None:
    """After a restored backup nodes know higher numbers: plan and revision continue above them."""
    with world(tmp_path) as here:
        here.register(1)
        here.put()
        here.settled()
        assert here.main.plan is not None
        ahead = here.main.plan.model_copy(update={"sequence": 500})
        here.main.plan = ahead
        here.until(lambda: here.main.sequence == 501)


def test_busy_database_is_503_and_changes_nothing(tmp_path: Path) -> None:
    """While another program holds the write lock, actions answer 503 with Retry-After and reads go on."""
    with world(tmp_path) as here:
        here.register(1)
        lock = sqlite3.connect(tmp_path / "deployer.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        answer = here.http.put("/api/deployments/late", json={"main": {"model": "flights", "version": 1}})
        assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "database-busy", "1")
        assert here.http.get("/api/models").status_code == 200
        lock.close()
        assert here.put()["revision"] == 1


def _stored_reports(folder: Path) -> int:
    connection = sqlite3.connect(folder / "deployer.db")
    try:
        return int(connection.execute("SELECT count(*) FROM nodes WHERE report IS NOT NULL AND report != 'null'").fetchone()[0])
    finally:
        connection.close()
