"""The database, on SQLite and PostgreSQL: the schema, what it refuses, what its two ways in promise, and restarts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, event, func, inspect, make_url, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from quarterdeck.errors import Conflict
from quarterdeck_deployer import database as database_module
from quarterdeck_deployer.database import Database, migration_config
from quarterdeck_deployer.models import Base, Model, NodeState
from tests import deployer_world
from tests.deployer_world import world
from tests.support import eventually

pytestmark = pytest.mark.usefixtures("each_database")


@pytest.fixture
def database(tmp_path: Path, each_database: str) -> Iterator[Database]:
    """A migrated, empty database."""
    with closing(deployer_world.database(tmp_path)) as found:
        found.migrate()
        yield found


def add(name: str) -> Model:
    """A model by this name."""
    return Model(name=name, created=database_module.utc_now())


def test_migrations_leave_exactly_the_schema_of_the_models(database: Database) -> None:
    """Nothing to add, nothing to drop."""
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_migrations_go_down_to_nothing_and_up_again(database: Database, each_database: str) -> None:
    """Downgrade leaves no table and no function of ours; upgrade brings all back; migrating twice changes nothing."""
    config = migration_config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        if each_database == "postgresql":
            assert connection.execute(text("SELECT count(*) FROM pg_proc WHERE proname LIKE 'quarterdeck%'")).scalar() == 0
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


def test_of_several_programs_that_start_at_once_one_migrates(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Every table is created once; the others wait for it, and find everything done."""
    on_postgresql = request.getfixturevalue("each_database") == "postgresql"
    empty = make_url(request.getfixturevalue("postgres").database()) if on_postgresql else tmp_path / "empty.db"
    created: list[str] = []
    failures: list[BaseException] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.strip().startswith("CREATE TABLE models"):
            created.append(statement)

    def start() -> None:
        try:
            with closing(Database(empty)) as found:
                found.migrate()
        except BaseException as error:
            failures.append(error)

    Database(empty).close()
    threads = [threading.Thread(target=start) for _ in range(4)]
    event.listen(Engine, "before_cursor_execute", note)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert (failures, len(created)) == ([], 1)


def test_commits_survive_power_loss_and_nobody_waits_for_ever(database: Database, each_database: str) -> None:
    """What every connection is told before its first use."""
    expected: dict[str, Any] = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}
    word = "PRAGMA"
    if each_database == "postgresql":
        word, expected = "SHOW", {
            "synchronous_commit": "on", "lock_timeout": "5s", "statement_timeout": "30s",
            "idle_in_transaction_session_timeout": "1min", "client_encoding": "UTF8",
        }  # fmt: skip
    for sessions in (database.sessions, database.writing):
        with sessions() as session:
            assert {name: session.execute(text(f"{word} {name}")).scalar() for name in expected} == expected


def test_history_cannot_be_rewritten(tmp_path: Path, each_database: str) -> None:
    """The database itself refuses to change revisions, audit rows and versions; SQLite knows no third way to do that."""
    statements = ["UPDATE {} SET {} = 'x'", "DELETE FROM {}", "TRUNCATE {} CASCADE"][: 2 if each_database == "sqlite" else 3]
    with world(tmp_path) as here:
        here.register(1)
        here.put()
        before = here.get(), here.http.get("/api/audit").json()
        for table, column in {"revisions": "why", "audit": "reason", "versions": "digest"}.items():
            for statement in statements:
                with pytest.raises(IntegrityError, match="immutable"), here.deployer.writing.begin() as session:
                    session.execute(text(statement.format(table, column)))
        assert (here.get()["wish"], here.http.get("/api/audit").json()) == (before[0]["wish"], before[1])


def test_what_a_writing_transaction_has_read_does_not_change_before_it_commits(database: Database) -> None:
    """The second writer waits for the first from its very beginning, and then reads what the first has written."""
    order: list[str] = []
    begun = threading.Event()

    def second() -> None:
        begun.set()
        with database.writing.begin() as session:
            order.append(f"second reads {session.scalar(select(func.count()).select_from(Model))}")
            session.add(add("two"))

    with database.writing.begin() as session:
        assert session.scalar(select(func.count()).select_from(Model)) == 0
        thread = threading.Thread(target=second)
        thread.start()
        begun.wait(60)
        eventually(lambda: _waiting(database))
        session.add(add("one"))
        session.flush()
        assert session.scalar(select(func.count()).select_from(Model)) == 1
        order.append("first commits")
    thread.join(60)
    assert order == ["first commits", "second reads 1"]


def _waiting(database: Database) -> bool:
    """Whether somebody waits for the write lock, as far as can be told: SQLite does not say, and its waiter just polls."""
    if database.engine.dialect.name == "sqlite":
        return True
    mine = "(SELECT oid FROM pg_database WHERE datname = current_database())"
    query = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = {mine}"
    with database.engine.connect() as connection:
        return bool(connection.execute(text(query)).scalar_one())


def test_reader_sees_one_moment_and_waits_for_nobody(database: Database) -> None:
    """Two questions of one reading transaction agree, although a writer commits in between, or holds the lock."""
    with database.sessions() as reading:
        assert list(reading.scalars(select(Model.name))) == []
        with database.writing.begin() as session:
            session.add(add("one"))
        with database.writing.begin():
            assert list(reading.scalars(select(Model.name))) == []
    with database.sessions() as reading:
        assert list(reading.scalars(select(Model.name))) == ["one"]


def test_of_an_unfinished_transaction_nothing_is_kept(database: Database) -> None:
    """An exception takes back what was written before it, and the lock with it."""

    def broken() -> None:
        with database.writing.begin() as session:
            session.add(add("one"))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    with database.writing.begin() as session:
        assert session.get(Model, "one") is None


def test_restart_goes_on_with_the_same_plans(tmp_path: Path) -> None:
    """A new process publishes the same content under the same numbers, and still knows when nodes were last seen."""
    with world(tmp_path) as here:
        here.register(1)
        here.put()
        here.settled()
        plans = (here.main.plan, here.challenger.plan)
        here.until(lambda: _stored_reports(here.deployer.database) == 2)
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


def test_busy_database_is_503_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program holds the write lock, actions answer 503 with Retry-After and reads go on."""
    monkeypatch.setattr(database_module, "_WRITER_SECONDS", 1.0)
    with world(tmp_path) as here, closing(deployer_world.database(tmp_path)) as other:
        here.register(1)
        with other.writing() as lock:
            lock.execute(select(Model))
            answer = here.http.put("/api/deployments/late", json={"main": {"model": "flights", "version": 1}})
            assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "database-busy", "1")
            assert here.http.get("/api/models").status_code == 200
            with pytest.raises(OperationalError), other.writing() as third:
                third.execute(select(Model))
        assert here.put()["revision"] == 1


def _stored_reports(database: Database) -> int:
    with database.sessions() as session:
        return len([one for one in session.scalars(select(NodeState)) if one.report is not None])
