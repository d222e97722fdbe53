"""The SQLite database: one file in WAL mode, migrated at start, with two ways in (reading and writing)."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.orm import Session, sessionmaker

from quarterdeck.errors import Conflict

_MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_MILLISECONDS = 5_000


class Database:
    """Sessions on one SQLite file.

    `sessions` is for reading; `writing` takes the write lock at once, so that what a transaction has read cannot change
    before it commits, and two writers queue instead of failing half way.
    """

    def __init__(self, path: Path) -> None:
        self.engine = _engine(path)
        self.sessions: sessionmaker[Session] = sessionmaker(self.engine, expire_on_commit=False)
        self.writing: sessionmaker[Session] = sessionmaker(
            self.engine.execution_options(quarterdeck_write=True), expire_on_commit=False
        )

    def migrate(self) -> None:
        """Bring the schema to this program's number.

        Raises:
            Conflict: ``database-newer`` where a newer program has migrated it already.
        """
        config = migration_config()
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        with self.engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in known:
            raise Conflict(
                f"The database has schema {current}, which this program does not know.",
                code="database-newer",
                kind="database",
                name="deployer.db",
                hint="Start the newer program that wrote it, or restore a backup made before the upgrade.",
            )
        with self.engine.begin() as connection:
            config.attributes["connection"] = connection
            # One transaction for all steps: a start that dies half way leaves the old schema, not a mixture.
            command.upgrade(config, "head")

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()


def migration_config() -> Config:
    """Alembic's configuration for the packaged migrations; the caller adds the connection to its attributes."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def utc_now() -> datetime:
    """The present, in UTC, aware."""
    return datetime.now(UTC)


def _engine(path: Path) -> Engine:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Enough connections for the requests that are busy with the database at once; the others wait a little for theirs.
    # Errors reach the log with their statement, never with the values: those hold labels, reasons and digests.
    engine = create_engine(f"sqlite:///{path}", pool_size=16, pool_timeout=10, hide_parameters=True)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, _: Any) -> None:
    # The driver's own transaction control begins late and skips DDL; ours begins where SQLAlchemy says so.
    connection.isolation_level = None
    cursor = connection.cursor()
    # Writers queue for so long; then the caller gets a 503 and nothing has been changed.
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")
    # Readers (the console, the loop) never wait for a writer.
    cursor.execute("PRAGMA journal_mode=WAL")
    # FULL: a commit that was acknowledged survives power loss, not only the death of the process.
    cursor.execute("PRAGMA synchronous=FULL")
    # SQLite ignores foreign keys unless every connection asks for them.
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later could find its snapshot outdated and fail.
    write = connection.get_execution_options().get("quarterdeck_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
